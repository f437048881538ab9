"""One watched request: one flow of states from fal, and the mailboxes of those who follow it.

It knows fal's client and its values, and nothing of gRPC.
"""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from falrpc_server.fal_http.client import FalClient
from falrpc_server.fal_http.error_bodies import FalError
from falrpc_server.fal_http.models import QueueState, QueueStatus, RequestOutcome, RequestRef, Scope
from falrpc_server.fal_http.queue_watch import LogDeltas, Pace, StatusFlow
from falrpc_server.watchers.mailbox import Mailbox

__all__ = ["Watcher"]


class Watcher:
    """Follows one request for as long as anybody wants to know.

    Attributes:
        is_over: Whether it takes no new callers: the request is completed, or can't be read.
    """

    def __init__(
        self,
        fal: FalClient,
        ref: RequestRef,
        scope: Scope,
        pace: Pace,
        turn: Callable[[], Awaitable[None]],
        spawn: Callable[..., "asyncio.Task[None]"],
    ) -> None:
        self._fal = fal
        self._ref = ref
        self._scope = scope
        self._pace = pace
        self._turn = turn
        self._spawn = spawn
        self._mailboxes: set[Mailbox] = set()
        self._deltas = LogDeltas()
        self._latest: QueueStatus | None = None
        self._reads_logs = False
        self._wants_outcome = False
        self._task: asyncio.Task[None] | None = None
        self.is_over = False

    @property
    def is_idle(self) -> bool:
        """Whether nobody follows."""
        return not self._mailboxes

    def join(self, *, logs: bool, outcome: bool) -> Mailbox:
        """Begins to follow: the current state comes at once, and the log entries so far if they are wanted.

        Args:
            logs: Whether log entries are wanted.
            outcome: Whether the COMPLETED state should say how the request ended.
        """
        mailbox = Mailbox(logs=logs)
        self._mailboxes.add(mailbox)
        self._wants_outcome = self._wants_outcome or outcome
        if self._latest:
            mailbox.put_status(self._latest)
            mailbox.put_logs(self._deltas.seen())
        if self._task is None or (logs and not self._reads_logs):
            if self._task:  # it reads without log entries
                self._task.cancel()
            self._reads_logs = logs
            self._task = self._spawn(self._follow(logs), f"watch {self._ref.request_id}")
        return mailbox

    def leave(self, mailbox: Mailbox) -> None:
        """Ends following; the flow ends with the last one who does."""
        self._mailboxes.discard(mailbox)
        if self._task and not self._mailboxes:
            self._task.cancel()

    async def _follow(self, logs: bool) -> None:
        error: Exception | None = None
        flow = StatusFlow(self._fal, self._ref, self._scope, self._pace, self._turn, logs=logs)
        try:
            async with aclosing(flow.states()) as states:
                async for status in states:
                    if status.state is QueueState.COMPLETED:
                        self.is_over = True
                        status = await self._completed(status, logs)
                    self._publish(status)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task and task.cancelling():
                raise  # the last caller has left
            error = RuntimeError("the flow was cancelled from elsewhere")
        except Exception as failed:  # the callers raise it: there is nobody else to tell
            error = failed
        self.is_over = True
        for mailbox in self._mailboxes:
            mailbox.close(error)

    async def _completed(self, status: QueueStatus, logs: bool) -> QueueStatus:
        """Adds what is known only now: late log entries (§7.3), and the outcome if it is wanted."""
        if logs:
            await self._turn()
            try:
                window = await self._fal.status(self._ref, self._scope, logs=True)
            except FalError:
                pass
            else:
                status = dataclasses.replace(status, logs=(*status.logs, *window.logs))
        if self._wants_outcome and status.outcome is RequestOutcome.UNKNOWN:
            scope = Scope(noticed=self._scope.noticed)
            status = dataclasses.replace(status, outcome=await self._fal.outcome(self._ref, scope))
        return status

    def _publish(self, status: QueueStatus) -> None:
        """Puts what is new into all mailboxes; log entries come before the COMPLETED state."""
        new = self._deltas.new(status.logs)
        status = dataclasses.replace(status, logs=())
        is_news, self._latest = status != self._latest, status
        is_last = status.state is QueueState.COMPLETED
        for mailbox in self._mailboxes:
            if is_last:
                mailbox.put_logs(new)
            if is_news:
                mailbox.put_status(status)
            if not is_last:
                mailbox.put_logs(new)

"""One watched request: one flow of states from fal, and the mailboxes of those who follow it.

It knows fal's client and its values, and nothing of gRPC.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable
from contextlib import aclosing

from falrpc_server.fal_http.client import FalClient
from falrpc_server.fal_http.error_bodies import FalError
from falrpc_server.fal_http.models import (
    LogLines,
    QueueState,
    QueueStatus,
    RequestOutcome,
    RequestRef,
    Scope,
)
from falrpc_server.fal_http.queue_watch import LogDeltas, Shared, StatusFlow
from falrpc_server.fal_http.retry import is_passing
from falrpc_server.watchers.mailbox import Mailbox

__all__ = ["Watcher"]

LATE_LOGS_SECONDS = (0.1, 0.3, 1.0)  # the pauses before the log is looked at again
LATE_LOGS_SECONDS_MAX = 5.0  # all of it, turns included: the request's end waits to be told
QUIET_LOOKS = 2  # in a row: then the log is taken for whole


class Watcher:
    """Follows one request for as long as anybody wants to know.

    Attributes:
        is_over: Whether it takes no new callers: they have been told the end, or that it can't be read.
    """

    def __init__(
        self,
        fal: FalClient,
        ref: RequestRef,
        scope: Scope,
        shared: Shared,
        spawn: Callable[..., "asyncio.Task[None]"],
    ) -> None:
        self._fal = fal
        self._ref = ref
        self._scope = scope
        self._shared = shared
        self._spawn = spawn
        self._mailboxes: set[Mailbox] = set()
        self._deltas = LogDeltas()
        self._latest: QueueStatus | None = None
        self._end: QueueStatus | None = None
        self._reads_logs = False
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
        mailbox = Mailbox(logs=logs, outcome=outcome)
        self._mailboxes.add(mailbox)
        if self._latest:
            mailbox.put_status(self._latest)
        mailbox.put_logs(self._deltas.seen(), self._deltas.forgotten)
        if self._end:
            self._tell_those_who_want_no_more(self._end)
        elif self._task is None or (logs and not self._reads_logs):
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
        flow = StatusFlow(self._fal, self._ref, self._scope, self._shared, logs=logs)
        try:
            async with aclosing(flow.states()) as states:
                async for status in states:
                    if status.state is not QueueState.COMPLETED:
                        self._publish(status)
            await self._complete(status)
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

    async def _complete(self, status: QueueStatus) -> None:
        """Tells the end: to those who want no more at once, to the others after late log entries (§7.3) and
        the outcome.

        Who joins meanwhile is told like the others.
        """
        self._end = dataclasses.replace(status, logs=())
        self._publish_logs(status.logs)
        self._tell_those_who_want_no_more(self._end)
        has_read_logs = has_read_outcome = False
        while waiting := [mailbox for mailbox in self._mailboxes if not mailbox.is_closed]:
            if not has_read_logs and any(mailbox.wants_logs for mailbox in waiting):
                await self._read_late_logs()
                has_read_logs = True
            elif (
                not has_read_outcome
                and self._end.outcome is RequestOutcome.UNKNOWN
                and any(mailbox.wants_outcome for mailbox in waiting)
            ):
                scope = Scope(self._scope.account, noticed=self._scope.noticed)
                outcome = await self._fal.outcome(self._ref, scope)
                self._end = dataclasses.replace(self._end, outcome=outcome)
                has_read_outcome = True
            else:
                break
        self.is_over = True
        for mailbox in waiting:
            mailbox.put_status(self._end)

    def _tell_those_who_want_no_more(self, end: QueueStatus) -> None:
        """Tells the end to those who want neither log entries nor the outcome."""
        for mailbox in self._mailboxes:
            if not (mailbox.is_closed or mailbox.wants_logs or mailbox.wants_outcome):
                mailbox.put_status(end)
                mailbox.close()

    async def _read_late_logs(self) -> None:
        """Looks at the log again until nothing new comes, or until that has taken too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LATE_LOGS_SECONDS_MAX):
                quiet_looks = 0
                for pause in LATE_LOGS_SECONDS:
                    await asyncio.sleep(pause)
                    await self._shared.turn()
                    try:
                        window = await self._fal.status(self._ref, self._scope, logs=True)
                    except FalError as error:
                        if error.retry_after_seconds or not is_passing(error):
                            return
                        continue
                    quiet_looks = 0 if self._publish_logs(window.logs) else quiet_looks + 1
                    if quiet_looks == QUIET_LOOKS:
                        return

    def _publish(self, status: QueueStatus) -> None:
        """Puts what is new into all mailboxes: the state, then its log entries."""
        state = dataclasses.replace(status, logs=())
        if state != self._latest:
            self._latest = state
            for mailbox in self._mailboxes:
                mailbox.put_status(state)
        self._publish_logs(status.logs)

    def _publish_logs(self, entries: LogLines) -> bool:
        """Puts new log entries into all mailboxes. Returns whether there are any."""
        new = self._deltas.new(entries)
        for mailbox in self._mailboxes:
            mailbox.put_logs(new)
        return bool(new)

"""The watched requests of this process.

Any number of callers on one request share one flow, and all flows share one budget of calls to fal. It
knows fal's client and its values, and nothing of gRPC.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from falrpc_server.background import BackgroundTasks
from falrpc_server.fal_http.accounts import Account
from falrpc_server.fal_http.client import UNKNOWN_STATE, FalClient
from falrpc_server.fal_http.error_bodies import FalError
from falrpc_server.fal_http.models import LogBatch, QueueStatus, RequestRef, Scope
from falrpc_server.fal_http.queue_watch import Pace, Shared, StatusStreams
from falrpc_server.watchers.turns import Turns
from falrpc_server.watchers.watcher import Watcher

__all__ = ["Watchers"]


class Watchers:
    """One watcher for each request that anybody follows."""

    def __init__(
        self,
        fal: FalClient,
        background: BackgroundTasks,
        pace: Pace,
        calls_per_second: float,
        noticed: Callable[[str, str], None],
    ) -> None:
        """Makes at most so many status calls a second, in the order in which they are wanted."""
        self._fal = fal
        self._background = background
        self._noticed = noticed
        streams = StatusStreams(pace.stream_again_seconds)
        self._shared = Shared(pace, Turns(calls_per_second).take, streams)
        self._watchers: dict[tuple[str, str, str], Watcher] = {}

    def __len__(self) -> int:
        return len(self._watchers)

    async def watch(
        self, ref: RequestRef, account: Account, *, logs: bool, outcome: bool = False
    ) -> AsyncGenerator[QueueStatus | LogBatch]:
        """Yields the state at once (of a completed request: after its log) and at each change, and log
        entries as they appear, each once.

        The COMPLETED state is the last thing yielded; with `outcome` it says how the request ended, where
        that can be read. Raises FalError when the request can't be read: each caller its own. Those who read
        it for the same account share one flow.
        """
        key = (account.id, ref.endpoint.queue_base, ref.request_id)
        watcher = self._watchers.get(key)
        if watcher is None or watcher.is_over:
            scope = Scope(account, noticed=_once(self._noticed), repeats=False)  # it looks again anyway
            watcher = Watcher(self._fal, ref, scope, self._shared, self._background.spawn)
            self._watchers[key] = watcher
        mailbox = watcher.join(logs=logs, outcome=outcome)
        try:
            async with aclosing(mailbox.items()) as items:
                async for item in items:
                    yield item
            if mailbox.error:
                raise _own(mailbox.error, ref) from mailbox.error
        finally:
            watcher.leave(mailbox)
            if watcher.is_idle and self._watchers.get(key) is watcher:
                del self._watchers[key]


def _own(error: Exception, ref: RequestRef) -> Exception:
    """One caller's copy of what all callers failed with, about the endpoint that this caller named."""
    if not isinstance(error, FalError):  # a bug of ours: the cause says which
        return RuntimeError("following a request failed")
    own = FalError.__new__(FalError, *error.args)
    vars(own).update(vars(error), endpoint_id=ref.endpoint.full)
    return own


def _once(noticed: Callable[[str, str], None]) -> Callable[[str, str], None]:
    """Tells an unknown state once, not at each look."""
    latest = ""

    def told(what: str, value: str) -> None:
        nonlocal latest
        if what != UNKNOWN_STATE or value != latest:
            noticed(what, value)
        if what == UNKNOWN_STATE:
            latest = value

    return told

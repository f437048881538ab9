"""The watched requests of this process.

Any number of callers on one request share one flow, and all flows share one budget of calls to fal. It
knows fal's client and its values, and nothing of gRPC.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from aiolimiter import AsyncLimiter

from falrpc_server.background import BackgroundTasks
from falrpc_server.fal_http.client import FalClient
from falrpc_server.fal_http.models import LogBatch, QueueStatus, RequestRef, Scope
from falrpc_server.fal_http.queue_watch import Pace
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
        self._pace = pace
        self._noticed = noticed
        self._calls = AsyncLimiter(1, 1 / calls_per_second)
        self._watchers: dict[tuple[str, str], Watcher] = {}

    def __len__(self) -> int:
        return len(self._watchers)

    async def watch(
        self, ref: RequestRef, *, logs: bool, outcome: bool = False
    ) -> AsyncGenerator[QueueStatus | LogBatch]:
        """Yields the state at once and at each change, and log entries as they appear, each once.

        The COMPLETED state is the last thing yielded; with `outcome` it says how the request ended, where
        that can be read. Raises FalError when the request can't be read.
        """
        key = (ref.endpoint.queue_base, ref.request_id)
        watcher = self._watchers.get(key)
        if watcher is None or watcher.is_over:
            scope = Scope(noticed=self._noticed, repeats=False)  # it looks again anyway
            watcher = Watcher(self._fal, ref, scope, self._pace, self._calls.acquire, self._background.spawn)
            self._watchers[key] = watcher
        mailbox = watcher.join(logs=logs, outcome=outcome)
        try:
            async with aclosing(mailbox.items()) as items:
                async for item in items:
                    yield item
        finally:
            watcher.leave(mailbox)
            if watcher.is_idle and self._watchers.get(key) is watcher:
                del self._watchers[key]

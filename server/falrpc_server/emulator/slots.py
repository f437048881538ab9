"""How many requests may run at once (§7.1, §12.1): as many as scenarios allow."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator

from falrpc_server.emulator.scenarios_in_place import Scenarios

__all__ = ["Slots"]


class Slots:
    """The runs of models, counted by endpoint."""

    def __init__(self, scenarios: Scenarios) -> None:
        self._scenarios = scenarios
        self._running: Counter[str] = Counter()
        self._changed = asyncio.Event()

    def is_full(self, endpoint: str) -> bool:
        """Whether a run of this endpoint would be one too many."""
        return any(
            (self._running[limit.endpoint] if limit.endpoint else self._running.total()) >= limit.limit
            for limit in self._scenarios.concurrency_limits(endpoint)
        )

    async def free(self, endpoint: str) -> None:
        """Waits until a run of this endpoint may begin."""
        while self.is_full(endpoint):
            await self._changed.wait()

    @contextlib.contextmanager
    def taken(self, endpoint: str) -> Iterator[None]:
        """Counts a run, from now to its end."""
        self._running[endpoint] += 1
        try:
            yield
        finally:
            self._running[endpoint] -= 1
            self.look_again()

    def look_again(self) -> None:
        """Lets those who wait find out whether they still must."""
        self._changed.set()
        self._changed = asyncio.Event()

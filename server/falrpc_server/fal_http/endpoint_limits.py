"""How many paid requests may be in flight for an endpoint or a family of them. One event loop's affair."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

from falrpc_server.fal_http.endpoint_patterns import matching

__all__ = ["EndpointLimits", "LimitReached"]


class LimitReached(Exception):
    """No place became free in time; the text names the pattern."""


class EndpointLimits:
    """Places for requests, by endpoint pattern (endpoint_patterns.py).

    The longest pattern that fits decides; all endpoints under it share its places.
    """

    def __init__(self, limits: Mapping[str, int], wait_seconds: float) -> None:
        """Gives each pattern its number of places; who finds none waits `wait_seconds` at the most."""
        self._places = {pattern: asyncio.Semaphore(limit) for pattern, limit in limits.items()}
        self._wait_seconds = wait_seconds

    @contextlib.asynccontextmanager
    async def place(self, endpoint_id: str) -> AsyncIterator[None]:
        """Holds a place. Raises LimitReached."""
        pattern = matching(endpoint_id, self._places)
        if pattern is None:
            yield
            return
        places = self._places[pattern]
        try:
            async with asyncio.timeout(self._wait_seconds):
                await places.acquire()
        except TimeoutError:
            raise LimitReached(pattern) from None
        try:
            yield
        finally:
            places.release()

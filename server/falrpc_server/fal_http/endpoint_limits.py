"""How many paid requests may be in flight for an endpoint or a family of them. One event loop's affair."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

__all__ = ["EndpointLimits", "LimitReached", "matching"]


class LimitReached(Exception):
    """No place became free in time; the text names the pattern."""


class EndpointLimits:
    """Places for requests, by endpoint pattern.

    A pattern is the beginning of an endpoint id in whole parts: `fal-ai/flux` is for itself and for
    `fal-ai/flux/dev`, not for `fal-ai/flux-pro`. The longest one that fits decides; all endpoints under it
    share its places.
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


def matching(endpoint_id: str, patterns: Mapping[str, object]) -> str | None:
    """The longest pattern that an endpoint falls under."""
    parts = endpoint_id.split("/")
    for length in range(len(parts), 0, -1):
        if (pattern := "/".join(parts[:length])) in patterns:
            return pattern
    return None

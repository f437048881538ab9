"""Turns: so many a second, one at a time."""

import asyncio

__all__ = ["Turns"]


class Turns:
    """Lets tasks through evenly spaced, in the order in which they came.

    Who gives up while waiting leaves its turn to the next one.
    """

    def __init__(self, per_second: float) -> None:
        self._interval_seconds = 1 / per_second
        self._line = asyncio.Lock()  # first come, first served
        self._next_at = 0.0

    async def take(self) -> None:
        """Waits for the next turn."""
        clock = asyncio.get_running_loop().time
        async with self._line:
            if (wait_seconds := self._next_at - clock()) > 0:
                await asyncio.sleep(wait_seconds)
            # A turn that was taken late leaves the next one its time.
            self._next_at = max(self._next_at, clock() - self._interval_seconds) + self._interval_seconds

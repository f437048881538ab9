"""Time as the emulator counts it: faster or slower than real, and moved forward by hand."""

import asyncio
import time

__all__ = ["Clock"]


class Clock:
    """Emulated seconds. `speed` of them pass in a real second."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._started = time.monotonic()
        self._skipped = 0.0
        self._sleepers: dict[asyncio.Future[None], tuple[float, asyncio.TimerHandle]] = {}

    def now(self) -> float:
        """Emulated seconds since the start."""
        return (time.monotonic() - self._started) * self.speed + self._skipped

    def real(self, seconds: float) -> float:
        """How many real seconds so many emulated ones take."""
        return seconds / self.speed

    async def sleep(self, seconds: float) -> None:
        """Waits until so many emulated seconds have passed."""
        loop = asyncio.get_running_loop()
        sleeper: asyncio.Future[None] = loop.create_future()
        self._sleepers[sleeper] = (self.now() + seconds, loop.call_later(self.real(seconds), _wake, sleeper))
        try:
            await sleeper
        finally:
            _, timer = self._sleepers.pop(sleeper)
            timer.cancel()

    def advance(self, seconds: float) -> None:
        """Moves time forward at once: whoever sleeps wakes as much earlier."""
        self._skipped += seconds
        loop, now = asyncio.get_running_loop(), self.now()
        for sleeper, (due, timer) in self._sleepers.items():
            timer.cancel()
            # A negative delay keeps those who are overdue in order.
            again = loop.call_later(self.real(due - now), _wake, sleeper)
            self._sleepers[sleeper] = (due, again)


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)

"""Messages that keep a silent stream alive: proxies ignore HTTP/2 pings."""

import asyncio
from collections.abc import Awaitable, Callable

__all__ = ["Heartbeats"]


class Heartbeats:
    """Sends a heartbeat whenever a stream was silent for so long.

    A timer, and a task only while one is sent: streams are many.
    """

    def __init__(self, seconds: float, send: Callable[[], Awaitable[None]]) -> None:
        """Awaits `send` after `seconds` of silence. What it raises is no news: the call has gone."""
        self._seconds = seconds
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._sent_at = self._loop.time()
        self._timer = self._loop.call_later(seconds, self._due)
        self._task: asyncio.Task[None] | None = None

    def sent(self) -> None:
        """Notes that a message was sent."""
        self._sent_at = self._loop.time()

    async def stop(self) -> None:
        """Sends no more."""
        self._timer.cancel()
        if self._task:
            self._task.cancel()
            await asyncio.wait({self._task})  # not awaited itself: that would hide our own cancel

    def _due(self) -> None:
        now = self._loop.time()
        due = self._sent_at + self._seconds
        if now >= due:
            if self._task is None:  # else the last one is still on its way
                self._task = asyncio.create_task(self._beat())
            due = now + self._seconds
        self._timer = self._loop.call_at(due, self._due)

    async def _beat(self) -> None:
        try:
            await self._send()
        except Exception:  # the stream's own end says why
            return
        self._task = None

"""Bytes that may be held at once, shared by all who hold some."""

import asyncio
from collections import deque

__all__ = ["ByteBudget"]


class ByteBudget:
    """So many bytes; who finds too few free waits, first come, first served."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._free = bytes_max
        self._line: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def free_bytes(self) -> int:
        """How many nobody holds."""
        return self._free

    async def take(self, count: int) -> None:
        """Waits for so many bytes, at most as many as there are. Who is cancelled has taken none."""
        assert count <= self._bytes_max, "it would wait for ever"
        if not self._line and count <= self._free:
            self._free -= count
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append((count, granted))
        try:
            await granted
        except asyncio.CancelledError:
            if granted.cancelled():
                self._grant()  # to those behind
            else:  # it was granted and cancelled in one turn of the loop
                self.give_back(count)
            raise

    def give_back(self, count: int) -> None:
        """Gives bytes to those who wait for them."""
        self._free += count
        self._grant()

    def _grant(self) -> None:
        while self._line:
            count, granted = self._line[0]
            if not granted.cancelled():
                if count > self._free:
                    return
                self._free -= count
                granted.set_result(None)
            self._line.popleft()

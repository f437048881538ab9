"""What one caller has not read yet of a watched request. Bounded; what is older is merged, never piled up."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from types import TracebackType

from falrpc_server.fal_http.models import LogBatch, LogLine, LogLines, QueueStatus

__all__ = ["Mailbox"]

ITEMS_MAX = 64
ENTRIES_MAX = 1_000
BYTES_MAX = 256 * 1024


class Mailbox:
    """States and log entries on their way to one caller, in order.

    While there is room everything is kept. When there is none, what waits becomes one batch of log entries
    (the newest; how many were dropped is counted) and the newest state.
    """

    def __init__(
        self,
        *,
        logs: bool,
        items_max: int = ITEMS_MAX,
        entries_max: int = ENTRIES_MAX,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        self.wants_logs = logs
        self._items_max = items_max
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._items: deque[QueueStatus | LogBatch] = deque()
        self._entries = 0
        self._bytes = 0
        self._is_closed = False
        self._error: Exception | None = None
        self._traceback: TracebackType | None = None
        self._changed = asyncio.Event()

    def put_status(self, status: QueueStatus) -> None:
        """Adds a state."""
        self._items.append(status)
        self._merge_if_full()
        self._changed.set()

    def put_logs(self, entries: LogLines) -> None:
        """Adds log entries, if they are wanted."""
        if not self.wants_logs or not entries:
            return
        self._items.append(LogBatch(entries))
        self._entries += len(entries)
        self._bytes += sum(entry.size for entry in entries)
        self._merge_if_full()
        self._changed.set()

    def close(self, error: Exception | None = None) -> None:
        """Nothing follows; the reader ends, or fails with the error, when it has read the rest."""
        self._is_closed, self._error = True, error
        self._traceback = error.__traceback__ if error else None
        self._changed.set()

    async def items(self) -> AsyncGenerator[QueueStatus | LogBatch]:
        """Yields what comes, until close(). Raises its error."""
        while True:
            while self._items:
                item = self._items.popleft()
                if isinstance(item, LogBatch):
                    self._entries -= len(item.entries)
                    self._bytes -= sum(entry.size for entry in item.entries)
                yield item
            if self._is_closed:
                break
            self._changed.clear()
            await self._changed.wait()
        if self._error:
            raise self._error.with_traceback(self._traceback)  # many readers may get the same one

    def _merge_if_full(self) -> None:
        if (
            len(self._items) <= self._items_max
            and self._entries <= self._entries_max
            and self._bytes <= self._bytes_max
        ):
            return
        kept: deque[LogLine] = deque()
        dropped = 0
        status: QueueStatus | None = None
        for item in self._items:
            if isinstance(item, QueueStatus):
                status = item
            else:
                dropped += item.dropped
                kept.extend(item.entries)
        size = sum(entry.size for entry in kept)
        # Half of the room stays free, so that a reader who never catches up costs no merge for each entry.
        while kept and (len(kept) > self._entries_max // 2 or size > self._bytes_max // 2):
            size -= kept.popleft().size
            dropped += 1
        self._items.clear()
        if kept or dropped:
            self._items.append(LogBatch(tuple(kept), dropped))
        if status is not None:
            self._items.append(status)
        self._entries, self._bytes = len(kept), size

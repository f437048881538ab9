"""What one caller has not read yet of a watched request. Bounded; what is older is merged, never piled up."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

from falrpc_server.fal_http.models import LogBatch, LogLine, LogLines, QueueStatus

__all__ = ["Mailbox"]

ITEMS_MAX = 64
ENTRIES_MAX = 1_000
BYTES_MAX = 256 * 1024


class Mailbox:
    """States and log entries on their way to one caller, in order.

    What comes first, up to the first batch of log entries, is never cut: that batch may be the whole log so
    far, and all callers share its entries. It is read in pieces. What piles up behind it has the room that is
    given here; when there is none left, it becomes one batch of log entries (the newest; how many were
    dropped is counted) and the newest state.

    Attributes:
        wants_logs: Whether log entries are kept.
        wants_outcome: Whether the end should say how the request ended.
        is_closed: Whether nothing follows.
        error: Why nothing follows, if that is so because something failed. Shared by all callers.
    """

    def __init__(
        self,
        *,
        logs: bool,
        outcome: bool = False,
        items_max: int = ITEMS_MAX,
        entries_max: int = ENTRIES_MAX,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        self.wants_logs = logs
        self.wants_outcome = outcome
        self.is_closed = False
        self.error: Exception | None = None
        self._items_max = items_max
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._first: deque[QueueStatus | LogBatch] = deque()  # a batch can only be its last item
        self._behind: deque[QueueStatus | LogBatch] = deque()
        self._entries = 0  # behind
        self._bytes = 0
        self._changed = asyncio.Event()

    def put_status(self, status: QueueStatus) -> None:
        """Adds a state."""
        if not self._has_batch and len(self._first) >= self._items_max:
            self._first.clear()
        self._put(status)

    def put_logs(self, entries: LogLines, dropped: int = 0) -> None:
        """Adds log entries, if they are wanted, and how many before them there are no more."""
        if self.wants_logs and (entries or dropped):
            self._put(LogBatch(entries, dropped))

    def close(self, error: Exception | None = None) -> None:
        """Nothing follows; the reader ends when it has read the rest."""
        if not self.is_closed:
            self.is_closed, self.error = True, error
            self._changed.set()

    async def items(self) -> AsyncGenerator[QueueStatus | LogBatch]:
        """Yields what comes, until close()."""
        while True:
            while self._first:
                yield self._taken()
            if self.is_closed:
                return
            self._changed.clear()
            await self._changed.wait()

    @property
    def _has_batch(self) -> bool:
        return bool(self._first) and isinstance(self._first[-1], LogBatch)

    def _put(self, item: QueueStatus | LogBatch) -> None:
        if self._has_batch:
            self._behind.append(item)
            self._count(item, 1)
            self._merge_if_full()
        else:
            self._first.append(item)
        self._changed.set()

    def _taken(self) -> QueueStatus | LogBatch:
        item = self._first.popleft()
        if isinstance(item, LogBatch):
            item, rest = self._cut(item)
            if rest:
                self._first.append(LogBatch(rest))
        while self._behind and not self._has_batch:
            moved = self._behind.popleft()
            self._count(moved, -1)
            self._first.append(moved)
        return item

    def _cut(self, batch: LogBatch) -> tuple[LogBatch, LogLines]:
        """As much of a batch as makes one message, and the rest."""
        count = size = 0
        for entry in batch.entries[: self._entries_max]:
            size += entry.size
            if count and size > self._bytes_max:
                break
            count += 1
        return LogBatch(batch.entries[:count], batch.dropped), batch.entries[count:]

    def _count(self, item: QueueStatus | LogBatch, sign: int) -> None:
        if isinstance(item, LogBatch):
            self._entries += sign * len(item.entries)
            self._bytes += sign * sum(entry.size for entry in item.entries)

    def _merge_if_full(self) -> None:
        is_too_much = self._entries > self._entries_max or self._bytes > self._bytes_max
        if not is_too_much and len(self._behind) <= self._items_max:
            return
        kept: deque[LogLine] = deque()
        dropped = 0
        status: QueueStatus | None = None
        for item in self._behind:
            if isinstance(item, QueueStatus):
                status = item
            else:
                dropped += item.dropped
                kept.extend(item.entries)
        # Half of the room stays free, so that a reader who never catches up costs no merge for each entry.
        while (
            is_too_much
            and kept
            and (len(kept) > self._entries_max // 2 or self._bytes > self._bytes_max // 2)
        ):
            self._bytes -= kept.popleft().size
            dropped += 1
        self._entries = len(kept)
        self._behind.clear()
        if kept or dropped:
            self._behind.append(LogBatch(tuple(kept), dropped))
        if status is not None:
            self._behind.append(status)

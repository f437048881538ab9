"""Follows a queue request until it is completed: fal's status stream, and polling when that fails.

It knows fal's client and its values, and nothing of who listens.
"""

import asyncio
import dataclasses
import random
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from falrpc_server.fal_http.client import FalClient
from falrpc_server.fal_http.error_bodies import FalError
from falrpc_server.fal_http.models import LogLine, LogLines, QueueState, QueueStatus, RequestRef, Scope
from falrpc_server.fal_http.retry import is_passing

__all__ = ["LogDeltas", "Pace", "watch"]

SEEN_ENTRIES_MAX = 10_000


@dataclasses.dataclass(frozen=True, slots=True)
class Pace:
    """How often a request is looked at when its status stream is not to be had.

    Attributes:
        first_seconds, growth, cap_seconds: The interval between polls, and how it grows.
        stream_idle_seconds: Longest silence of the status stream; fal sends a comment every 15 s.
        patience_seconds: How long reads may fail in passing before the watch gives up.
    """

    first_seconds: float = 0.25
    growth: float = 1.5
    cap_seconds: float = 5.0
    stream_idle_seconds: float = 45.0
    patience_seconds: float = 30.0


class LogDeltas:
    """Picks the log entries that were not picked before.

    Windows of polls overlap, and a stream's increments may repeat what a poll showed (§7.3, §7.5), so
    an entry is told by all its text.
    """

    def __init__(self, seen_entries_max: int = SEEN_ENTRIES_MAX) -> None:
        self._seen: OrderedDict[LogLine, None] = OrderedDict()
        self._seen_entries_max = seen_entries_max

    def new(self, entries: Iterable[LogLine]) -> LogLines:
        """Returns the entries that are new, in order."""
        found = []
        for entry in entries:
            if entry in self._seen:
                self._seen.move_to_end(entry)  # still in the window: the oldest are forgotten first
            else:
                self._seen[entry] = None
                found.append(entry)
        while len(self._seen) > self._seen_entries_max:
            self._seen.popitem(last=False)
        return tuple(found)


async def watch(
    fal: FalClient, ref: RequestRef, scope: Scope, *, logs: bool, pace: Pace | None = None
) -> AsyncGenerator[QueueStatus | LogLines]:
    """Yields the state at once and at each change, and log entries as they appear, each once.

    The COMPLETED state is the last thing yielded. Raises FalError when the request can't be read.
    """
    deltas = LogDeltas()
    shown: QueueStatus | None = None
    async with aclosing(_statuses(fal, ref, scope, logs, pace or Pace())) as statuses:
        async for status in statuses:
            if logs and status.state is QueueState.COMPLETED:
                status = await _with_late_logs(fal, ref, scope, status)
            new = deltas.new(status.logs)
            status = dataclasses.replace(status, logs=())
            if new and status.state is QueueState.COMPLETED:
                yield new
            if status != shown:
                shown = status
                yield status
            if new and status.state is not QueueState.COMPLETED:
                yield new


async def _statuses(
    fal: FalClient, ref: RequestRef, scope: Scope, logs: bool, pace: Pace
) -> AsyncGenerator[QueueStatus]:
    """Yields states as they come, repeated ones too, up to COMPLETED."""
    try:
        events = fal.status_events(ref, scope, logs=logs, idle_seconds=pace.stream_idle_seconds)
        async with aclosing(events):
            async for status in events:
                yield status
                if status.state is QueueState.COMPLETED:
                    return
    except FalError:
        pass  # no stream, or a broken one: polling says what is the matter, if anything is
    interval = pace.first_seconds
    clock = asyncio.get_running_loop().time
    read_at = clock()
    while True:
        try:
            status = await fal.status(ref, scope, logs=logs)
        except FalError as error:
            if not is_passing(error) or clock() - read_at > pace.patience_seconds:
                raise
        else:
            read_at = clock()
            yield status
            if status.state is QueueState.COMPLETED:
                return
        await asyncio.sleep(interval * random.uniform(0.8, 1.2))  # noqa: S311 # jitter is no secret
        interval = min(interval * pace.growth, pace.cap_seconds)


async def _with_late_logs(fal: FalClient, ref: RequestRef, scope: Scope, status: QueueStatus) -> QueueStatus:
    """Adds what the log's window shows once more: entries may arrive after COMPLETED (§7.3)."""
    try:
        window = await fal.status(ref, scope, logs=True)
    except FalError:
        return status
    return dataclasses.replace(status, logs=(*status.logs, *window.logs))

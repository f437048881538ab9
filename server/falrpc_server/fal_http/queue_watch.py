"""The states of a queue request as fal tells them: its status stream, and polls while there is none.

It knows fal's client and its values, and nothing of who listens.
"""

import asyncio
import contextlib
import dataclasses
import random
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing

from falrpc_server.fal_http.client import FalClient
from falrpc_server.fal_http.error_bodies import FalError
from falrpc_server.fal_http.models import LogLine, LogLines, QueueState, QueueStatus, RequestRef, Scope
from falrpc_server.fal_http.retry import is_passing

__all__ = ["LogDeltas", "Pace", "StatusFlow"]

SEEN_ENTRIES_MAX = 10_000
SEEN_BYTES_MAX = 1024 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Pace:
    """How often a request is looked at when its status stream is not to be had.

    Attributes:
        first_seconds, growth, cap_seconds: The interval between polls, and how it grows. None is shorter
            than the first one.
        stream_idle_seconds: Longest silence of the status stream; fal sends a comment every 15 s.
        stream_again_seconds: How long polls go on before the stream is tried again; twice as long after each
            failure, up to `stream_again_seconds_max`.
        patience_seconds: How long reads may fail in passing before the watch gives up.
    """

    first_seconds: float = 0.25
    growth: float = 1.5
    cap_seconds: float = 5.0
    stream_idle_seconds: float = 45.0
    stream_again_seconds: float = 30.0
    stream_again_seconds_max: float = 300.0
    patience_seconds: float = 30.0


class LogDeltas:
    """Picks the log entries that were not picked before.

    Windows of polls overlap, and a stream's increments may repeat what a poll showed (§7.3, §7.5), so
    an entry is told by all its text.
    """

    def __init__(
        self, seen_entries_max: int = SEEN_ENTRIES_MAX, seen_bytes_max: int = SEEN_BYTES_MAX
    ) -> None:
        self._seen: OrderedDict[LogLine, None] = OrderedDict()
        self._seen_entries_max = seen_entries_max
        self._seen_bytes_max = seen_bytes_max
        self._bytes = 0

    def new(self, entries: Iterable[LogLine]) -> LogLines:
        """Returns the entries that are new, in order."""
        found = []
        for entry in entries:
            if entry in self._seen:
                self._seen.move_to_end(entry)  # still in the window: the oldest are forgotten first
            else:
                self._seen[entry] = None
                self._bytes += entry.size
                found.append(entry)
        while len(self._seen) > self._seen_entries_max or (
            self._bytes > self._seen_bytes_max and len(self._seen) > 1
        ):
            self._bytes -= self._seen.popitem(last=False)[0].size
        return tuple(found)

    def seen(self) -> LogLines:
        """Returns what was picked before and is not forgotten."""
        return tuple(self._seen)


class StatusFlow:
    """Reads one request's states, as long as it takes."""

    def __init__(
        self,
        fal: FalClient,
        ref: RequestRef,
        scope: Scope,
        pace: Pace,
        turn: Callable[[], Awaitable[None]],
        *,
        logs: bool,
    ) -> None:
        """Reads with log entries or without, and awaits `turn` before each call to fal."""
        self._fal = fal
        self._ref = ref
        self._scope = scope
        self._pace = pace
        self._turn = turn
        self._logs = logs
        self._failing_seconds = 0.0  # since a read succeeded; the waits for turns do not count

    async def states(self) -> AsyncGenerator[QueueStatus]:
        """Yields states as they come, repeated ones too, up to COMPLETED.

        Raises FalError when the request can't be read.
        """
        polls_seconds = self._pace.stream_again_seconds
        while True:
            async with aclosing(self._streamed()) as streamed:
                async for status in streamed:
                    polls_seconds = self._pace.stream_again_seconds
                    yield status
                    if status.state is QueueState.COMPLETED:
                        return
            async with aclosing(self._polled(polls_seconds)) as polled:
                async for status in polled:
                    yield status
                    if status.state is QueueState.COMPLETED:
                        return
            polls_seconds = min(2 * polls_seconds, self._pace.stream_again_seconds_max)

    async def _streamed(self) -> AsyncGenerator[QueueStatus]:
        """Yields what the status stream sends. Why it ended, if it did, is for a poll to say."""
        await self._turn()
        idle = self._pace.stream_idle_seconds
        events = self._fal.status_events(self._ref, self._scope, logs=self._logs, idle_seconds=idle)
        with contextlib.suppress(FalError):
            async with aclosing(events):
                async for status in events:
                    self._failing_seconds = 0.0
                    yield status

    async def _polled(self, seconds: float) -> AsyncGenerator[QueueStatus]:
        """Yields what polls show, for so many seconds."""
        clock = asyncio.get_running_loop().time
        end, interval = clock() + seconds, self._pace.first_seconds
        while True:
            await self._turn()
            began, asked_pause = clock(), 0.0
            try:
                status = await self._fal.status(self._ref, self._scope, logs=self._logs)
            except FalError as error:
                self._failing_seconds += clock() - began
                asked_pause = error.retry_after_seconds or 0.0
                if not is_passing(error) or self._failing_seconds + asked_pause > self._pace.patience_seconds:
                    raise
            else:
                self._failing_seconds = 0.0
                yield status
            if clock() >= end:
                return
            pause = max(asked_pause, interval * random.uniform(1.0, 1.25))  # noqa: S311 # jitter is no secret
            if self._failing_seconds:
                self._failing_seconds += pause
            await asyncio.sleep(pause)
            interval = min(interval * self._pace.growth, self._pace.cap_seconds)

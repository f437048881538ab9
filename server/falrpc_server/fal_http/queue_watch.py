"""The states of a queue request as fal tells them: its status stream, and polls while there is none.

It knows fal's client and its values, and nothing of who listens.
"""

import asyncio
import dataclasses
import random
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from falrpc_server.fal_http.client import FalClient
from falrpc_server.fal_http.error_bodies import FalError
from falrpc_server.fal_http.models import LogLine, LogLines, QueueState, QueueStatus, RequestRef, Scope
from falrpc_server.fal_http.retry import is_passing

__all__ = ["LogDeltas", "Pace", "Shared", "StatusFlow", "StatusStreams"]

SEEN_ENTRIES_MAX = 10_000
SEEN_BYTES_MAX = 1024 * 1024
STREAM_FAILURES_MAX = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Pace:
    """How often a request is looked at when its status stream is not to be had.

    Attributes:
        first_seconds, growth, cap_seconds: The interval between polls, and how it grows. None is shorter
            than the first one.
        stream_idle_seconds: Longest silence of the status stream; fal sends a comment every 15 s.
        stream_again_seconds: How long polls go on before the stream is tried again; twice as long after each
            failure, up to `stream_again_seconds_max`.
        patience_seconds: How long reads may fail in passing before the watch gives up. Waiting because fal
            asked for it does not count.
        asked_seconds_max: Longest wait that fal may ask for: a longer one ends the watch.
    """

    first_seconds: float = 0.25
    growth: float = 1.5
    cap_seconds: float = 5.0
    stream_idle_seconds: float = 45.0
    stream_again_seconds: float = 30.0
    stream_again_seconds_max: float = 300.0
    patience_seconds: float = 30.0
    asked_seconds_max: float = 300.0


class LogDeltas:
    """Picks the log entries that were not picked before.

    Windows of polls overlap, and a stream's increments may repeat what a poll showed (§7.3, §7.5), so
    an entry is told by all its text. The oldest are forgotten when there are too many, but none that the
    current window shows; what is no newer than a forgotten one is not new.

    Attributes:
        forgotten: How many entries were picked before and are forgotten.
    """

    def __init__(
        self, seen_entries_max: int = SEEN_ENTRIES_MAX, seen_bytes_max: int = SEEN_BYTES_MAX
    ) -> None:
        self._seen: OrderedDict[LogLine, None] = OrderedDict()
        self._seen_entries_max = seen_entries_max
        self._seen_bytes_max = seen_bytes_max
        self._bytes = 0
        self._forgotten_until = ""  # a timestamp; they are ISO 8601 texts
        self.forgotten = 0

    def new(self, entries: LogLines) -> LogLines:
        """Returns the entries that are new, in order."""
        found = []
        for entry in entries:
            if entry not in self._seen and not "" < entry.timestamp <= self._forgotten_until:
                self._seen[entry] = None
                self._bytes += entry.size
                found.append(entry)
        if found and self._is_too_much(len(self._seen)):
            self._forget(frozenset(entries))
        return tuple(found)

    def seen(self) -> LogLines:
        """Returns what was picked before and is not forgotten, in the order in which it was picked."""
        return tuple(self._seen)

    def _is_too_much(self, entries: int) -> bool:
        return entries > self._seen_entries_max or self._bytes > self._seen_bytes_max

    def _forget(self, window: frozenset[LogLine]) -> None:
        """Forgets the oldest entries outside the window, as many as there are too many."""
        forgotten: list[LogLine] = []
        for entry in self._seen:
            if not self._is_too_much(len(self._seen) - len(forgotten)):
                break
            if entry not in window:
                forgotten.append(entry)
                self._bytes -= entry.size
        for entry in forgotten:
            del self._seen[entry]
        # An odd one among them must not hide all that follow: what is kept is not older.
        oldest_kept = next(iter(self._seen)).timestamp
        marks = [min(entry.timestamp, oldest_kept) for entry in forgotten]
        self._forgotten_until = max([self._forgotten_until, *marks])
        self.forgotten += len(forgotten)


class StatusStreams:
    """Whether fal's status streams are to be had, as all flows have found out together.

    After several in a row that showed no state, only one flow now and then tries: each attempt of the others
    would cost a call that could have been a poll.
    """

    def __init__(self, again_seconds: float) -> None:
        self._again_seconds = again_seconds
        self._failures = 0
        self._again_at = 0.0

    def is_worth_trying(self) -> bool:
        """Whether a flow should try its own."""
        now = asyncio.get_running_loop().time()
        if self._failures >= STREAM_FAILURES_MAX and now < self._again_at:
            return False
        self._again_at = now + self._again_seconds
        return True

    def showed_a_state(self) -> None:
        """Notes one that works."""
        self._failures = 0

    def failed(self) -> None:
        """Notes one that ended without a state."""
        self._failures += 1


@dataclasses.dataclass(frozen=True, slots=True)
class Shared:
    """What all flows share.

    Attributes:
        turn: Awaited before each status call.
        streams: Whether status streams are to be had.
    """

    pace: Pace
    turn: Callable[[], Awaitable[None]]
    streams: StatusStreams


class StatusFlow:
    """Reads one request's states, as long as it takes."""

    def __init__(self, fal: FalClient, ref: RequestRef, scope: Scope, shared: Shared, *, logs: bool) -> None:
        """Reads with log entries or without."""
        self._fal = fal
        self._ref = ref
        self._scope = scope
        self._pace = shared.pace
        self._turn = shared.turn
        self._streams = shared.streams
        self._logs = logs
        self._interval = shared.pace.first_seconds  # of polls; it grows until a stream shows a state
        # Since a read succeeded; waiting for turns, or as fal asked, does not count.
        self._failing_seconds = 0.0
        self._stream_asked_seconds = 0.0  # how long fal wants no call after it refused the stream

    async def states(self) -> AsyncGenerator[QueueStatus]:
        """Yields states as they come, repeated ones too, up to COMPLETED.

        Raises FalError when the request can't be read.
        """
        failures = 0  # of its own status streams in a row
        while True:
            await self._turn()
            if self._streams.is_worth_trying():
                failures += 1
                async with aclosing(self._streamed()) as streamed:
                    async for status in streamed:
                        failures = 1
                        self._interval = self._pace.first_seconds
                        yield status
                        if status.state is QueueState.COMPLETED:
                            return
                await asyncio.sleep(self._stream_asked_seconds)
                await self._turn()
            async with aclosing(self._polled(self._polls_seconds(failures))) as polled:
                async for status in polled:
                    yield status
                    if status.state is QueueState.COMPLETED:
                        return

    def _polls_seconds(self, failures: int) -> float:
        """How long polls go on before a status stream is tried: twice as long after each that failed."""
        seconds = self._pace.stream_again_seconds * 2.0 ** max(0, min(failures, 20) - 1)
        return min(seconds, self._pace.stream_again_seconds_max)

    async def _streamed(self) -> AsyncGenerator[QueueStatus]:
        """Yields what the status stream sends. Why it ended, if it did, is for a poll to say.

        Raises FalError when fal wants no poll for longer than anybody should wait.
        """
        idle = self._pace.stream_idle_seconds
        events = self._fal.status_events(self._ref, self._scope, logs=self._logs, idle_seconds=idle)
        has_shown, is_about_request, self._stream_asked_seconds = False, False, 0.0
        try:
            async with aclosing(events):
                async for status in events:
                    has_shown = True
                    self._streams.showed_a_state()
                    self._failing_seconds = 0.0
                    yield status
        except FalError as error:
            is_about_request = error.answer is not None and not is_passing(error)
            self._stream_asked_seconds = error.retry_after_seconds or 0.0
            if self._stream_asked_seconds > self._pace.asked_seconds_max:
                raise
        if not has_shown and not is_about_request:
            self._streams.failed()

    async def _polled(self, seconds: float) -> AsyncGenerator[QueueStatus]:
        """Yields what polls show, for so many seconds, and ends with a pause.

        The turn of the first one has been taken.
        """
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        while True:
            began, asked_pause = clock(), 0.0
            pause = self._interval * random.uniform(1.0, 1.25)  # noqa: S311 # jitter is no secret
            self._interval = min(self._interval * self._pace.growth, self._pace.cap_seconds)
            try:
                status = await self._fal.status(self._ref, self._scope, logs=self._logs)
            except FalError as error:
                self._failing_seconds += clock() - began
                asked_pause = error.retry_after_seconds or 0.0
                is_too_long = asked_pause > self._pace.asked_seconds_max
                if (
                    not is_passing(error)
                    or is_too_long
                    or self._failing_seconds > self._pace.patience_seconds
                ):
                    raise
                self._failing_seconds += pause
            else:
                self._failing_seconds = 0.0
                yield status
            await asyncio.sleep(max(asked_pause, pause))
            if clock() >= end:
                return
            await self._turn()

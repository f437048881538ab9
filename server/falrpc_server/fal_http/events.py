"""Server-sent events from a stream of bytes: httpx-sse's decoder behind a guard of our own.

The guard splits lines on bytes, so that the events do not depend on how the network cut them, and
mends what the decoder leaves to its user: a BOM at the start, invalid UTF-8 (refused, not replaced),
events without data (not dispatched, as the standard says), a size limit, and an unfinished last event
(delivered and marked). It knows nothing of fal's event bodies.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass

# The decoder works on lines; httpx-sse's public interface wants an httpx response to read itself.
from httpx_sse._decoders import SSEDecoder

__all__ = ["BadEventStream", "Event", "EventReader", "EventTooLarge", "read_events"]

_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\n|\r")


class BadEventStream(Exception):
    """The bytes are no event stream: invalid UTF-8."""


class EventTooLarge(Exception):
    """An event is larger than the limit."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    Attributes:
        data: The text of its `data` lines.
        is_finished: False for a last event whose blank line never came.
    """

    data: str
    is_finished: bool = True


class EventReader:
    """Turns pieces of an event stream into events. Pure."""

    def __init__(self, event_bytes_max: int) -> None:
        self._event_bytes_max = event_bytes_max
        self._decoder = SSEDecoder()
        self._line_parts: list[bytes] = []
        self._event_bytes = 0
        self._has_data = False
        self._is_first_line = True
        self._ended_in_return = False

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Yields the events that the piece completes. Raises BadEventStream, EventTooLarge."""
        start = 0
        if self._ended_in_return and piece:  # a line feed that follows belongs to the line before
            start = 1 if piece.startswith(b"\n") else 0
            self._ended_in_return = False
        for end in _LINE_END.finditer(piece, start):
            event = self._line(piece[start : end.start()])
            start = end.end()
            if event is not None:
                yield event
        if start < len(piece):
            self._line_parts.append(piece[start:])
            self._count(len(piece) - start)
        elif piece.endswith(b"\r"):
            self._ended_in_return = True

    def finish(self) -> Iterator[Event]:
        """Yields the event that the end of the stream cut short, if there is one."""
        if self._line_parts:
            self._line_parts = [_without_cut_character(b"".join(self._line_parts))]
            self._line(b"")
        if self._has_data:
            event = self._line(b"")
            if event is not None:
                yield Event(event.data, is_finished=False)

    def _line(self, last_part: bytes) -> Event | None:
        self._count(len(last_part) + 1)
        self._line_parts.append(last_part)
        raw = b"".join(self._line_parts)
        self._line_parts.clear()
        if self._is_first_line:
            raw = raw.removeprefix(_BOM)
            self._is_first_line = False
        if raw.startswith((b"id", b"retry")):
            return None  # nothing here resumes a stream; kept ids make the decoder repeat empty events
        try:
            line = raw.decode()
        except UnicodeDecodeError as error:
            raise BadEventStream(f"invalid UTF-8: {error.reason}") from error
        event = self._decoder.decode(line)
        if line:
            self._has_data = self._has_data or line.partition(":")[0] == "data"
            return None
        has_data, self._has_data, self._event_bytes = self._has_data, False, 0
        return Event(event.data) if event is not None and has_data else None

    def _count(self, more: int) -> None:
        self._event_bytes += more
        if self._event_bytes > self._event_bytes_max:
            raise EventTooLarge(f"an event of more than {self._event_bytes_max} bytes")


def _without_cut_character(line: bytes) -> bytes:
    """An unfinished line may end inside a character."""
    for length in range(1, min(4, len(line)) + 1):
        if line[-length] >= 0xC0:  # the first byte of a character of two or more
            expected = 2 if line[-length] < 0xE0 else 3 if line[-length] < 0xF0 else 4
            return line[:-length] if length < expected else line
        if line[-length] < 0x80:
            break
    return line


async def read_events(pieces: AsyncGenerator[bytes], event_bytes_max: int) -> AsyncGenerator[Event]:
    """Yields the events of a stream of bytes as they come, and closes it.

    Raises BadEventStream, EventTooLarge.
    """
    reader = EventReader(event_bytes_max)
    async with aclosing(pieces):
        async for piece in pieces:
            for event in reader.feed(piece):
                yield event
    for event in reader.finish():
        yield event

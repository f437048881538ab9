"""Server-sent events from a stream of bytes: httpx-sse's decoder behind a guard of our own.

The guard splits lines on bytes, so that the events do not depend on how the network cut them, and
mends what the decoder leaves to its user: a BOM at the start, invalid UTF-8 (refused, not replaced),
events without data (not dispatched, as the standard says), a size limit, and an unfinished last event
(delivered and marked). It knows nothing of fal's event bodies.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

# The decoder works on lines; httpx-sse's public interface wants an httpx response to read itself.
from httpx_sse._decoders import SSEDecoder

__all__ = ["BadEventStream", "Event", "EventReader", "EventTooLarge"]

LINE_COST_BYTES = 64  # what keeping a line takes, however short it is

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
        self._unfinished_line = bytearray()
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
            line = piece[start : end.start()]
            start = end.end()
            self._count(len(line) + 1)
            if self._unfinished_line:
                self._unfinished_line += line
                line = bytes(self._unfinished_line)
                self._unfinished_line = bytearray()
            if line:
                self._read(line)
            else:
                self._is_first_line = False
                self._event_bytes = 0
                if self._has_data:
                    yield self._event(is_finished=True)
        if start < len(piece):
            self._count(len(piece) - start)
            self._unfinished_line += piece[start:]
        elif piece.endswith(b"\r"):
            self._ended_in_return = True

    def finish(self, *, is_cut: bool = False) -> Iterator[Event]:
        """Yields the event that the end of the stream left unfinished, if there is one.

        An unfinished line belongs to it, but not where the stream was cut: there it proves nothing.
        """
        line = b"" if is_cut else _without_cut_character(bytes(self._unfinished_line))
        if line:
            self._read(line)
        if self._has_data:
            yield self._event(is_finished=False)

    def _read(self, line: bytes) -> None:
        """Reads a line that is not blank. Only `data` counts: nothing here resumes a stream."""
        if self._is_first_line:
            line = line.removeprefix(_BOM)
            self._is_first_line = False
        if line[:5] not in (b"data", b"data:"):
            return
        if self._has_data:
            self._count(LINE_COST_BYTES)
        try:
            self._decoder.decode(line.decode())
        except UnicodeDecodeError as error:
            raise BadEventStream(f"invalid UTF-8: {error.reason}") from error
        self._has_data = True

    def _event(self, *, is_finished: bool) -> Event:
        """The event of the lines so far."""
        self._has_data = False
        event = self._decoder.decode("")
        return Event(event.data if event else "", is_finished)

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

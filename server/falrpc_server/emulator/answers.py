"""HTTP answers as values, and fal's standard ones (docs/fal-http-api.md §2.3, §7, §12)."""

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "EVENTS",
    "Answer",
    "AppError",
    "CutHere",
    "EventStream",
    "Raw",
    "detail",
    "dump",
    "encoded",
    "header_problem",
    "json_answer",
    "sse",
    "unknown_path",
]


_LINE_END = re.compile(r"\r\n|\r|\n")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")


EVENTS = {"content-type": "text/event-stream", "cache-control": "no-store"}
"""Headers of an event stream."""


class Raw(str):
    """JSON text that goes into an output as it is: a number keeps its spelling."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EventStream:
    """An answer whose body comes piece by piece.

    The pieces may end in CutHere to break the connection instead of ending the body. `ended` is called
    once when no more are wanted, whether or not any was.
    """

    pieces: AsyncIterator[bytes]
    headers: Mapping[str, str] = field(default_factory=lambda: EVENTS)
    status: int = 200
    ended: Callable[[], None] = lambda: None


class CutHere(Exception):
    """Breaks the connection in the middle of a body.

    Attributes:
        resets: Whether by RST, which may overtake what was sent, or by an early FIN behind it.
    """

    def __init__(self, *, resets: bool) -> None:
        super().__init__()
        self.resets = resets


class AppError(Exception):
    """A model refuses or fails: its own answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"HTTP {answer.status}")
        self.answer = answer


def dump(value: Any) -> str:
    """JSON text of a value that may have Raw parts."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(k)}:{dump(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(dump, value)) + "]"
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can escape and UTF-8 can't hold
        return json.dumps(value)
    return text


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer with a JSON body."""
    return Answer(status, dump(value).encode(), {"content-type": "application/json", **(headers or {})})


def detail(status: int, text: Any, headers: Mapping[str, str] | None = None) -> Answer:
    """`{"detail": ...}` (§12.3)."""
    return json_answer({"detail": text}, status, headers)


def unknown_path(path: str) -> Answer:
    """The app has no such route (§12.3)."""
    return detail(404, f"Path {path} not found", {"x-fal-billable-units": "0"})


def sse(data: str, event: str = "") -> bytes:
    """One server-sent event, perhaps named: one data line, but text of several lines needs several (§8.4)."""
    name = f"event: {event}\n" if event else ""
    lines = "".join(f"data: {line}\n" for line in _LINE_END.split(data))
    return f"{name}{lines}\n".encode()


def header_problem(headers: Any) -> str | None:
    """What keeps these headers from being sent, None when they are good."""
    if not isinstance(headers, Mapping):
        return "headers must be an object of texts"
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or name.lower() == "transfer-encoding":
            return f"no header can be named {name[:40]!r} here"
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
            return f"the value of header {name[:40]!r} must be text of printable Latin-1 characters"
    return None


def encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI wants them."""
    return [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]

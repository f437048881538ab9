"""Scenarios: what shall go wrong, as data. Pure; what they do to an exchange is in faults.py.

A scenario is a JSON object whose `act` is the tag of one of the classes below and whose other members
are its fields. Seconds of the network's acts are real ones, those of the queue pass with --speed.
"""

import base64
from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from falrpc_server.emulator.answers import header_problem
from falrpc_server.emulator.failures import EDGE_STATUSES, FAILURES, REQUEST_ERRORS
from falrpc_server.emulator.routes import OPERATIONS

__all__ = [
    "ACTS",
    "OF_A_REQUEST",
    "OF_STREAMS",
    "OF_THE_QUEUE",
    "STREAMS",
    "WORK",
    "BadScenario",
    "ConcurrencyLimit",
    "QueueDelay",
    "Scenario",
    "read",
]

WORK = "work"
"""The operation of a model's run itself: in the queue its outcome is what is stored."""

STREAMS = ("stream", "status_stream")
OF_A_REQUEST = ("status", "status_stream", "result", "cancel")

BODY_CHARACTERS_MAX = 64 * 1024 * 1024

_Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]
_Positive = Annotated[int, Meta(ge=1, le=1_000_000_000)]
_Seconds = Annotated[float, Meta(ge=0, le=1_000_000_000)]
_Status = Annotated[int, Meta(ge=200, le=599)]


class BadScenario(ValueError):
    """The data is no scenario; the message says what would be."""


class Scenario(msgspec.Struct, tag_field="act", forbid_unknown_fields=True, kw_only=True):
    """What happens to some requests.

    Attributes:
        operation, endpoint: Which requests; empty means any that the act can spoil.
        times: How many of them; null means all.
        after: How many are let through first.
    """

    fits: ClassVar[tuple[str, ...]] = tuple(OPERATIONS)
    choices: ClassVar[Mapping[str, Collection[Any]]] = {}

    operation: str = ""
    endpoint: str = ""
    times: _Positive | None = 1
    after: _Count = 0


class Instead(Scenario, tag="answer"):
    """Answers with `status`, `headers` and `body` instead. What is no text comes as `body_base64`, and what
    is long as `body_pieces`: texts, and how often each is repeated."""

    fits = (WORK, *OPERATIONS)
    status: _Status = 502
    headers: dict[str, str] = {}
    body: str = ""
    body_base64: str = ""
    body_pieces: list[tuple[str, _Count]] = []

    def whole_body(self) -> bytes:
        """The body. Raises ValueError."""
        if sum(len(text) * times for text, times in self.body_pieces) > BODY_CHARACTERS_MAX:
            raise ValueError(f"body_pieces have more than {BODY_CHARACTERS_MAX} characters")
        pieces = "".join(text * times for text, times in self.body_pieces)
        return self.body.encode() + pieces.encode() + base64.b64decode(self.body_base64, validate=True)


class Fail(Scenario, tag="fail"):
    """Answers with fal's failure of the name `kind` instead, with a `Retry-After` if one is given."""

    fits = (WORK, *OPERATIONS)
    choices = {"kind": FAILURES}
    kind: str
    retry_after: str | None = None


class EdgePage(Scenario, tag="edge_page"):
    """Answers like the proxy in front of fal: an HTML page of nginx, without a request id."""

    choices = {"status": EDGE_STATUSES}
    status: int = 502


class HugeAnswer(Scenario, tag="huge_answer"):
    """Answers with so many `bytes` of JSON, made as they are sent."""

    bytes: Annotated[int, Meta(ge=16, le=1_000_000_000_000)]
    status: _Status = 200


class Hang(Scenario, tag="hang"):
    """Reads the request and never answers."""

    fits = (WORK, *OPERATIONS)


class Slow(Scenario, tag="slow"):
    """Waits `seconds` before the real answer."""

    fits = (WORK, *OPERATIONS)
    seconds: _Seconds = 1.0


class ResetBeforeBody(Scenario, tag="reset_before_body"):
    """Resets the connection as soon as the request's head is read."""


class ResetAfterBody(Scenario, tag="reset_after_body"):
    """Reads the whole request, then resets the connection."""


class CloseAfterBody(Scenario, tag="close_after_body"):
    """Reads the whole request, then closes the connection without an answer."""


class CutBody(Scenario, tag="cut_body"):
    """Sends the real answer's head and `after_bytes` bytes of its body, then closes, or resets."""

    after_bytes: _Count = 0
    resets: bool = False


class SlowBody(Scenario, tag="slow_body"):
    """Sends the real answer's body in pieces of `chunk_bytes`, one every `seconds`."""

    chunk_bytes: _Positive = 1
    seconds: _Seconds = 0.1


class Headers(Scenario, tag="headers"):
    """Sends the real answer with these `headers`; null takes one away."""

    headers: dict[str, str | None]


class CutEvent(Scenario, tag="cut_event"):
    """Sends `after_events` events of a stream and half of the next, then closes, or resets."""

    fits = STREAMS
    after_events: _Count = 0
    resets: bool = False


class TruncateLastEvent(Scenario, tag="truncate_last_event"):
    """Ends a stream without the blank line behind its last event."""

    fits = STREAMS


class RepeatEvents(Scenario, tag="repeat_events"):
    """Sends each event of a stream `copies` times."""

    fits = STREAMS
    copies: Annotated[int, Meta(ge=2, le=100)] = 2


class Stall(Scenario, tag="stall"):
    """Sends `after_events` events of a stream, then nothing more, and keeps it open."""

    fits = STREAMS
    after_events: _Count = 0


class NoKeepalives(Scenario, tag="no_keepalives"):
    """Leaves the comments out of a stream that keep it alive."""

    fits = STREAMS


class QueueDelay(Scenario, tag="queue"):
    """Makes a submitted request wait `delay_seconds` from `position` on, and its first `retries` attempts
    fail with the request error `error_type`, after which fal tries again."""

    fits = ("submit",)
    choices = {"error_type": REQUEST_ERRORS}
    delay_seconds: _Seconds | None = None
    position: Annotated[int, Meta(ge=0, le=10_000)] = 2
    retries: Annotated[int, Meta(ge=0, le=100)] = 0
    error_type: str = "runner_disconnected"


class ConcurrencyLimit(Scenario, tag="concurrency_limit"):
    """Lets no more than `limit` requests run at once, until scenarios are cleared: others get 429, and
    wait in the queue."""

    fits = (WORK,)
    limit: _Count


ACTS: dict[str, type[Scenario]] = {
    str(cls.__struct_config__.tag): cls
    for cls in (
        *(Instead, Fail, EdgePage, HugeAnswer, Hang, Slow),
        *(ResetBeforeBody, ResetAfterBody, CloseAfterBody),
        *(CutBody, SlowBody, Headers),
        *(CutEvent, TruncateLastEvent, RepeatEvents, Stall, NoKeepalives),
        *(QueueDelay, ConcurrencyLimit),
    )
}
OF_THE_QUEUE = (QueueDelay, ConcurrencyLimit)
OF_STREAMS = tuple(cls for cls in ACTS.values() if cls.fits == STREAMS)


def read(data: Any) -> list[Scenario]:
    """Reads one scenario or a list of them. Raises BadScenario."""
    items = data if isinstance(data, list) else [data]
    if not items:
        raise BadScenario("there is no scenario in the list")
    return [_read_one(item) for item in items]


def _read_one(data: Any) -> Scenario:
    act = data.get("act") if isinstance(data, dict) else None
    if not isinstance(act, str) or act not in ACTS:
        raise BadScenario(f"act is required: one of {', '.join(ACTS)}")
    cls = ACTS[act]
    try:
        scenario: Scenario = msgspec.convert(data, cls)
    except msgspec.ValidationError as error:
        raise BadScenario(f"{error}; the fields of {act} are {', '.join(cls.__struct_fields__)}") from None
    if isinstance(scenario, ConcurrencyLimit) and data.keys() & {"times", "after"}:
        raise BadScenario(f"{act} stays until scenarios are cleared: it has neither times nor after")
    if scenario.operation not in ("", *cls.fits):
        raise BadScenario(f"unknown operation for {act}: there are {', '.join(cls.fits)}")
    for name, known in cls.choices.items():
        if getattr(scenario, name) not in known:
            raise BadScenario(f"unknown {name}: there are {', '.join(map(str, known))}")
    if not _is_text(scenario.endpoint):
        raise BadScenario("endpoint must be text that UTF-8 can hold")
    if isinstance(scenario, Instead):
        try:
            scenario.whole_body()
        except ValueError as error:
            raise BadScenario(f"no such body: {error}") from None
    given = {k: v for k, v in getattr(scenario, "headers", {}).items() if v is not None}
    given |= {k: "" for k, v in getattr(scenario, "headers", {}).items() if v is None}
    if isinstance(scenario, Fail) and scenario.retry_after is not None:
        given["retry-after"] = scenario.retry_after
    if problem := header_problem(given):
        raise BadScenario(problem)
    if isinstance(scenario, HugeAnswer) and scenario.status in (204, 304):
        raise BadScenario(f"an answer with status {scenario.status} has no body")
    if isinstance(scenario, Headers) and "content-length" in map(str.lower, given):
        raise BadScenario("content-length says where the answer ends: cut_body makes it wrong")
    return scenario


def _is_text(value: str) -> bool:
    """Whether UTF-8 can hold it: JSON can escape half a surrogate pair."""
    return not any("\ud800" <= character <= "\udfff" for character in value)

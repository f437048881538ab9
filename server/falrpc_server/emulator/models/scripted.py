"""Models that do what their input says, well or badly: for tests of whoever calls fal."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import msgspec

from falrpc_server.emulator.answers import (
    Answer,
    AppError,
    CutHere,
    detail,
    header_problem,
    json_answer,
    sse,
)
from falrpc_server.emulator.failures import REQUEST_ERRORS, request_error
from falrpc_server.emulator.models.inputs import Field, model_error
from falrpc_server.emulator.models.work import Work

__all__ = [
    "ANSWER",
    "BLOB",
    "EVENTS",
    "FAIL",
    "LOGS",
    "SECONDS",
    "TICKS",
    "answer",
    "blob",
    "cancellable",
    "echo",
    "echo_event",
    "events",
    "fail",
    "last_event",
    "logs",
    "replayed_output",
    "sleep",
    "stubborn",
    "ticking_nodes",
    "ticks",
    "total_of_ticks",
]

JSON = {"content-type": "application/json", "x-fal-billable-units": "1"}
BYTES_MAX = 256 * 1024 * 1024

ANSWER = (
    Field("status", "integer", minimum=200, maximum=599),
    Field("headers", "any"),
    Field("body", "any"),
    Field("content_type", "string"),
    Field("text", "string"),
)
BLOB = (Field("bytes", "integer", minimum=16, maximum=BYTES_MAX), Field("binary", "boolean"))
EVENTS = (
    Field("events", "any", required=True),
    Field("event", "string"),
    Field("delay", "number", minimum=0, maximum=60),
    Field("end", "string", choices=("clean", "cut", "reset", "no_blank_line", "half_event", "hang")),
)
FAIL = (Field("error_type", "string"), Field("seconds", "number", minimum=0, maximum=3_600))
LOGS = (
    Field("count", "integer", minimum=0, maximum=10_000),
    Field("late", "integer", minimum=0, maximum=100),
)
SECONDS = (Field("seconds", "number", minimum=0, maximum=3_600),)
TICKS = (
    Field("events", "integer", minimum=1, maximum=1_000_000),
    Field("seconds", "number", minimum=0, maximum=3_600),
    Field("bytes", "integer", minimum=0, maximum=1_000_000),
)


async def echo(work: Work) -> Answer:
    """Gives the input back, byte for byte."""
    return Answer(200, work.input.body, JSON)


async def echo_event(work: Work) -> AsyncIterator[bytes]:
    """The same, as an event."""
    yield sse(work.input.body.decode() or "{}")


async def sleep(work: Work) -> Answer:
    """Not scaled: the caller says how long."""
    await asyncio.sleep(work.input.get("seconds", 1.0))
    return json_answer({"slept": work.input.get("seconds", 1.0)}, headers=JSON)


async def answer(work: Work) -> Answer:
    """Answers what the input says. Raises AppError."""
    headers = {"content-type": work.input.get("content_type", "application/json")}
    if problem := header_problem(headers):
        raise model_error("value_error", "content_type", problem, work.input.raw("content_type", "null"))
    asked = work.input.get("headers", {})
    if problem := header_problem(asked):
        raise model_error("value_error", "headers", problem, work.input.raw("headers", "null"))
    headers |= {name.lower(): value for name, value in asked.items()}
    body = work.input.get("text") if "text" in work.input.values else work.input.text("body")
    return Answer(int(work.input.get("status", 200)), (body or "").encode(), headers)


async def blob(work: Work) -> Answer:
    """Answers with so many bytes."""
    size = int(work.input.get("bytes", 1_000))
    if work.input.get("binary", False):
        return Answer(200, b"\xff" * size, {**JSON, "content-type": "application/octet-stream"})
    head, tail = b'{"blob":"', b'"}'
    return Answer(200, head + b"x" * (size - len(head) - len(tail)) + tail, JSON)


async def fail(work: Work) -> Answer:
    """Fails as the input says. Raises AppError for a type that there is not."""
    if (seconds := work.input.get("seconds")) is None:
        await work.sleep(work.seconds)
    else:
        await asyncio.sleep(seconds)
    error_type = work.input.get("error_type")
    if error_type is None:
        return detail(500, "Internal Server Error")
    if error_type not in REQUEST_ERRORS:
        raise model_error(
            "literal_error", "error_type", f"Input should be one of {', '.join(REQUEST_ERRORS)}", error_type
        )
    return request_error(error_type)


async def logs(work: Work) -> Answer:
    """Logs lines, some of them late."""
    count = int(work.input.get("count", 5))
    for number in range(count):
        work.log(f"line {number}", 0.0)
        await work.sleep(0.05)
    for number in range(int(work.input.get("late", 0))):
        work.log(f"late line {number}", 0.05)
    return json_answer({"lines": count}, headers=JSON)


async def cancellable(work: Work) -> Answer:
    """Stops when it is cancelled."""
    try:
        async with asyncio.timeout(work.input.get("seconds", 30.0)):
            await work.cancelled.wait()
    except TimeoutError:
        return json_answer({"cancelled": False}, headers=JSON)
    raise AppError(request_error("client_cancelled"))


async def stubborn(work: Work) -> Answer:
    """Goes on when it is cancelled."""
    await asyncio.sleep(work.input.get("seconds", 2.0))
    return json_answer({"cancelled": work.cancelled.is_set()}, headers=JSON)


def ticks(work: Work) -> AsyncIterator[bytes]:
    """So many numbered events, one every so many real seconds: for load."""
    return _ticking(work, lambda number, count, rest: f'{{"tick":{number},"of":{count},{rest}}}')


def ticking_nodes(work: Work) -> AsyncIterator[bytes]:
    """The same as the completions of a workflow's nodes and, last, its output (§9)."""
    return _ticking(work, _node_completed)


def _node_completed(number: int, count: int, rest: str) -> str:
    output = f'"output":{{{rest}}}'
    if number == count:
        return f'{{"type":"output",{output}}}'
    return f'{{"type":"completion","node_id":"node_{number}","app_id":"emulator/ticks",{output}}}'


async def _ticking(work: Work, event: Callable[[int, int, str], str]) -> AsyncIterator[bytes]:
    """Each event has the Unix time when it was written."""
    padding = "x" * int(work.input.get("bytes", 0))
    count, seconds = int(work.input.get("events", 20)), work.input.get("seconds", 1.0)
    loop = asyncio.get_running_loop()
    due = loop.time()
    for number in range(1, count + 1):
        await asyncio.sleep(due - loop.time())
        yield sse(event(number, count, f'"at":{time.time():.6f},"padding":"{padding}"'))
        due += seconds


async def total_of_ticks(work: Work) -> Answer:
    """What the last of the events says."""
    count = int(work.input.get("events", 20))
    await asyncio.sleep(work.input.get("seconds", 1.0) * (count - 1))
    return json_answer({"tick": count, "of": count}, headers=JSON)


def events(work: Work) -> AsyncIterator[bytes]:
    """The input's events, each byte for byte, then the end that it asks for."""
    return _paced(_event_texts(work), work)


def _event_texts(work: Work) -> list[str]:
    text = work.input.raw("events", "null")
    try:
        return [bytes(event).decode() for event in msgspec.json.decode(text.encode(), type=list[msgspec.Raw])]
    except msgspec.ValidationError:
        raise model_error("list_type", "events", "Input should be a valid list", text) from None


async def _paced(events: list[str], work: Work) -> AsyncIterator[bytes]:
    delay, name = work.input.get("delay", 0.0), work.input.get("event", "")
    for event in events:
        yield sse(event, name)
        await asyncio.sleep(delay)
    match work.input.get("end", "clean"):
        case "cut":
            raise CutHere(resets=False)
        case "reset":
            raise CutHere(resets=True)
        case "half_event":
            yield b'data: {"half": "ev'
        case "no_blank_line":
            yield b'data: {"last": true}\n'
        case "hang":
            await asyncio.sleep(3_600)


async def last_event(work: Work) -> Answer:
    """The last of the input's events."""
    events = _event_texts(work)
    return Answer(200, (events[-1] if events else "{}").encode(), JSON)


async def replayed_output(work: Work) -> Answer:
    """The `output` of the last output event (§9), else the last event."""
    for event in reversed(_event_texts(work)):
        with contextlib.suppress(msgspec.ValidationError):  # other events look different
            output = msgspec.json.decode(event, type=_OutputEvent).output
            return Answer(200, bytes(output), JSON)
    return await last_event(work)


class _OutputEvent(msgspec.Struct, tag="output"):
    output: msgspec.Raw

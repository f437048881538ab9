"""Models that do what their input says, well or badly: for tests of whoever calls fal."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec

from falrpc_server.emulator.answers import (
    REQUEST_ERRORS,
    Answer,
    AppError,
    detail,
    header_problem,
    json_answer,
    request_error,
    sse,
)
from falrpc_server.emulator.inputs import Field, model_error
from falrpc_server.emulator.work import CutHere, Model, Work

__all__ = ["SCRIPTED_MODELS"]

JSON = {"content-type": "application/json", "x-fal-billable-units": "1"}
BYTES_MAX = 256 * 1024 * 1024


async def _echo(work: Work) -> Answer:
    return Answer(200, work.input.body, JSON)


async def _echo_event(work: Work) -> AsyncIterator[bytes]:
    yield sse(work.input.body.decode() or "{}")


async def _sleep(work: Work) -> Answer:
    """Not scaled: the caller says how long."""
    await asyncio.sleep(work.input.get("seconds", 1.0))
    return json_answer({"slept": work.input.get("seconds", 1.0)}, headers=JSON)


async def _answer(work: Work) -> Answer:
    headers = {"content-type": work.input.get("content_type", "application/json")}
    if problem := header_problem(headers):
        raise model_error("value_error", "content_type", problem, work.input.raw("content_type", "null"))
    asked = work.input.get("headers", {})
    if problem := header_problem(asked):
        raise model_error("value_error", "headers", problem, work.input.raw("headers", "null"))
    headers |= {name.lower(): value for name, value in asked.items()}
    body = work.input.get("text") if "text" in work.input.values else work.input.text("body")
    return Answer(int(work.input.get("status", 200)), (body or "").encode(), headers)


async def _blob(work: Work) -> Answer:
    size = int(work.input.get("bytes", 1_000))
    if work.input.get("binary", False):
        return Answer(200, b"\xff" * size, {**JSON, "content-type": "application/octet-stream"})
    head, tail = b'{"blob":"', b'"}'
    return Answer(200, head + b"x" * (size - len(head) - len(tail)) + tail, JSON)


async def _fail(work: Work) -> Answer:
    await work.sleep(work.input.get("seconds", 0.1))
    error_type = work.input.get("error_type")
    if error_type is None:
        return detail(500, "Internal Server Error")
    if error_type not in REQUEST_ERRORS:
        raise model_error(
            "literal_error", "error_type", f"Input should be one of {', '.join(REQUEST_ERRORS)}", error_type
        )
    return request_error(error_type)


async def _logs(work: Work) -> Answer:
    count = int(work.input.get("count", 5))
    for number in range(count):
        work.log(f"line {number}", 0.0)
        await work.sleep(0.05)
    for number in range(int(work.input.get("late", 0))):
        work.log(f"late line {number}", 0.05)
    return json_answer({"lines": count}, headers=JSON)


async def _cancellable(work: Work) -> Answer:
    try:
        async with asyncio.timeout(work.input.get("seconds", 30.0)):
            await work.cancelled.wait()
    except TimeoutError:
        return json_answer({"cancelled": False}, headers=JSON)
    raise AppError(request_error("client_cancelled"))


async def _stubborn(work: Work) -> Answer:
    await asyncio.sleep(work.input.get("seconds", 2.0))
    return json_answer({"cancelled": work.cancelled.is_set()}, headers=JSON)


def _events(work: Work) -> AsyncIterator[bytes]:
    """The input's events, each byte for byte, then the end that it asks for."""
    return _paced(_event_texts(work), work)


def _event_texts(work: Work) -> list[str]:
    text = work.input.raw("events", "null")
    try:
        return [bytes(event).decode() for event in msgspec.json.decode(text.encode(), type=list[msgspec.Raw])]
    except msgspec.ValidationError:
        raise model_error("list_type", "events", "Input should be a valid list", text) from None


async def _paced(events: list[str], work: Work) -> AsyncIterator[bytes]:
    delay = work.input.get("delay", 0.0)
    for event in events:
        yield sse(event)
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


async def _last_event(work: Work) -> Answer:
    events = _event_texts(work)
    return Answer(200, (events[-1] if events else "{}").encode(), JSON)


async def _replayed_output(work: Work) -> Answer:
    """The `output` of the last output event (§9), else the last event."""
    for event in reversed(_event_texts(work)):
        with contextlib.suppress(msgspec.ValidationError):  # other events look different
            output = msgspec.json.decode(event, type=_OutputEvent).output
            return Answer(200, bytes(output), JSON)
    return await _last_event(work)


class _OutputEvent(msgspec.Struct, tag="output"):
    output: msgspec.Raw


_EVENT_FIELDS = (
    Field("events", "any", required=True),
    Field("delay", "number", minimum=0, maximum=60),
    Field("end", "string", choices=("clean", "cut", "reset", "no_blank_line", "half_event", "hang")),
)

SCRIPTED_MODELS = (
    Model("emulator/echo", "Gives its input back, byte for byte.", _echo, stream=_echo_event),
    Model(
        "emulator/sleep",
        "Takes `seconds`.",
        _sleep,
        (Field("seconds", "number", minimum=0, maximum=3_600),),
    ),
    Model(
        "emulator/answer",
        "Answers with `status`, `headers`, `content_type` and `body` (JSON) or `text`.",
        _answer,
        (
            Field("status", "integer", minimum=200, maximum=599),
            Field("content_type", "string"),
            Field("text", "string"),
        ),
        answers_stream=True,
    ),
    Model(
        "emulator/blob",
        "Answers with `bytes` bytes of JSON, or of `binary`.",
        _blob,
        (Field("bytes", "integer", minimum=16, maximum=BYTES_MAX), Field("binary", "boolean")),
    ),
    Model(
        "emulator/fail",
        "Fails with a request error of `error_type`, or as an app with HTTP 500.",
        _fail,
        (Field("error_type", "string"), Field("seconds", "number", minimum=0, maximum=3_600)),
    ),
    Model(
        "emulator/logs",
        "Logs `count` lines, and `late` ones after it has completed.",
        _logs,
        (
            Field("count", "integer", minimum=0, maximum=10_000),
            Field("late", "integer", minimum=0, maximum=100),
        ),
    ),
    Model(
        "emulator/cancellable",
        "Stops when it is cancelled.",
        _cancellable,
        (Field("seconds", "number", minimum=0, maximum=3_600),),
    ),
    Model(
        "emulator/stubborn",
        "Goes on when it is cancelled.",
        _stubborn,
        (Field("seconds", "number", minimum=0, maximum=3_600),),
    ),
    Model(
        "emulator/events", "Streams `events`, then ends as `end` says.", _last_event, _EVENT_FIELDS, _events
    ),
    Model(
        "workflows/emulator/replay",
        "A workflow that streams `events`, then ends as `end` says.",
        _replayed_output,
        _EVENT_FIELDS,
        _events,
    ),
)

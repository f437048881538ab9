"""What the events of a model's stream mean. Pure.

Model streams have no common format (docs/fal-http-api.md §8.2): each event is one JSON value, and the
last one is the result. Text models mark theirs with `partial` and `error`. Workflows name theirs with
`type` (§9).
"""

import re
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from falrpc_server.fal_http import error_bodies, json_syntax

__all__ = [
    "BadEvent",
    "ModelEvent",
    "StepCompleted",
    "StepError",
    "StepSubmitted",
    "UnknownEvent",
    "WorkflowEvent",
    "WorkflowFinished",
    "read_model_event",
    "read_workflow_event",
]

_STATUS = re.compile(rb"[1-9][0-9]{2}")
_NOTHING = msgspec.Raw()

_Shape = TypeVar("_Shape", bound=msgspec.Struct)


class BadEvent(Exception):
    """An event's data is not JSON."""


@dataclass(frozen=True, slots=True)
class ModelEvent:
    """What an event tells about the stream's end.

    Attributes:
        is_partial: The model says that more will come.
        is_final: The model says that this is all.
        error_text: The model says that this is an error, in its own words.
    """

    is_partial: bool = False
    is_final: bool = False
    error_text: str = ""


class _ModelBody(msgspec.Struct):
    partial: msgspec.Raw = _NOTHING
    error: msgspec.Raw = _NOTHING


def read_model_event(data: str) -> ModelEvent:
    """Reads one event of a model's stream. Raises BadEvent."""
    body = _members(data, _ModelBody)
    if body is None:
        return ModelEvent()
    return ModelEvent(
        is_partial=bytes(body.partial) == b"true",
        is_final=bytes(body.partial) == b"false",
        error_text=_error_text(body.error) if _is_there(body.error) else "",
    )


def _error_text(error: msgspec.Raw) -> str:
    """A non-null `error` is one, whatever it looks like (§17.4)."""
    return error_bodies.text_of(bytes(error)) or "the model reported an error"


@dataclass(frozen=True, slots=True)
class StepSubmitted:
    """A step was queued."""

    node_id: str
    app_id: str
    request_id: str


@dataclass(frozen=True, slots=True)
class StepCompleted:
    """A step finished. The output is a slice of the event: re-encoding would turn 1e3 into 1000.0."""

    node_id: str
    app_id: str
    output_json: str


@dataclass(frozen=True, slots=True)
class WorkflowFinished:
    """The workflow's output, sliced like a step's."""

    output_json: str


@dataclass(frozen=True, slots=True)
class StepError:
    """A step failed.

    Attributes:
        node_id, app_id: The step, where known.
        message: fal's text.
        http_status: Status of the step's own answer, 0 where fal does not say it.
        body_json: Body of that answer, else as much as fal says of the error.
    """

    node_id: str
    app_id: str
    message: str
    http_status: int
    body_json: str


@dataclass(frozen=True, slots=True)
class UnknownEvent:
    """An event of another kind, or with fields of other types than §9 gives them.

    Attributes:
        json_text: All of it.
        finished_node: The step of which it says that it has finished, though without an output.
    """

    json_text: str
    finished_node: str = ""


WorkflowEvent = StepSubmitted | StepCompleted | WorkflowFinished | StepError | UnknownEvent


class _WorkflowBody(msgspec.Struct):
    """Any types: an error or an output must never pass for an event of another kind."""

    type: msgspec.Raw = _NOTHING
    node_id: msgspec.Raw = _NOTHING
    app_id: msgspec.Raw = _NOTHING
    request_id: msgspec.Raw = _NOTHING
    output: msgspec.Raw = _NOTHING
    message: msgspec.Raw = _NOTHING
    error: msgspec.Raw = _NOTHING


class _StepErrorBody(msgspec.Struct):
    status: msgspec.Raw = _NOTHING
    body: msgspec.Raw = _NOTHING


def read_workflow_event(data: str) -> WorkflowEvent:
    """Reads one event of a workflow's stream (§9). Raises BadEvent."""
    body = _members(data, _WorkflowBody)
    if body is None:
        return UnknownEvent(data)
    node_id, app_id, request_id = _text(body.node_id), _text(body.app_id), _text(body.request_id)
    output = _slice(body.output)
    match _text(body.type):
        case "submit" if all(map(_may_be_text, (body.node_id, body.app_id, body.request_id))):
            return StepSubmitted(node_id, app_id, request_id)  # it has nothing else to tell
        case "completion" if output:
            return StepCompleted(node_id, app_id, output)
        case "completion":
            return UnknownEvent(data, finished_node=node_id)
        case "output" if output:
            return WorkflowFinished(output)
        case "error":
            status, answer = _step_error(_slice(body.error) if _is_there(body.error) else data)
            return StepError(node_id, app_id, _text(body.message), status, answer)
    return UnknownEvent(data)


def _step_error(text: str) -> tuple[int, str]:
    """HTTP status and body of an event's `error`: 0 and all of it where it has no such members."""
    error = json_syntax.members(text, _StepErrorBody) or _StepErrorBody()
    status = bytes(error.status)
    return (
        int(status) if _STATUS.fullmatch(status) else 0,
        _slice(error.body) if _is_there(error.body) else text,
    )


def _members(data: str, shape: type[_Shape]) -> _Shape | None:
    """An event's members, None when it is no object. Raises BadEvent."""
    try:
        body = json_syntax.members(data, shape)
        if body is None:
            json_syntax.decode(data.encode(), msgspec.Raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadEvent(str(error)) from error
    return body


def _is_there(part: msgspec.Raw) -> bool:
    return bytes(part) not in (b"", b"null")


def _may_be_text(part: msgspec.Raw) -> bool:
    return not _is_there(part) or bytes(part).startswith(b'"')


def _text(part: msgspec.Raw) -> str:
    """A member that is text; empty when it is anything else."""
    return json_syntax.decode(bytes(part), str) if bytes(part).startswith(b'"') else ""


def _slice(part: msgspec.Raw) -> str:
    return bytes(part).decode()

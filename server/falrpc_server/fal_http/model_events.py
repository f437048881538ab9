"""What the events of a model's stream mean. Pure.

Model streams have no common format (docs/fal-http-api.md §8.2): each event is one JSON value, and the
last one is the result. Text models mark theirs with `partial` and `error`. Workflows name theirs with
`type` (§9).
"""

from dataclasses import dataclass
from typing import Any

import msgspec

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


class BadEvent(Exception):
    """An event's data is not JSON."""


@dataclass(frozen=True, slots=True)
class ModelEvent:
    """What an event tells about the stream's end.

    Attributes:
        is_partial: The model says that more will come.
        error_text: The model says that this is an error, in its own words.
    """

    is_partial: bool = False
    error_text: str = ""


class _ModelBody(msgspec.Struct):
    partial: Any = None
    error: Any = None


def read_model_event(data: str) -> ModelEvent:
    """Reads one event of a model's stream. Raises BadEvent."""
    body = _decode(data, _ModelBody)
    if not isinstance(body, _ModelBody):
        return ModelEvent()
    text = body.error if isinstance(body.error, str) else ""
    return ModelEvent(is_partial=body.partial is True, error_text=text)


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
    """A step failed."""

    node_id: str
    app_id: str
    message: str
    http_status: int
    body_json: str


@dataclass(frozen=True, slots=True)
class UnknownEvent:
    """An event of another kind, or with fields of other types than §9 gives them."""

    json_text: str


WorkflowEvent = StepSubmitted | StepCompleted | WorkflowFinished | StepError | UnknownEvent


class _StepErrorBody(msgspec.Struct):
    status: int = 0
    body: msgspec.Raw = msgspec.Raw()


class _WorkflowBody(msgspec.Struct):
    type: str | None = None
    node_id: str | None = None
    app_id: str | None = None
    request_id: str | None = None
    output: msgspec.Raw = msgspec.Raw()
    message: str | None = None
    error: _StepErrorBody | None = None


def read_workflow_event(data: str) -> WorkflowEvent:
    """Reads one event of a workflow's stream (§9). Raises BadEvent."""
    try:
        body = _decode(data, _WorkflowBody)
    except msgspec.ValidationError:
        return UnknownEvent(data)
    if not isinstance(body, _WorkflowBody):
        return UnknownEvent(data)
    node_id, app_id = body.node_id or "", body.app_id or ""
    output = bytes(body.output).decode()
    match body.type:
        case "submit":
            return StepSubmitted(node_id, app_id, body.request_id or "")
        case "completion" if output:
            return StepCompleted(node_id, app_id, output)
        case "output" if output:
            return WorkflowFinished(output)
        case "error":
            error = body.error or _StepErrorBody()
            return StepError(node_id, app_id, body.message or "", error.status, bytes(error.body).decode())
    return UnknownEvent(data)


def _decode(data: str, shape: type[msgspec.Struct]) -> Any:
    """The data as the shape, or as it comes when it is no object. Raises BadEvent, ValidationError."""
    try:
        is_object = data.lstrip(" \t\r\n").startswith("{")
        return msgspec.json.decode(data, type=shape if is_object else msgspec.Raw)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadEvent(str(error)) from error

"""What the events of a model's stream mean. Pure.

Model streams have no common format (docs/fal-http-api.md §8.2): each event is one JSON value, and the
last one is the result. Text models mark theirs with `partial` and `error`. Workflows name theirs with
`type` (§9).
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from falrpc_server.fal_http import json_syntax

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
        is_final: The model says that this is all.
        error_text: The model says that this is an error, in its own words.
    """

    is_partial: bool = False
    is_final: bool = False
    error_text: str = ""


class _ModelBody(msgspec.Struct):
    partial: Any = None
    error: Any = None


def read_model_event(data: str) -> ModelEvent:
    """Reads one event of a model's stream. Raises BadEvent."""
    body = _decode(data.encode(), _ModelBody)
    if not isinstance(body, _ModelBody):
        return ModelEvent()
    return ModelEvent(
        is_partial=body.partial is True,
        is_final=body.partial is False,
        error_text=_error_text(body.error),
    )


def _error_text(error: Any) -> str:
    """A non-null `error` is one, whatever it looks like (§17.4)."""
    if error is None:
        return ""
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) and message else "the model reported an error"


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
    """Lenient: an error must never pass for an event of another kind."""

    status: Any = None
    body: msgspec.Raw = msgspec.Raw()


class _WorkflowBody(msgspec.Struct):
    type: str | None = None
    node_id: str | None = None
    app_id: str | None = None
    request_id: str | None = None
    output: msgspec.Raw = msgspec.Raw()
    message: Any = None
    error: msgspec.Raw = msgspec.Raw()


def read_workflow_event(data: str) -> WorkflowEvent:
    """Reads one event of a workflow's stream (§9). Raises BadEvent."""
    text = data.encode()
    try:
        body = _decode(text, _WorkflowBody)
    except msgspec.ValidationError:
        return UnknownEvent(data)
    if not isinstance(body, _WorkflowBody):
        return UnknownEvent(data)
    node_id, app_id = body.node_id or "", body.app_id or ""
    output = json_syntax.text_slice(text, body.output)
    match body.type:
        case "submit":
            return StepSubmitted(node_id, app_id, body.request_id or "")
        case "completion" if output:
            return StepCompleted(node_id, app_id, output)
        case "output" if output:
            return WorkflowFinished(output)
        case "error":
            message = body.message if isinstance(body.message, str) else ""
            status, error_body = _step_error(json_syntax.text_slice(text, body.error).encode())
            return StepError(node_id, app_id, message, status, error_body)
    return UnknownEvent(data)


def _step_error(text: bytes) -> tuple[int, str]:
    """HTTP status and body text of an event's `error`; 0 and empty where it does not say."""
    try:
        error = json_syntax.decode(text, _StepErrorBody)
    except msgspec.DecodeError:
        return 0, ""
    is_status = isinstance(error.status, int) and 100 <= error.status <= 999
    return (error.status if is_status else 0), json_syntax.text_slice(text, error.body)


def _decode(text: bytes, shape: type[msgspec.Struct]) -> Any:
    """The text as the shape, or as it comes when it is no object. Raises BadEvent, ValidationError."""
    try:
        is_object = text.lstrip(b" \t\r\n").startswith(b"{")
        return json_syntax.decode(text, shape if is_object else msgspec.Raw)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadEvent(str(error)) from error

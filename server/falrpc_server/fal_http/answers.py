"""HTTP response parts to values. Pure.

It knows fal's envelopes (docs/fal-http-api.md §5 to §7, §10); error answers are error_bodies.py's affair.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from falrpc_server.fal_http import json_syntax
from falrpc_server.fal_http.models import (
    CallInfo,
    CancelOutcome,
    LogLine,
    Payload,
    QueueState,
    QueueStatus,
    RequestOutcome,
    Submitted,
    is_request_id,
)

__all__ = [
    "Malformed",
    "Truncated",
    "call_info",
    "decode",
    "is_framed",
    "read_cancel",
    "read_output",
    "read_status",
    "read_submitted",
]

INT32_MAX = 2**31 - 1

_T = TypeVar("_T")


class Malformed(Exception):
    """An answer breaks fal's envelope; the message says how."""


class Truncated(Exception):
    """An answer's body is not complete."""


class _SubmitBody(msgspec.Struct):
    request_id: str
    queue_position: int | None = None
    status_url: str | None = None


class _LogBody(msgspec.Struct):
    """Lenient: an odd entry must not hide the state."""

    timestamp: Any = None
    level: Any = None
    source: Any = None
    message: Any = None


class _MetricsBody(msgspec.Struct):
    inference_time: float | None = None


class _StatusBody(msgspec.Struct):
    status: str
    queue_position: int | None = None
    logs: list[_LogBody] | None = None
    metrics: _MetricsBody | None = None
    error: Any = None
    error_type: str | None = None


class _CancelBody(msgspec.Struct):
    status: str | None = None


def read_submitted(body: bytes) -> Submitted:
    """Reads a submission's answer (§7.2). Raises Malformed."""
    answer = decode(body, _SubmitBody)
    if not is_request_id(answer.request_id):
        raise Malformed("request_id is not an id")
    return Submitted(answer.request_id, _position(answer.queue_position), answer.status_url or "")


def read_status(body: bytes) -> QueueStatus:
    """Reads a status body or a status event (§7.3, §7.5). Raises Malformed.

    The outcome is what fal says outright: FAILED or CANCELLED with `error` or `error_type`, else
    UNKNOWN. It is never SUCCEEDED, because a failed model's status may carry neither.
    """
    answer = decode(body, _StatusBody)
    if not answer.status:
        raise Malformed("status without a state")
    try:
        state = QueueState(answer.status)
    except ValueError:
        state = QueueState.UNKNOWN
    outcome = RequestOutcome.UNKNOWN
    if state is QueueState.COMPLETED and (answer.error or answer.error_type):
        cancelled = answer.error_type == "client_cancelled"
        outcome = RequestOutcome.CANCELLED if cancelled else RequestOutcome.FAILED
    return QueueStatus(
        state=state,
        state_word=answer.status if state is QueueState.UNKNOWN else "",
        outcome=outcome,
        queue_position=_position(answer.queue_position) if state is QueueState.IN_QUEUE else None,
        error_type=answer.error_type or "",
        error_message=_text(answer.error),
        inference_seconds=answer.metrics.inference_time if answer.metrics else None,
        logs=tuple(
            LogLine(*(_text(part) for part in (entry.timestamp, entry.level, entry.source, entry.message)))
            for entry in answer.logs or ()
        ),
    )


def read_cancel(body: bytes) -> CancelOutcome:
    """Reads the 2xx answer to a cancellation (§7.7). Total: fal's own documents disagree about it."""
    try:
        return CancelOutcome(decode(body, _CancelBody).status or "")
    except (Malformed, ValueError):
        return CancelOutcome.UNSPECIFIED


def read_output(http_status: int, headers: Mapping[str, str], body: bytes) -> Payload:
    """Reads a model's output (§6.2, §7.6); it is handed on byte for byte. Raises Truncated.

    Only a body whose completeness the framing does not prove is parsed: it must be whole JSON.
    Anything that is not UTF-8 JSON is kept as bytes: a paid answer is never dropped.
    """
    content_type = headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    is_json = media_type in ("application/json", "text/json") or media_type.endswith("+json")
    is_complete = is_framed(http_status, headers)
    if not is_complete or (not content_type and body):
        parses = json_syntax.is_json(body)
        if not is_complete and not parses:
            raise Truncated("neither length nor chunks, and no whole JSON text")
        is_json = is_json or parses
    text = None
    if is_json and body:
        try:
            text = body.decode()
        except UnicodeDecodeError:
            text = None
    return Payload(content_type, body, text, call_info(headers))


def is_framed(http_status: int, headers: Mapping[str, str]) -> bool:
    """Whether a body's end proves that it is complete: by length, by chunks, or because it has none."""
    is_chunked = "chunked" in headers.get("transfer-encoding", "").lower()
    return is_chunked or "content-length" in headers or http_status == 204


def call_info(headers: Mapping[str, str]) -> CallInfo:
    """Reads the headers of §5 that callers are told of."""
    return CallInfo(
        request_id=headers.get("x-fal-request-id", ""),
        billable_units=headers.get("x-fal-billable-units", ""),
        served_from=headers.get("x-fal-served-from", ""),
    )


def _position(value: int | None) -> int | None:
    return None if value is None else max(0, min(value, INT32_MAX))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def decode(body: bytes, shape: type[_T]) -> _T:
    """Reads a body of the envelope. Raises Malformed."""
    try:
        return json_syntax.decode(body, shape)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Malformed(f"{shape.__name__.strip('_')}: {error}") from error

"""Values to HTTP request parts, HTTP response parts to values. Pure: it sends nothing.

It knows fal's URLs, headers and envelopes (docs/fal-http-api.md §3 to §7, §10), and nothing of
transports, retries or callers.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from falrpc_server.fal_http.models import (
    CallInfo,
    CallOptions,
    CancelOutcome,
    EndpointId,
    LogLine,
    Payload,
    QueueOptions,
    QueueState,
    QueueStatus,
    RequestOutcome,
    RequestRef,
    Submitted,
    Upload,
    is_request_id,
)

__all__ = [
    "Hosts",
    "Malformed",
    "Request",
    "Truncated",
    "UploadTarget",
    "call_info",
    "cancel",
    "host_of",
    "initiate_upload",
    "put_upload",
    "read_cancel",
    "read_output",
    "read_status",
    "read_submitted",
    "read_upload_target",
    "result",
    "run",
    "status",
    "status_stream",
    "stream",
    "submit",
]

START_TIMEOUT_SECONDS_MIN = 1.0  # both of fal's clients refuse less, §4

_T = TypeVar("_T")
_Headers = tuple[tuple[str, str], ...]

_JSON = ("Content-Type", "application/json")
_ACCEPT_JSON = (("Accept", "application/json"),)


class Malformed(Exception):
    """An answer breaks fal's envelope; the message says how."""


class Truncated(Exception):
    """An answer's body is not complete."""


@dataclass(frozen=True, slots=True)
class Hosts:
    """Base URLs without a trailing slash (§1), and the hosts that may be sent bytes of uploads."""

    run: str = "https://fal.run"
    queue: str = "https://queue.fal.run"
    rest: str = "https://rest.fal.ai"
    uploads: tuple[str, ...] = ("fal.media",)


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, complete but for the credential."""

    method: str
    url: str
    headers: _Headers = ()
    body: bytes | None = None


def run(hosts: Hosts, endpoint: EndpointId, body: bytes, options: CallOptions) -> Request:
    """A synchronous run (§6.1)."""
    headers = (_JSON, ("Accept", "*/*"), *_option_headers(options))
    return Request("POST", f"{hosts.run}/{endpoint.full}", headers, body)


def stream(hosts: Hosts, endpoint: EndpointId, body: bytes, options: CallOptions) -> Request:
    """A model's or workflow's stream (§8.1, §9)."""
    headers = (_JSON, ("Accept", "text/event-stream"), ("Cache-Control", "no-store"))
    return Request("POST", f"{hosts.run}/{endpoint.full}/stream", headers + _option_headers(options), body)


def submit(
    hosts: Hosts, endpoint: EndpointId, body: bytes, options: CallOptions, queue: QueueOptions
) -> Request:
    """A submission to the queue (§7.2)."""
    headers: _Headers = (_JSON, ("Accept", "application/json"), *_option_headers(options))
    if queue.low_priority:
        headers += (("X-Fal-Queue-Priority", "low"),)
    if queue.no_retry:
        headers += (("X-Fal-No-Retry", "1"),)
    query = {}
    if queue.webhook_url:
        query["fal_webhook"] = queue.webhook_url
    if queue.max_queue_length is not None:
        query["fal_max_queue_length"] = str(queue.max_queue_length)
    url = f"{hosts.queue}/{endpoint.full}"
    return Request("POST", f"{url}?{urlencode(query)}" if query else url, headers, body)


def status(hosts: Hosts, ref: RequestRef, *, logs: bool) -> Request:
    """One look at a queue request (§7.3)."""
    return Request("GET", f"{_request_url(hosts, ref)}/status{'?logs=1' if logs else ''}", _ACCEPT_JSON)


def status_stream(hosts: Hosts, ref: RequestRef, *, logs: bool) -> Request:
    """The status stream of a queue request (§7.5)."""
    url = f"{_request_url(hosts, ref)}/status/stream{'?logs=1' if logs else ''}"
    return Request("GET", url, (("Accept", "text/event-stream"), ("Cache-Control", "no-store")))


def result(hosts: Hosts, ref: RequestRef) -> Request:
    """The outcome of a queue request (§7.6)."""
    return Request("GET", _request_url(hosts, ref), (("Accept", "*/*"),))


def cancel(hosts: Hosts, ref: RequestRef) -> Request:
    """The cancellation of a queue request (§7.7)."""
    return Request("PUT", f"{_request_url(hosts, ref)}/cancel", _ACCEPT_JSON, b"")


def initiate_upload(hosts: Hosts, upload: Upload) -> Request:
    """Asks where to put a file (§10.6)."""
    headers: _Headers = (_JSON, ("Accept", "application/json"))
    if upload.lifecycle_json:
        headers += (("X-Fal-Object-Lifecycle", upload.lifecycle_json),)
    body = json.dumps({"content_type": upload.content_type, "file_name": upload.file_name}).encode()
    return Request("POST", f"{hosts.rest}/storage/upload/initiate?storage_type=fal-cdn-v3", headers, body)


def put_upload(target: "UploadTarget", upload: Upload, size: int) -> Request:
    """Puts a file's bytes at the signed URL (§10.6): no credential, no lifecycle header.

    The length is always declared: signed PUTs often refuse chunked bodies.
    """
    headers = (("Content-Type", upload.content_type), ("Content-Length", str(size)))
    return Request("PUT", target.upload_url, headers)


def _request_url(hosts: Hosts, ref: RequestRef) -> str:
    """Owner and alias only, with the namespace: a path would be refused (§3.2)."""
    return f"{hosts.queue}/{ref.endpoint.queue_base}/requests/{ref.request_id}"


def _option_headers(options: CallOptions) -> _Headers:
    headers: list[tuple[str, str]] = []
    if options.start_timeout_seconds is not None:
        seconds = f"{max(options.start_timeout_seconds, START_TIMEOUT_SECONDS_MIN):.3f}".rstrip("0").rstrip(
            "."
        )
        # Older fronts know the second name only; the first one wins where both are known (§4).
        headers += [("X-Fal-Request-Start-Timeout", seconds), ("X-Fal-Request-Timeout", seconds)]
    if options.runner_hint:
        headers.append(("X-Fal-Runner-Hint", options.runner_hint))
    if options.disable_fallback:
        headers.append(("x-app-fal-disable-fallback", "1"))
    if options.store_io is not None:
        headers.append(("X-Fal-Store-IO", "1" if options.store_io else "0"))
    if options.output_lifecycle_json:
        headers.append(("X-Fal-Object-Lifecycle-Preference", options.output_lifecycle_json))
    if options.tags:
        headers.append(("X-Fal-Tags", ",".join(f"{k}={v}" for k, v in sorted(options.tags.items()))))
    return tuple(headers)


# Answers


class _SubmitBody(msgspec.Struct):
    request_id: str
    queue_position: int | None = None
    status_url: str | None = None


class _LogBody(msgspec.Struct):
    timestamp: str | None = None
    level: str | None = None
    source: str | None = None
    message: str | None = None


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


class _UploadBody(msgspec.Struct):
    upload_url: str
    file_url: str


def read_submitted(body: bytes) -> Submitted:
    """Reads a submission's answer (§7.2). Raises Malformed."""
    answer = _decode(body, _SubmitBody)
    if not is_request_id(answer.request_id):
        raise Malformed("request_id is not an id")
    return Submitted(answer.request_id, answer.queue_position, answer.status_url or "")


def read_status(body: bytes | str) -> QueueStatus:
    """Reads a status body or a status event (§7.3, §7.5). Raises Malformed.

    The outcome is what fal says outright: FAILED or CANCELLED with `error` or `error_type`, else
    UNKNOWN. It is never SUCCEEDED, because a failed model's status may carry neither.
    """
    answer = _decode(body, _StatusBody)
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
        queue_position=answer.queue_position if state is QueueState.IN_QUEUE else None,
        error_type=answer.error_type or "",
        error_message=answer.error if isinstance(answer.error, str) else "",
        inference_seconds=answer.metrics.inference_time if answer.metrics else None,
        logs=tuple(
            LogLine(entry.timestamp or "", entry.level or "", entry.source or "", entry.message or "")
            for entry in answer.logs or ()
        ),
    )


def read_cancel(body: bytes) -> CancelOutcome:
    """Reads the 2xx answer to a cancellation (§7.7). Total: fal's own documents disagree about it."""
    try:
        return CancelOutcome(_decode(body, _CancelBody).status or "")
    except (Malformed, ValueError):
        return CancelOutcome.UNSPECIFIED


@dataclass(frozen=True, slots=True)
class UploadTarget:
    """Where to put a file, and where it can be read then (§10.6)."""

    upload_url: str
    file_url: str

    def is_allowed(self, hosts: Hosts) -> bool:
        """Whether the bytes may go there: https (or a loopback address) at a listed host or below it."""
        try:
            parts, host = urlsplit(self.upload_url), host_of(self.upload_url)
        except ValueError:
            return False
        if "@" in parts.netloc or not host:
            return False
        listed = any(host == name or host.endswith(f".{name}") for name in hosts.uploads)
        return listed and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)))


def host_of(url: str) -> str:
    """The host name of a URL in lower case, empty when it has none. Raises ValueError for nonsense."""
    return (urlsplit(url).hostname or "").lower()


def is_loopback(host: str) -> bool:
    """Whether a URL's host name is this machine: the only place where plain http is fit for a key."""
    return host in ("localhost", "::1") or (host.startswith("127.") and host.replace(".", "").isdigit())


def read_upload_target(body: bytes) -> UploadTarget:
    """Reads an upload initiation's answer (§10.6). Raises Malformed."""
    answer = _decode(body, _UploadBody)
    return UploadTarget(answer.upload_url, answer.file_url)


def read_output(headers: Mapping[str, str], body: bytes) -> Payload:
    """Reads a model's output (§6.2, §7.6); it is handed on byte for byte. Raises Truncated.

    Only a body whose completeness the framing does not prove is parsed: it must be whole JSON.
    Anything that is not UTF-8 JSON is kept as bytes: a paid answer is never dropped.
    """
    content_type = headers.get("content-type", "")
    is_framed = "content-length" in headers or "chunked" in headers.get("transfer-encoding", "").lower()
    is_json = "json" in content_type.lower()
    if not is_framed or (not content_type and body):
        parses = _is_json_text(body)
        if not is_framed and not parses:
            raise Truncated("neither length nor chunks, and no whole JSON text")
        is_json = is_json or parses
    text = None
    if is_json and body:
        try:
            text = body.decode()
        except UnicodeDecodeError:
            text = None
    return Payload(content_type, body, text, call_info(headers))


def call_info(headers: Mapping[str, str]) -> CallInfo:
    """Reads the headers of §5 that callers are told of."""
    return CallInfo(
        request_id=headers.get("x-fal-request-id", ""),
        billable_units=headers.get("x-fal-billable-units", ""),
        served_from=headers.get("x-fal-served-from", ""),
    )


def _is_json_text(body: bytes) -> bool:
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _decode(body: bytes | str, shape: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Malformed(f"{shape.__name__.strip('_')}: {error}") from error

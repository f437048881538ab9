"""Requests of FalService to the values that fal's client takes. Pure.

Each function reads one request message, notes every violation, and raises InvalidRequest once.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from falrpc import v1
from falrpc_server.fal_http.models import (
    CallOptions,
    EndpointId,
    QueueOptions,
    RequestRef,
    Upload,
)
from falrpc_server.fal_http.upload_errors import UploadTooLarge
from falrpc_server.translate import fields, json_text
from falrpc_server.translate.violations import Violations

__all__ = [
    "Attachment",
    "PaidCall",
    "StreamStatusCall",
    "SubmitCall",
    "SubscribeCall",
    "UploadCall",
    "cancel",
    "result",
    "run",
    "status",
    "stream",
    "stream_status",
    "submit",
    "subscribe",
    "upload",
]

FILE_NAME_BYTES_MAX = 255

_CONTENT_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,64}/[A-Za-z0-9!#$&^_.+-]{1,64}( *; *[ -~]{1,128})?")


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file to upload before the call, and the name that the input uses for it."""

    name: str
    upload: Upload
    data: bytes


@dataclass(frozen=True, slots=True)
class PaidCall:
    """What Run, Stream and StreamWorkflow ask for."""

    endpoint: EndpointId
    body: bytes
    options: CallOptions
    attachments: tuple[Attachment, ...] = ()
    heartbeat_seconds: float | None = None
    """None for the server's default, 0 for none."""


@dataclass(frozen=True, slots=True)
class SubmitCall:
    """What Submit asks for."""

    call: PaidCall
    queue: QueueOptions


@dataclass(frozen=True, slots=True)
class StreamStatusCall:
    """What StreamStatus asks for."""

    ref: RequestRef
    include_logs: bool
    heartbeat_seconds: float | None


@dataclass(frozen=True, slots=True)
class SubscribeCall:
    """What Subscribe asks for: to submit a request, or to attach to one."""

    target: SubmitCall | RequestRef
    cancels_when_abandoned: bool
    include_logs: bool
    heartbeat_seconds: float | None


@dataclass(frozen=True, slots=True)
class UploadCall:
    """What an upload's header says."""

    upload: Upload
    size: int | None
    sha256: bytes


class _PaidRequest(Protocol):
    """The fields that the requests of all paid calls share."""

    endpoint_id: str

    @property
    def input(self) -> v1.Input: ...
    @property
    def options(self) -> v1.CallOptions: ...
    @property
    def attachments(self) -> Mapping[str, v1.Attachment]: ...


def run(request: v1.RunRequest, input_bytes_max: int) -> PaidCall:
    """Reads a RunRequest."""
    violations = Violations()
    call = _paid_call(request, input_bytes_max, violations)
    violations.check()
    return call


def stream(request: v1.StreamRequest | v1.StreamWorkflowRequest, input_bytes_max: int) -> PaidCall:
    """Reads the request of Stream or StreamWorkflow."""
    violations = Violations()
    heartbeat = _heartbeat(request, violations)
    call = _paid_call(request, input_bytes_max, violations, heartbeat_seconds=heartbeat)
    violations.check()
    return call


def submit(request: v1.SubmitRequest, input_bytes_max: int) -> SubmitCall:
    """Reads a SubmitRequest."""
    violations = Violations()
    call = _submit_call(request, input_bytes_max, violations)
    violations.check()
    return call


def status(request: v1.StatusRequest) -> RequestRef:
    """Reads a StatusRequest."""
    return _only_handle(request.handle)


def cancel(request: v1.CancelRequest) -> RequestRef:
    """Reads a CancelRequest."""
    return _only_handle(request.handle)


def result(request: v1.ResultRequest) -> tuple[RequestRef, float | None]:
    """Reads a ResultRequest: which request, and how many seconds to wait (None: answer now)."""
    violations = Violations()
    ref = fields.handle("handle", request.handle, violations)
    wait = None
    if request.HasField("wait"):
        wait = fields.seconds("wait", request.wait, violations)
    violations.check()
    return ref, wait


def stream_status(request: v1.StreamStatusRequest) -> StreamStatusCall:
    """Reads a StreamStatusRequest."""
    violations = Violations()
    ref = fields.handle("handle", request.handle, violations)
    heartbeat = _heartbeat(request, violations)
    violations.check()
    return StreamStatusCall(ref, request.include_logs, heartbeat)


def subscribe(request: v1.SubscribeRequest, input_bytes_max: int) -> SubscribeCall:
    """Reads a SubscribeRequest."""
    violations = Violations()
    kind = request.WhichOneof("target")
    if kind is None:
        violations.add("target", "is required: submit or attach")
    target: SubmitCall | RequestRef
    if kind == "submit":
        target = _submit_call(request.submit, input_bytes_max, violations, "submit.")
    else:
        target = fields.handle("attach", request.attach, violations if kind else Violations())
    fields.known_enum("on_abandon", v1.AbandonPolicy.DESCRIPTOR, request.on_abandon, violations)
    heartbeat = _heartbeat(request, violations)
    violations.check()
    policy = request.on_abandon
    if policy == v1.AbandonPolicy.ABANDON_POLICY_UNSPECIFIED:
        cancels = kind == "submit"
    else:
        cancels = policy == v1.AbandonPolicy.ABANDON_POLICY_CANCEL
    return SubscribeCall(target, cancels, request.include_logs, heartbeat)


def upload(header: v1.UploadHeader, upload_bytes_max: int) -> UploadCall:
    """Reads the header of an upload. Raises UploadTooLarge, too."""
    violations = Violations()
    described = _upload("header.", header.file_name, header.content_type, violations)
    size = header.size if header.HasField("size") else None
    if size is not None and size < 1:
        violations.add("header.size", "must be positive: an empty file is none")
    if len(header.sha256) not in (0, 32):
        violations.add("header.sha256", "must be the 32 bytes of a SHA-256")
    lifecycle = ""
    if header.HasField("lifecycle"):
        lifecycle = fields.lifecycle("header.lifecycle", header.lifecycle, violations)
    violations.check()
    if size is not None and size > upload_bytes_max:
        raise UploadTooLarge(upload_bytes_max, is_declared=True)
    return UploadCall(Upload(described.file_name, described.content_type, lifecycle), size, header.sha256)


def _only_handle(handle: v1.RequestHandle) -> RequestRef:
    violations = Violations()
    ref = fields.handle("handle", handle, violations)
    violations.check()
    return ref


def _submit_call(
    request: v1.SubmitRequest, input_bytes_max: int, violations: Violations, prefix: str = ""
) -> SubmitCall:
    call = _paid_call(request, input_bytes_max, violations, prefix)
    return SubmitCall(call, fields.queue_options(f"{prefix}queue", request.queue, violations))


def _paid_call(
    request: _PaidRequest,
    input_bytes_max: int,
    violations: Violations,
    prefix: str = "",
    heartbeat_seconds: float | None = None,
) -> PaidCall:
    endpoint = fields.endpoint(f"{prefix}endpoint_id", request.endpoint_id, violations)
    found = len(violations.found)
    body = _input(f"{prefix}input", request.input, input_bytes_max, violations)
    is_input_right = len(violations.found) == found
    options = fields.call_options(f"{prefix}options", request.options, violations)
    attachments: tuple[Attachment, ...] = ()
    if is_input_right:  # else there is nothing to compare the names with
        attachments = _attachments(f"{prefix}attachments", request.attachments, body, violations)
    return PaidCall(endpoint, body, options, attachments, heartbeat_seconds)


def _input(name: str, value: v1.Input, bytes_max: int, violations: Violations) -> bytes:
    kind = value.WhichOneof("value")
    if kind is None:
        return b"{}"
    if kind == "json":
        body = value.json.encode()
    else:
        body, problems = json_text.struct_to_json(value.object)
        for problem in problems:
            violations.add(f"{name}.{problem.path}".rstrip("."), problem.description)
    if len(body) > bytes_max:
        violations.add(f"{name}.{kind}", f"must be at most {bytes_max} bytes of JSON: it has {len(body)}")
    elif kind == "json":
        try:
            json_text.check_object(body)
        except json_text.BadJson as error:
            violations.add(f"{name}.json", str(error))
    return body


def _attachments(
    name: str, declared: Mapping[str, v1.Attachment], body: bytes, violations: Violations
) -> tuple[Attachment, ...]:
    if not declared:
        return ()
    used = json_text.attachment_names(body)
    for missing in sorted(used - set(declared)):
        violations.add(f"{name}[{missing!r}]", "is used in the input but not declared")
    attachments = []
    for key, value in sorted(declared.items()):
        if not json_text.ATTACHMENT_NAME.fullmatch(key):
            violations.add(f"{name}[{key!r}]", "must be named with 1 to 64 letters, digits, '_', '.' or '-'")
        elif key not in used:
            violations.add(f"{name}[{key!r}]", f"is declared but no string in the input is attachment:{key}")
        if not value.data:
            violations.add(f"{name}[{key!r}].data", "is required: an empty file is none")
        file_name = value.file_name or key
        described = _upload(f"{name}[{key!r}].", file_name, value.content_type, violations)
        attachments.append(Attachment(key, described, value.data))
    return tuple(attachments)


def _upload(prefix: str, file_name: str, content_type: str, violations: Violations) -> Upload:
    if not file_name:
        violations.add(f"{prefix}file_name", "is required")
    elif len(file_name.encode()) > FILE_NAME_BYTES_MAX:
        violations.add(f"{prefix}file_name", f"must be at most {FILE_NAME_BYTES_MAX} bytes of UTF-8")
    elif file_name in (".", "..") or not file_name.isprintable() or set(file_name) & set("/\\"):
        violations.add(f"{prefix}file_name", "must be a printable name without directories")
    if content_type and not _CONTENT_TYPE.fullmatch(content_type):
        violations.add(f"{prefix}content_type", "must be a media type such as image/png")
    return Upload(file_name, content_type)


def _heartbeat(
    request: v1.StreamRequest | v1.StreamWorkflowRequest | v1.StreamStatusRequest | v1.SubscribeRequest,
    violations: Violations,
) -> float | None:
    if not request.HasField("heartbeat_interval"):
        return None
    name = "heartbeat_interval"
    seconds = fields.seconds(name, request.heartbeat_interval, violations)
    if 0 < seconds < 1:
        violations.add(name, "must be 0 (none) or at least 1 s")
    return seconds

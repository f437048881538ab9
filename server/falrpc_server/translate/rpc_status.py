"""Verdicts as google.rpc.Status, within the size that every client can read. Pure.

Details travel in trailers, and grpc-java reads at most 8,192 bytes of them, base64 counted. So the
serialized status stays within 4,096 bytes and the message within 300 bytes of percent-encoding; what is
left out is counted in ErrorInfo's metadata entry `truncated`.
"""

from collections.abc import Iterator

from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import error_details_pb2, status_pb2

from falrpc_server.translate.error_texts import cut_bytes
from falrpc_server.translate.verdicts import Verdict

__all__ = ["DETAILS_HEADER", "MESSAGE_BYTES_MAX", "STATUS_BYTES_MAX", "status_of"]

DETAILS_HEADER = "grpc-status-details-bin"
STATUS_BYTES_MAX = 4_096
MESSAGE_BYTES_MAX = 300
TEXT_BYTES_MAX = 300
URL_BYTES_MAX = 200
HELP_LINKS_MAX = 5
TRUNCATED_BYTES = 60  # what the entry `truncated` may take


def status_of(verdict: Verdict) -> status_pb2.Status:
    """Returns the status.

    ErrorInfo is always there; the other details as long as there is room, most useful first; and as many
    violations as fit.
    """
    info = error_details_pb2.ErrorInfo(
        reason=verdict.reason, domain=verdict.domain, metadata=verdict.metadata
    )
    status = status_pb2.Status(code=verdict.code, message=cut_percent_encoded(verdict.message))
    room = STATUS_BYTES_MAX - status.ByteSize() - _cost(info) - TRUNCATED_BYTES
    details: list[message.Message] = []
    for detail in _details(verdict):
        if _cost(detail) <= room:
            room -= _cost(detail)
            details.append(detail)
    bad_request, left_out = _bad_request(verdict, room)
    if bad_request.field_violations:
        details.insert(0, bad_request)
    if left_out:
        info.metadata["truncated"] = f"{left_out} field violations"
    for detail in (info, *details):
        status.details.add().Pack(detail)
    return status


def _details(verdict: Verdict) -> Iterator[message.Message]:
    """All details but ErrorInfo and BadRequest, most useful first."""
    if verdict.retry_seconds is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(verdict.retry_seconds * 1000))
        yield error_details_pb2.RetryInfo(retry_delay=delay)
    if verdict.request_id:
        yield error_details_pb2.RequestInfo(request_id=cut_bytes(verdict.request_id, TEXT_BYTES_MAX))
    if verdict.quota:
        quota = error_details_pb2.QuotaFailure.Violation(
            subject=verdict.quota, description=cut_bytes(verdict.quota_text, TEXT_BYTES_MAX)
        )
        yield error_details_pb2.QuotaFailure(violations=[quota])
    if verdict.precondition:
        kind, subject = verdict.precondition
        failed = error_details_pb2.PreconditionFailure.Violation(
            type=kind,
            subject=cut_bytes(subject, TEXT_BYTES_MAX),
            description=cut_bytes(verdict.message, TEXT_BYTES_MAX),
        )
        yield error_details_pb2.PreconditionFailure(violations=[failed])
    if verdict.resource:
        kind, name = verdict.resource
        yield error_details_pb2.ResourceInfo(
            resource_type=kind, resource_name=cut_bytes(name, TEXT_BYTES_MAX)
        )
    urls = [url for url in verdict.help_urls if len(url.encode()) <= URL_BYTES_MAX][:HELP_LINKS_MAX]
    if urls:
        yield error_details_pb2.Help(links=[error_details_pb2.Help.Link(url=url) for url in urls])


def _bad_request(verdict: Verdict, room: int) -> tuple[error_details_pb2.BadRequest, int]:
    """The violations that fit, and how many do not."""
    bad_request = error_details_pb2.BadRequest()
    room -= _cost(bad_request) + 4  # its own length prefixes grow with it
    for violation in verdict.violations:
        entry = error_details_pb2.BadRequest.FieldViolation(
            field=violation.field,
            description=cut_bytes(violation.description, TEXT_BYTES_MAX),
            reason=violation.reason,
        )
        room -= entry.ByteSize() + 4
        if room < 0:
            break
        bad_request.field_violations.append(entry)
    left_out = len(verdict.violations) - len(bad_request.field_violations)
    return bad_request, left_out + verdict.violations_left_out


def _cost(detail: message.Message) -> int:
    """How many bytes a detail takes inside a Status."""
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed.ByteSize() + 4


def cut_percent_encoded(text: str, bytes_max: int = MESSAGE_BYTES_MAX) -> str:
    """Cuts a status message so that its percent-encoding in `grpc-message` keeps within the limit."""

    def size(character: str) -> int:
        return 1 if " " <= character <= "~" and character != "%" else 3 * len(character.encode())

    if sum(map(size, text)) <= bytes_max:
        return text
    left = bytes_max - size("…")
    kept = []
    for character in text:
        left -= size(character)
        if left < 0:
            break
        kept.append(character)
    return "".join(kept) + "…"

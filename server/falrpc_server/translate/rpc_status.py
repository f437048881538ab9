"""Verdicts as google.rpc.Status, within the size that every client can read. Pure.

Details travel in trailers, and grpc-java reads at most 8,192 bytes of them, base64 counted. So the
serialized status stays within 4,096 bytes and the message within 300 bytes of percent-encoding; what is
left out is counted in ErrorInfo's metadata entry `truncated`.
"""

from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import error_details_pb2, status_pb2

from falrpc_server.translate.verdicts import FieldViolation, Verdict

__all__ = ["DETAILS_HEADER", "MESSAGE_BYTES_MAX", "STATUS_BYTES_MAX", "status_of"]

DETAILS_HEADER = "grpc-status-details-bin"
STATUS_BYTES_MAX = 4_096
MESSAGE_BYTES_MAX = 300
DESCRIPTION_CHARACTERS_MAX = 300
HELP_LINKS_MAX = 5
TEXT_CHARACTERS_MAX = 200


def status_of(verdict: Verdict) -> status_pb2.Status:
    """Returns the status: ErrorInfo first, then the other details, as many violations as fit last."""
    info = error_details_pb2.ErrorInfo(
        reason=verdict.reason, domain=verdict.domain, metadata=verdict.metadata
    )
    details: list[message.Message] = []
    if verdict.retry_seconds is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(verdict.retry_seconds * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if verdict.quota:
        quota = error_details_pb2.QuotaFailure.Violation(
            subject=verdict.quota.value, description=_cut(verdict.quota_text, TEXT_CHARACTERS_MAX)
        )
        details.append(error_details_pb2.QuotaFailure(violations=[quota]))
    if verdict.precondition:
        kind, subject = verdict.precondition
        failed = error_details_pb2.PreconditionFailure.Violation(
            type=kind, subject=_cut(subject, TEXT_CHARACTERS_MAX), description=_cut(verdict.message, 200)
        )
        details.append(error_details_pb2.PreconditionFailure(violations=[failed]))
    if verdict.resource:
        kind, name = verdict.resource
        details.append(
            error_details_pb2.ResourceInfo(resource_type=kind, resource_name=_cut(name, TEXT_CHARACTERS_MAX))
        )
    if verdict.request_id:
        details.append(error_details_pb2.RequestInfo(request_id=_cut(verdict.request_id, 128)))
    if verdict.help_urls:
        links = [
            error_details_pb2.Help.Link(url=url)
            for url in verdict.help_urls[:HELP_LINKS_MAX]
            if len(url) <= 200
        ]
        details.append(error_details_pb2.Help(links=links))
    return _fitted(verdict, info, details)


def _fitted(
    verdict: Verdict, info: error_details_pb2.ErrorInfo, details: list[message.Message]
) -> status_pb2.Status:
    fixed = _packed(verdict, [info, *details])
    if not verdict.violations:
        return fixed
    # `truncated`, the BadRequest's own wrapping and length prefixes take some bytes, too.
    room = STATUS_BYTES_MAX - fixed.ByteSize() - 150
    bad_request = error_details_pb2.BadRequest()
    for violation in verdict.violations:
        entry = _violation(violation)
        room -= entry.ByteSize() + 4
        if room < 0:
            break
        bad_request.field_violations.append(entry)
    left_out = len(verdict.violations) - len(bad_request.field_violations) + verdict.violations_left_out
    if left_out:
        info.metadata["truncated"] = f"{left_out} field violations"
    return _packed(verdict, [info, bad_request, *details])


def _packed(verdict: Verdict, details: list[message.Message]) -> status_pb2.Status:
    status = status_pb2.Status(code=verdict.code, message=cut_percent_encoded(verdict.message))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _violation(violation: FieldViolation) -> error_details_pb2.BadRequest.FieldViolation:
    return error_details_pb2.BadRequest.FieldViolation(
        field=violation.field,
        description=_cut(violation.description, DESCRIPTION_CHARACTERS_MAX),
        reason=violation.reason,
    )


def _cut(text: str, characters_max: int) -> str:
    return text if len(text) <= characters_max else f"{text[: characters_max - 1]}…"


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

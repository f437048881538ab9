"""What a failed call is told: from our exceptions to one verdict with all its details. Pure.

It knows the table (status_table.py) and what fal's error bodies carry; how a verdict becomes bytes is
rpc_status.py's affair.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from google.rpc import code_pb2

from falrpc_server.fal_http.error_bodies import DetailItem, ErrorAnswer, Failure, FalError
from falrpc_server.fal_http.upload_errors import UploadMismatch, UploadTooLarge
from falrpc_server.translate import status_rules, status_table
from falrpc_server.translate.error_texts import cut_bytes, field_path, printable, reason_word
from falrpc_server.translate.status_table import Delivery, Quota, Row
from falrpc_server.translate.violations import InvalidRequest, Violation

__all__ = [
    "FieldViolation",
    "Source",
    "Verdict",
    "listed",
    "of_attachment",
    "of_fal_error",
    "of_invalid_request",
    "of_upload_mismatch",
    "of_upload_stalled",
    "of_upload_too_large",
    "present",
]

OWN_DOMAIN = "falrpc"
FAL_DOMAIN = "fal.ai"
BILLING_URL = "https://fal.ai/dashboard/billing"
RETRY_SECONDS_DEFAULT = 1.0
METADATA_BYTES_MAX = 160

_GATEWAYS = (
    status_table.OWN_KEY_REFUSED,
    status_table.HOST_REFUSED,
    status_table.TOO_LARGE,
    status_table.BUSY,
)
_CALLERS = (
    code_pb2.INVALID_ARGUMENT,
    code_pb2.NOT_FOUND,
    code_pb2.FAILED_PRECONDITION,
    code_pb2.UNAUTHENTICATED,
)


class Source(Enum):
    """Whose affair a failure is: what an operator asks first."""

    CALLER = "caller"
    GATEWAY = "gateway"
    FAL = "fal"
    ACCOUNT = "account"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One entry of google.rpc.BadRequest."""

    field: str
    description: str
    reason: str = ""


@dataclass(slots=True)
class Verdict:
    """Everything that a caller is told about a failed call.

    Attributes:
        code: A google.rpc.Code.
        message: The public sentence.
        reason, domain, metadata: google.rpc.ErrorInfo.
        violations, violations_left_out: google.rpc.BadRequest, and how many more there were.
        retry_seconds: google.rpc.RetryInfo, None for none.
        quota, quota_text: The subject and description of google.rpc.QuotaFailure; empty for none.
        precondition: Type and subject of google.rpc.PreconditionFailure.
        resource: Type and name of google.rpc.ResourceInfo.
        request_id: google.rpc.RequestInfo.
        help_urls: google.rpc.Help.
        source: Whose affair it is, for the log.
        http_status: What fal answered, for the log; 0 when it did not.
    """

    code: int
    message: str
    reason: str
    domain: str = OWN_DOMAIN
    metadata: dict[str, str] = field(default_factory=dict)
    violations: Sequence[FieldViolation] = ()
    violations_left_out: int = 0
    retry_seconds: float | None = None
    quota: str = ""
    quota_text: str = ""
    precondition: tuple[str, str] | None = None
    resource: tuple[str, str] | None = None
    request_id: str = ""
    help_urls: Sequence[str] = ()
    source: Source = Source.GATEWAY
    http_status: int = 0


def of_invalid_request(error: InvalidRequest) -> Verdict:
    """The caller's request breaks our rules: nothing was sent."""
    found = [FieldViolation(v.field, v.description) for v in error.violations]
    others = len(found) - 1 + error.left_out
    more = f" (+{others} more)" if others else ""
    return Verdict(
        code=code_pb2.INVALID_ARGUMENT,
        message=f"{found[0].field}: {found[0].description}{more}",
        reason="INVALID_REQUEST",
        metadata={"delivery": Delivery.NOT_SENT.value},
        violations=found,
        violations_left_out=error.left_out,
        source=Source.CALLER,
    )


def of_upload_mismatch(error: UploadMismatch) -> Verdict:
    """The messages of an upload are not what its header said, or no chunks: no URL was made."""
    verdict = of_invalid_request(InvalidRequest([Violation(error.field, error.description)]))
    verdict.reason = "UPLOAD_MISMATCH"
    verdict.metadata["delivery"] = Delivery.UNKNOWN.value
    return verdict


def of_upload_too_large(error: UploadTooLarge) -> Verdict:
    """A file is larger than what is taken: no URL was made."""
    delivery = Delivery.NOT_SENT if error.is_declared else Delivery.UNKNOWN
    return Verdict(
        code_pb2.RESOURCE_EXHAUSTED,
        f"the file has more than {error.bytes_max} bytes",
        "UPLOAD_TOO_LARGE",
        metadata={"delivery": delivery.value, "limit_bytes": str(error.bytes_max)},
        source=Source.CALLER,
    )


def of_upload_stalled() -> Verdict:
    """The sender of a file was silent, or slow, for too long: no URL was made."""
    return Verdict(
        code_pb2.ABORTED,
        "the file came too slowly",
        "UPLOAD_STALLED",
        metadata={"delivery": Delivery.UNKNOWN.value},
        source=Source.CALLER,
    )


def of_fal_error(error: FalError, *, paid_request_accepted: bool = False) -> Verdict:
    """An exchange with fal failed.

    Args:
        error: The failure.
        paid_request_accepted: Whether the same call has submitted a request that goes on. Then a read
            that failed must not look repeatable: the remedy is Subscribe with `attach`.
    """
    verdict = _of_fal_error(error)
    if paid_request_accepted and not error.is_stored:
        verdict = Verdict(
            code_pb2.UNKNOWN,
            "the request was accepted and can no longer be followed; attach to it",
            "OUTCOME_UNKNOWN",
            metadata=verdict.metadata | {"delivery": Delivery.ACCEPTED.value},
            request_id=verdict.request_id,
            source=Source.FAL,
            http_status=verdict.http_status,
        )
        if error.failure in (Failure.TOO_LARGE, Failure.MALFORMED):  # attaching meets the same again
            row = status_rules.row_of(error)
            verdict.reason, verdict.message = row.reason, row.text
    return verdict


def of_attachment(error: FalError, endpoint_id: str) -> Verdict:
    """An attachment could not be uploaded: the request that it belongs to was not sent."""
    verdict = _of_fal_error(error)
    verdict.metadata |= present(delivery=Delivery.NOT_SENT.value, endpoint_id=endpoint_id)
    verdict.metadata.pop("request_id", None)
    verdict.request_id = ""
    return verdict


def _of_fal_error(error: FalError) -> Verdict:
    row = status_rules.row_of(error)
    answer = error.answer or ErrorAnswer(error.http_status)
    if error.operation.has_own_credential:  # storage's words may repeat the signed URL, or the token
        answer = replace(answer, text="", items=(), items_left_out=0)
    code = status_rules.code_of(error, row)
    violations = _violations(error, answer)
    verdict = Verdict(
        code=code,
        message=row.text or _sentence(error, answer, violations),
        reason=row.reason or _fal_reason(error, answer),
        domain=OWN_DOMAIN if row.reason else FAL_DOMAIN,
        metadata=_metadata(error, answer, status_rules.delivery_of(error, row)),
        request_id=error.request_id or answer.request_id,
        source=_source(row, code),
        http_status=error.http_status,
    )
    if error.failure is Failure.ANSWER and not row.text:
        verdict.violations = violations
        verdict.violations_left_out = answer.items_left_out
        urls = [item.url for item in answer.items if item.url.startswith("https://")]
        verdict.help_urls = list(dict.fromkeys(urls))
    verdict.retry_seconds = _retry_seconds(error, row, code, answer)
    if row.quota:
        verdict.quota, verdict.quota_text = row.quota.value, row.text or answer.text
        if row.quota is Quota.BALANCE:
            verdict.help_urls = [BILLING_URL]
    if row.precondition:
        verdict.precondition = (verdict.reason, verdict.request_id or error.endpoint_id)
    if code == code_pb2.NOT_FOUND:
        verdict.resource = _resource(error, row)
    return verdict


def _source(row: Row, code: int) -> Source:
    if row in _GATEWAYS:
        return Source.GATEWAY
    if row in (status_table.QUEUE_TOO_LONG, status_table.START_TIMEOUT):
        return Source.CALLER
    if row.quota or code == code_pb2.PERMISSION_DENIED:
        return Source.ACCOUNT
    return Source.CALLER if code in _CALLERS else Source.FAL


def _resource(error: FalError, row: Row) -> tuple[str, str] | None:
    if row is status_table.REQUEST_NOT_FOUND:
        return "fal.request", error.request_id
    name = error.app_id if error.node_id else error.endpoint_id
    return ("fal.model", name) if name else None


def _violations(error: FalError, answer: ErrorAnswer) -> list[FieldViolation]:
    found = [
        FieldViolation(field_path(item.loc), item.msg or item.type, reason_word(item.type))
        for item in answer.items
    ]
    if not found and answer.text and (error.operation.is_paid or error.is_stored):
        if answer.http_status in (413, 422):
            found.append(FieldViolation("input", answer.text))
        elif answer.error_type == "bad_request" and not error.node_id:  # fal means its headers (§12.1)
            found.append(FieldViolation("options", answer.text, reason_word(answer.error_type)))
    return found


def _sentence(error: FalError, answer: ErrorAnswer, violations: Sequence[FieldViolation]) -> str:
    if error.failure is not Failure.ANSWER:
        return printable(error.text)
    if answer.text:
        return answer.text
    if violations:
        more = len(violations) + answer.items_left_out - 1
        first = violations[0]
        return f"{first.field}: {first.description}" + (f" (+{more} more)" if more else "")
    return f"HTTP {answer.http_status} from fal" if answer.http_status else "a failure without a reason"


def _fal_reason(error: FalError, answer: ErrorAnswer) -> str:
    types = [answer.error_type, *(item.type for item in answer.items)]
    # The item that decided the code names the reason, else the first one does.
    decisive = [t for t in types if t in status_table.REQUEST_ERRORS or t in status_table.MODEL_ERRORS]
    for candidate in (*decisive, *types):
        if reason := reason_word(candidate):
            return reason
    return f"HTTP_{answer.http_status}"


def _metadata(error: FalError, answer: ErrorAnswer, delivery: Delivery) -> dict[str, str]:
    types: Sequence[DetailItem] = answer.items
    names = ",".join(dict.fromkeys(item.type for item in types if item.type))
    return present(
        delivery=delivery.value,
        endpoint_id=error.endpoint_id,
        request_id=error.request_id or answer.request_id,
        http_status=str(error.http_status) if error.http_status else "",
        node_id=error.node_id,
        app_id=error.app_id,
        error_types=names,
        needs_retry="" if answer.needs_retry is None else str(answer.needs_retry).lower(),
        timeout_type=answer.timeout_type,
        billable_units=answer.billable_units,
        location=answer.location_host if 300 <= answer.http_status < 400 else "",
    )


def present(**entries: str) -> dict[str, str]:
    """Entries of ErrorInfo's metadata: those that are not empty, cut."""
    return {
        name: cut_bytes(printable(value[: METADATA_BYTES_MAX + 1]), METADATA_BYTES_MAX)
        for name, value in entries.items()
        if value
    }


def listed(names: Sequence[str]) -> str:
    """As many whole names as an entry of metadata has room for, and how many more there are."""
    text = ",".join(names)
    shown = len(names)
    while shown and len(text.encode()) > METADATA_BYTES_MAX:
        shown -= 1
        text = ",".join([*names[:shown], f"+{len(names) - shown}"])
    return text


def _retry_seconds(error: FalError, row: Row, code: int, answer: ErrorAnswer) -> float | None:
    """Only when repeating this call can help: never for a stored outcome, never for the balance."""
    if error.is_stored or row.quota is Quota.BALANCE:
        return None
    can_help = code in (code_pb2.UNAVAILABLE, code_pb2.RESOURCE_EXHAUSTED) or (
        row is status_table.NOT_COMPLETED
    )
    if not can_help or error.failure is Failure.TOO_LARGE:
        return None
    return RETRY_SECONDS_DEFAULT if error.retry_after_seconds is None else error.retry_after_seconds

"""The one table from fal's failures to gRPC status codes (docs/fal-http-api.md §17). Pure.

A failure is looked up in this order: what happened to the exchange, special answers, fal's `error_type`,
the model error's `type`, the HTTP status. Each row has three codes:

* paid: a paid call that was answered or cut now (Run, Submit, Stream, StreamWorkflow);
* read: any other call that was answered or cut now;
* stored: the outcome of a finished request, or of a workflow's step. Reading it again returns it again,
  so it is never UNAVAILABLE.
"""

from dataclasses import dataclass
from enum import Enum

from google.rpc import code_pb2

from falrpc_server.fal_http.error_bodies import Failure, FalError
from falrpc_server.fal_http.models import NAMESPACES, Operation

__all__ = ["Delivery", "Quota", "Row", "code_of", "delivery_of", "row_of"]

INVALID_ARGUMENT: int = code_pb2.INVALID_ARGUMENT
DEADLINE_EXCEEDED: int = code_pb2.DEADLINE_EXCEEDED
NOT_FOUND: int = code_pb2.NOT_FOUND
PERMISSION_DENIED: int = code_pb2.PERMISSION_DENIED
RESOURCE_EXHAUSTED: int = code_pb2.RESOURCE_EXHAUSTED
FAILED_PRECONDITION: int = code_pb2.FAILED_PRECONDITION
ABORTED: int = code_pb2.ABORTED
UNIMPLEMENTED: int = code_pb2.UNIMPLEMENTED
INTERNAL: int = code_pb2.INTERNAL
UNAVAILABLE: int = code_pb2.UNAVAILABLE
UNKNOWN: int = code_pb2.UNKNOWN


class Delivery(Enum):
    """What became of a request; ErrorInfo's metadata entry `delivery`."""

    NOT_SENT = "NOT_SENT"
    REJECTED = "REJECTED"
    UNKNOWN = "UNKNOWN"
    ACCEPTED = "ACCEPTED"
    FAILED = "FAILED"


class Quota(Enum):
    """The subjects of QuotaFailure."""

    BALANCE = "account:balance"
    CONCURRENCY = "concurrency"
    QUEUE_LENGTH = "queue_length"


@dataclass(frozen=True, slots=True)
class Row:
    """What one kind of failure becomes.

    Attributes:
        paid, read, stored: The codes, see the module's docstring.
        reason: Our own name for it (an ErrorReason), or empty: fal's word is the reason then.
        delivery: What became of the request, where the general rule of delivery_of does not say.
        text: Our own sentence, where fal's must not be shown or there is none.
        quota, precondition: What the details name.
    """

    paid: int
    read: int
    stored: int
    reason: str = ""
    delivery: Delivery | None = None
    text: str = ""
    quota: Quota | None = None
    precondition: bool = False


def same(code: int, reason: str = "", **rest: object) -> Row:
    """A row with one code for all three cases."""
    return Row(code, code, code, reason, **rest)  # type: ignore[arg-type] # Row's own optional fields


# What happened to the exchange

FAILURES: dict[Failure, Row] = {
    Failure.UNREACHABLE: Row(
        UNAVAILABLE,
        UNAVAILABLE,
        UNAVAILABLE,
        "UPSTREAM_UNREACHABLE",
        Delivery.NOT_SENT,
        "fal could not be reached; nothing was sent",
    ),
    Failure.TRUNCATED: Row(
        UNKNOWN, UNAVAILABLE, UNAVAILABLE, "UPSTREAM_TRUNCATED", Delivery.ACCEPTED, "fal's answer was cut off"
    ),
    Failure.MALFORMED: Row(
        UNKNOWN, INTERNAL, INTERNAL, "UPSTREAM_MALFORMED", None, "fal's answer breaks fal's own format"
    ),
    Failure.TOO_LARGE: Row(
        UNKNOWN,
        RESOURCE_EXHAUSTED,
        RESOURCE_EXHAUSTED,
        "OUTPUT_TOO_LARGE",
        Delivery.ACCEPTED,
        "the output is larger than this server passes on",
    ),
    Failure.STREAM_TRUNCATED: Row(
        UNKNOWN,
        UNAVAILABLE,
        UNAVAILABLE,
        "STREAM_TRUNCATED",
        Delivery.ACCEPTED,
        "the stream ended before its result",
    ),
    Failure.STREAM_ERROR: same(UNKNOWN, "STREAM_ERROR", delivery=Delivery.FAILED),
    Failure.NOT_COMPLETED: same(
        FAILED_PRECONDITION,
        "REQUEST_NOT_COMPLETED",
        delivery=Delivery.ACCEPTED,
        text="the request is not completed yet",
        precondition=True,
    ),
    Failure.HOST_REFUSED: same(
        INTERNAL,
        "UPLOAD_HOST_REFUSED",
        delivery=Delivery.REJECTED,
        text="fal named an upload host that this server does not trust",
    ),
}

INTERRUPTED_READ = same(
    UNAVAILABLE, "UPSTREAM_INTERRUPTED", delivery=Delivery.UNKNOWN, text="the exchange with fal was cut off"
)
INTERRUPTED_PAID = same(
    UNKNOWN,
    "OUTCOME_UNKNOWN",
    delivery=Delivery.UNKNOWN,
    text="the exchange with fal was cut off; the request may be running and paid",
)

# Special answers

OWN_KEY_REFUSED = same(
    INTERNAL,
    "UPSTREAM_CREDENTIALS_REJECTED",
    delivery=Delivery.REJECTED,
    text="fal refused this server's key; its operator must act",
)
SIGNATURE_REFUSED = same(INTERNAL)  # the signed URL that fal itself gave us; no key went there
BALANCE_EXHAUSTED = same(
    RESOURCE_EXHAUSTED,
    "BALANCE_EXHAUSTED",
    text="the fal account is locked or its balance is exhausted",
    quota=Quota.BALANCE,
)
NOT_COMPLETED = FAILURES[Failure.NOT_COMPLETED]
HOST_REFUSED = FAILURES[Failure.HOST_REFUSED]
TOO_LARGE = FAILURES[Failure.TOO_LARGE]
STREAMING_NOT_SUPPORTED = same(
    FAILED_PRECONDITION,
    "STREAMING_NOT_SUPPORTED",
    delivery=Delivery.REJECTED,
    text="this endpoint does not stream; use Run or Subscribe",
)
CANCELLED = same(FAILED_PRECONDITION, "REQUEST_CANCELLED", text="the request was cancelled")
START_TIMEOUT = same(
    DEADLINE_EXCEEDED,
    "START_TIMEOUT",
    text="fal did not start to process the request within its start timeout",
)
QUEUE_TOO_LONG = same(RESOURCE_EXHAUSTED, "QUEUE_TOO_LONG", quota=Quota.QUEUE_LENGTH)
ENDPOINT_NOT_FOUND = same(NOT_FOUND, "ENDPOINT_NOT_FOUND")
REQUEST_NOT_FOUND = same(
    NOT_FOUND, "REQUEST_NOT_FOUND", text="fal does not know this request, or it has expired"
)
SOMETHING_NOT_FOUND = same(NOT_FOUND)  # a model's own answer, or an upload target

# fal's error_type, §12.1

_TRANSIENT = Row(paid=ABORTED, read=UNAVAILABLE, stored=ABORTED)
_NOTHING_RAN = Row(paid=UNAVAILABLE, read=UNAVAILABLE, stored=ABORTED, delivery=Delivery.REJECTED)
_CONCURRENCY = same(RESOURCE_EXHAUSTED, quota=Quota.CONCURRENCY)

REQUEST_ERRORS: dict[str, Row] = {
    "request_timeout": same(DEADLINE_EXCEEDED),
    "startup_timeout": _NOTHING_RAN,
    "runner_scheduling_failure": _NOTHING_RAN,
    "runner_connection_timeout": _TRANSIENT,
    "runner_disconnected": _TRANSIENT,
    "runner_connection_refused": _NOTHING_RAN,
    "runner_connection_error": _TRANSIENT,
    "runner_incomplete_response": _TRANSIENT,
    "runner_server_error": same(INTERNAL),
    "internal_error": same(INTERNAL),
    "client_disconnected": Row(paid=UNKNOWN, read=UNAVAILABLE, stored=ABORTED, delivery=Delivery.UNKNOWN),
    "client_cancelled": CANCELLED,
    "bad_request": same(INVALID_ARGUMENT),
    "concurrent_requests_limit": _CONCURRENCY,
}

# Model errors' type, §12.2. A 422 with any other type is INVALID_ARGUMENT: its status says input.

MODEL_ERRORS: dict[str, Row] = {
    "internal_server_error": same(INTERNAL),
    "generation_timeout": same(DEADLINE_EXCEEDED),
    "downstream_service_error": same(UNKNOWN),
    "downstream_service_unavailable": same(ABORTED),
    "file_download_error": same(FAILED_PRECONDITION),
}

# HTTP status, §12.5

HTTP_STATUSES: dict[int, Row] = {
    400: same(INVALID_ARGUMENT),
    402: BALANCE_EXHAUSTED,
    403: same(PERMISSION_DENIED),
    405: same(UNIMPLEMENTED),
    408: Row(paid=UNKNOWN, read=UNAVAILABLE, stored=ABORTED, delivery=Delivery.UNKNOWN),
    409: same(ABORTED),
    413: same(INVALID_ARGUMENT),
    422: same(INVALID_ARGUMENT),
    424: same(FAILED_PRECONDITION, "UPLOAD_DESTINATION_FAILED", precondition=True),
    429: _CONCURRENCY,
    499: CANCELLED,
    500: same(INTERNAL),
    501: same(UNIMPLEMENTED),
    502: _TRANSIENT,
    503: _TRANSIENT,
    504: same(DEADLINE_EXCEEDED),
}
ANYTHING_ELSE = same(UNKNOWN)

# The vendor's own hint that the same request may succeed counts where the code says no more than "failed".
_HINTED = frozenset({INTERNAL, UNKNOWN})


_ON_A_REQUEST = frozenset({Operation.STATUS, Operation.STATUS_STREAM, Operation.RESULT, Operation.CANCEL})


def row_of(error: FalError) -> Row:
    """Returns the row that a failure falls under."""
    if error.failure is Failure.INTERRUPTED:
        return INTERRUPTED_PAID if error.operation.is_paid else INTERRUPTED_READ
    if error.answer is None:
        return FAILURES[error.failure]
    answer = error.answer
    if answer.is_from_edge and not error.is_stored:
        return INTERRUPTED_PAID if error.operation.is_paid else INTERRUPTED_READ
    if special := _special(error):
        return special
    if answer.error_type in REQUEST_ERRORS and (answer.is_platforms or answer.http_status != 422):
        row = REQUEST_ERRORS[answer.error_type]
        return _TRANSIENT if row is _NOTHING_RAN and not _surely_nothing_ran(error) else row
    for item in answer.items:
        if item.type in MODEL_ERRORS:
            return MODEL_ERRORS[item.type]
    return HTTP_STATUSES.get(answer.http_status, ANYTHING_ELSE)


def _surely_nothing_ran(error: FalError) -> bool:
    """Whether fal itself says so, of the whole request.

    An app can write any `error_type` into its body, and a workflow answers with the failing step's (§9): the
    steps before it ran.
    """
    answer = error.answer
    if answer is None or not answer.is_platforms or answer.http_status not in (503, 504):
        return False
    is_of_many = error.endpoint_id.startswith(tuple(f"{namespace}/" for namespace in NAMESPACES))
    return not is_of_many and answer.billable_units in ("", "0")


def _special(error: FalError) -> Row | None:
    """Answers that are told by more than their type or status."""
    answer = error.answer
    if answer is None:
        return None
    status, text = answer.http_status, answer.text.lower()
    if status in (401, 403) and error.operation is Operation.UPLOAD_PUT:
        return SIGNATURE_REFUSED
    if status == 401 and not error.is_stored:
        return OWN_KEY_REFUSED
    if status == 403 and ("exhausted balance" in text or "user is locked" in text):
        return BALANCE_EXHAUSTED
    if status == 504 and answer.timeout_type == "user":
        return START_TIMEOUT
    if status == 429 and error.hit_queue_limit:
        return QUEUE_TOO_LONG
    if (
        status == 400
        and error.operation is Operation.RESULT
        and not error.is_stored
        and "in progress" in text
    ):
        return NOT_COMPLETED
    if status == 404 and not _model_failed(error):
        if error.operation is Operation.STREAM and not error.is_stored and _is_unknown_path(text):
            return STREAMING_NOT_SUPPORTED
        if error.is_stored:
            return SOMETHING_NOT_FOUND
        if error.operation in _ON_A_REQUEST:
            return REQUEST_NOT_FOUND
        return ENDPOINT_NOT_FOUND if error.operation.is_paid else SOMETHING_NOT_FOUND
    return None


def _is_unknown_path(text: str) -> bool:
    """The app exists and has no such route (§12.3)."""
    return text.startswith("path ") and "stream not found" in text


def code_of(error: FalError, row: Row) -> int:
    """Returns the google.rpc.Code of a failure."""
    needs_retry = error.answer is not None and error.answer.needs_retry is True
    is_hinted = needs_retry and not row.reason and (error.http_status >= 500 or _model_failed(error))
    if error.is_stored:
        return ABORTED if is_hinted and row.stored in _HINTED else row.stored
    code = row.paid if error.operation.is_paid else row.read
    if is_hinted and code in _HINTED:
        code = ABORTED if error.operation.is_paid else UNAVAILABLE
    if code == ABORTED and not _is_fals_word(error):
        return UNKNOWN  # nothing proves that the work has ended
    return code


def _is_fals_word(error: FalError) -> bool:
    """Whether fal or a model said what happened, and not something in front of them."""
    answer = error.answer
    if answer is None:
        return False
    return bool(answer.request_id) or answer.error_type in REQUEST_ERRORS or _model_failed(error)


def _model_failed(error: FalError) -> bool:
    """Whether a model error says so by its type; its HTTP status is of no use then (§16.1 row 9)."""
    return error.answer is not None and any(item.type in MODEL_ERRORS for item in error.answer.items)


def delivery_of(error: FalError, row: Row) -> Delivery:
    """Returns what became of the request."""
    if error.is_stored:
        return Delivery.FAILED
    if row.delivery:
        return row.delivery
    if error.failure is Failure.MALFORMED:
        return Delivery.UNKNOWN if error.operation is Operation.SUBMIT else Delivery.ACCEPTED
    if error.http_status == 429:
        is_fals_own = bool(error.answer and error.answer.error_type) or error.operation is Operation.SUBMIT
        return Delivery.REJECTED if is_fals_own or not error.operation.is_paid else Delivery.FAILED
    if error.http_status in (422, 424, 499) or _model_failed(error):
        return Delivery.FAILED
    if error.http_status >= 500 or error.http_status == 409:
        return Delivery.FAILED if _is_fals_word(error) else Delivery.UNKNOWN
    if row is ANYTHING_ELSE:
        return Delivery.UNKNOWN
    return Delivery.REJECTED if 400 <= error.http_status < 500 else Delivery.UNKNOWN

"""The one table from fal's failures to gRPC status codes (docs/fal-http-api.md §17). Pure.

Data only: how a failure finds its row is in status_rules.py. Each row has three codes:

* paid: a paid call that was answered or cut now (Run, Submit, Stream, StreamWorkflow);
* read: any other call that was answered or cut now;
* stored: the outcome of a finished request, or of a workflow's step. Reading it again returns it again,
  so it is never UNAVAILABLE.
"""

from dataclasses import dataclass
from enum import Enum

from google.rpc import code_pb2

from falrpc_server.fal_http.error_bodies import Failure

__all__ = ["Delivery", "Quota", "Row"]

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
UNAUTHENTICATED: int = code_pb2.UNAUTHENTICATED


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
        delivery: What became of the request, where the general rule (status_rules.delivery_of) does not say.
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
    Failure.BUSY: same(
        RESOURCE_EXHAUSTED,
        "UPSTREAM_BUSY",
        delivery=Delivery.NOT_SENT,
        text="this server's own limit of requests in flight to fal is reached; nothing was sent",
    ),
    Failure.SUSPENDED: same(
        UNAVAILABLE,
        "UPSTREAM_SUSPENDED",
        delivery=Delivery.NOT_SENT,
        text="fal's host only failed lately, so nothing was sent; it is tried again soon",
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
CALLERS_KEY_REFUSED = same(
    UNAUTHENTICATED,
    "FAL_KEY_REJECTED",
    delivery=Delivery.REJECTED,
    text="fal refused the key that came as x-fal-key",
)
UPLOAD_URL_REFUSED = same(  # the signed URL that fal itself gave us, expired perhaps; no key went there
    ABORTED,
    "UPLOAD_URL_REFUSED",
    delivery=Delivery.REJECTED,
    text="fal's file storage refused the URL that fal gave",
)
BALANCE_EXHAUSTED = same(
    RESOURCE_EXHAUSTED,
    "BALANCE_EXHAUSTED",
    text="the fal account is locked or its balance is exhausted",
    quota=Quota.BALANCE,
)
NOT_COMPLETED = FAILURES[Failure.NOT_COMPLETED]
HOST_REFUSED = FAILURES[Failure.HOST_REFUSED]
TOO_LARGE = FAILURES[Failure.TOO_LARGE]
BUSY = FAILURES[Failure.BUSY]
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

TRANSIENT = Row(paid=ABORTED, read=UNAVAILABLE, stored=ABORTED)
NOTHING_RAN = Row(paid=UNAVAILABLE, read=UNAVAILABLE, stored=ABORTED, delivery=Delivery.REJECTED)
_CONCURRENCY = same(RESOURCE_EXHAUSTED, quota=Quota.CONCURRENCY)

REQUEST_ERRORS: dict[str, Row] = {
    "request_timeout": same(DEADLINE_EXCEEDED),
    "startup_timeout": NOTHING_RAN,
    "runner_scheduling_failure": NOTHING_RAN,
    "runner_connection_timeout": TRANSIENT,
    "runner_disconnected": TRANSIENT,
    "runner_connection_refused": NOTHING_RAN,
    "runner_connection_error": TRANSIENT,
    "runner_incomplete_response": TRANSIENT,
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
    502: TRANSIENT,
    503: TRANSIENT,
    504: same(DEADLINE_EXCEEDED),
}
ANYTHING_ELSE = same(UNKNOWN)

"""How a failure finds its row in status_table.py, and what it makes of it (docs/fal-http-api.md §17). Pure.

It is looked up in this order: what happened to the exchange, special answers, fal's `error_type`, the model
error's `type`, the HTTP status.
"""

from falrpc_server.fal_http.error_bodies import Failure, FalError
from falrpc_server.fal_http.models import NAMESPACES, Operation
from falrpc_server.fal_http.retry import is_fals_limit
from falrpc_server.translate import status_table as table
from falrpc_server.translate.status_table import Delivery, Row

__all__ = ["code_of", "delivery_of", "row_of"]

# The vendor's own hint that the same request may succeed counts where the code says no more than "failed".
_HINTED = frozenset({table.INTERNAL, table.UNKNOWN})


_ON_A_REQUEST = frozenset({Operation.STATUS, Operation.STATUS_STREAM, Operation.RESULT, Operation.CANCEL})


def row_of(error: FalError) -> Row:
    """Returns the row that a failure falls under."""
    if error.failure is Failure.INTERRUPTED:
        return table.INTERRUPTED_PAID if error.operation.is_paid else table.INTERRUPTED_READ
    if error.answer is None:
        return table.FAILURES[error.failure]
    answer = error.answer
    if answer.is_from_edge and not error.is_stored:
        return table.INTERRUPTED_PAID if error.operation.is_paid else table.INTERRUPTED_READ
    if special := _special(error):
        return special
    if answer.error_type in table.REQUEST_ERRORS and (answer.is_platforms or answer.http_status != 422):
        row = table.REQUEST_ERRORS[answer.error_type]
        return table.TRANSIENT if row is table.NOTHING_RAN and not _surely_nothing_ran(error) else row
    for item in answer.items:
        if item.type in table.MODEL_ERRORS:
            return table.MODEL_ERRORS[item.type]
    if not answer.http_status:  # a workflow's step that failed, and nothing says how
        return table.FAILURES[Failure.STREAM_ERROR]
    return table.HTTP_STATUSES.get(answer.http_status, table.ANYTHING_ELSE)


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
    if error.operation.has_own_credential and status in (400, 401, 403, 404, 410):
        return table.UPLOAD_URL_REFUSED
    if status == 401 and not error.is_stored:
        return table.CALLERS_KEY_REFUSED if error.is_callers_key else table.OWN_KEY_REFUSED
    if status == 403 and ("exhausted balance" in text or "user is locked" in text):
        return table.BALANCE_EXHAUSTED
    if status == 504 and answer.timeout_type == "user":
        return table.START_TIMEOUT
    if status == 429 and error.hit_queue_limit:
        return table.QUEUE_TOO_LONG
    if (
        status == 400
        and error.operation is Operation.RESULT
        and not error.is_stored
        and "in progress" in text
    ):
        return table.NOT_COMPLETED
    if status == 404 and not _model_failed(error):
        if error.operation is Operation.STREAM and not error.is_stored and _is_unknown_path(text):
            return table.STREAMING_NOT_SUPPORTED
        if error.is_stored:
            return table.SOMETHING_NOT_FOUND
        if error.operation in _ON_A_REQUEST:
            return table.REQUEST_NOT_FOUND
        return table.ENDPOINT_NOT_FOUND if error.operation.is_paid else table.SOMETHING_NOT_FOUND
    return None


def _is_unknown_path(text: str) -> bool:
    """The app exists and has no such route (§12.3)."""
    return text.startswith("path ") and "stream not found" in text


def code_of(error: FalError, row: Row) -> int:
    """Returns the google.rpc.Code of a failure."""
    needs_retry = error.answer is not None and error.answer.needs_retry is True
    is_hinted = needs_retry and not row.reason and (error.http_status >= 500 or _model_failed(error))
    if error.is_stored:
        return table.ABORTED if is_hinted and row.stored in _HINTED else row.stored
    code = row.paid if error.operation.is_paid else row.read
    if is_hinted and code in _HINTED:
        code = table.ABORTED if error.operation.is_paid else table.UNAVAILABLE
    if code == table.ABORTED and row is not table.UPLOAD_URL_REFUSED and not _is_fals_word(error):
        return table.UNKNOWN  # nothing proves that the work has ended
    return code


def _is_fals_word(error: FalError) -> bool:
    """Whether fal or a model said what happened, and not something in front of them."""
    answer = error.answer
    if answer is None:
        return False
    return bool(answer.request_id) or answer.error_type in table.REQUEST_ERRORS or _model_failed(error)


def _model_failed(error: FalError) -> bool:
    """Whether a model error says so by its type; its HTTP status is of no use then (§16.1 row 9)."""
    return error.answer is not None and any(item.type in table.MODEL_ERRORS for item in error.answer.items)


def delivery_of(error: FalError, row: Row) -> Delivery:
    """Returns what became of the request."""
    if error.is_stored:
        return Delivery.FAILED
    if row.delivery:
        return row.delivery
    if error.failure is Failure.MALFORMED:
        return Delivery.UNKNOWN if error.operation is Operation.SUBMIT else Delivery.ACCEPTED
    if error.http_status == 429:
        return Delivery.REJECTED if is_fals_limit(error) or not error.operation.is_paid else Delivery.FAILED
    if error.http_status in (422, 424, 499) or _model_failed(error):
        return Delivery.FAILED
    if error.http_status >= 500 or error.http_status == 409:
        return Delivery.FAILED if _is_fals_word(error) else Delivery.UNKNOWN
    if row is table.ANYTHING_ELSE:
        return Delivery.UNKNOWN
    return Delivery.REJECTED if 400 <= error.http_status < 500 else Delivery.UNKNOWN

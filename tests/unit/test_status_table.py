"""fal's failures as codes: docs/fal-http-api.md §17.2 and §17.3; where the protos differ, they decide."""

import itertools

import pytest
from google.rpc import code_pb2 as c
from hypothesis import example, given
from hypothesis import strategies as st

from falrpc_server.fal_http.error_bodies import DetailItem, ErrorAnswer, Failure, FalError
from falrpc_server.fal_http.models import Operation
from falrpc_server.translate import status_rules, status_table, verdicts
from falrpc_server.translate.status_table import Delivery

PAID = [operation for operation in Operation if operation.is_paid]
BALANCE = {"text": "User is locked. Reason: Exhausted balance. Top up."}


def answered(
    operation: Operation, status: int, *, stored: bool = False, request_id: str = "r-1", **answer: object
) -> FalError:
    """The failure that an HTTP error answer is."""
    platforms = bool(answer.get("error_type"))  # fal repeats its type in a header
    answer = ErrorAnswer(status, request_id=request_id, is_platforms=platforms, **answer)
    known = "" if operation.is_paid else "r-1"
    return FalError(
        operation, Failure.ANSWER, "x", answer=answer, is_stored=stored, endpoint_id="a/b", request_id=known
    )


def item(kind: str) -> dict[str, object]:
    return {"items": (DetailItem(("body", "x"), "m", kind),)}


def code(error: FalError) -> int:
    return status_rules.code_of(error, status_rules.row_of(error))


def delivery(error: FalError) -> Delivery:
    return status_rules.delivery_of(error, status_rules.row_of(error))


HINT = {"needs_retry": True}
NO = None  # the case does not exist

# condition, status, what the answer says, paid, read, stored
ROWS = [
    (
        "bad_request",
        400,
        {"error_type": "bad_request"},
        c.INVALID_ARGUMENT,
        c.INVALID_ARGUMENT,
        c.INVALID_ARGUMENT,
    ),
    ("other-400", 400, {"text": "no"}, c.INVALID_ARGUMENT, c.INVALID_ARGUMENT, c.INVALID_ARGUMENT),
    ("own-key", 401, {}, c.INTERNAL, c.INTERNAL, NO),
    ("402", 402, {}, c.RESOURCE_EXHAUSTED, c.RESOURCE_EXHAUSTED, c.RESOURCE_EXHAUSTED),
    ("balance", 403, BALANCE, c.RESOURCE_EXHAUSTED, c.RESOURCE_EXHAUSTED, NO),
    ("other-403", 403, {"text": "no"}, c.PERMISSION_DENIED, c.PERMISSION_DENIED, c.PERMISSION_DENIED),
    ("404", 404, {}, c.NOT_FOUND, c.NOT_FOUND, NO),
    ("stored-404", 404, {"text": "Path /x not found"}, c.NOT_FOUND, c.NOT_FOUND, c.NOT_FOUND),
    ("405", 405, {}, c.UNIMPLEMENTED, c.UNIMPLEMENTED, c.UNIMPLEMENTED),
    ("408", 408, {}, c.UNKNOWN, c.UNAVAILABLE, c.ABORTED),
    ("409", 409, {}, c.ABORTED, c.ABORTED, c.ABORTED),
    ("413", 413, {}, c.INVALID_ARGUMENT, c.INVALID_ARGUMENT, c.INVALID_ARGUMENT),
    ("424", 424, {}, c.FAILED_PRECONDITION, c.FAILED_PRECONDITION, c.FAILED_PRECONDITION),
    (
        "concurrency",
        429,
        {"error_type": "concurrent_requests_limit"},
        c.RESOURCE_EXHAUSTED,
        c.RESOURCE_EXHAUSTED,
        c.RESOURCE_EXHAUSTED,
    ),
    ("other-429", 429, {}, c.RESOURCE_EXHAUSTED, c.RESOURCE_EXHAUSTED, c.RESOURCE_EXHAUSTED),
    (
        "client_cancelled",
        499,
        {"error_type": "client_cancelled"},
        c.FAILED_PRECONDITION,
        c.FAILED_PRECONDITION,
        c.FAILED_PRECONDITION,
    ),
    ("499", 499, {}, c.FAILED_PRECONDITION, c.FAILED_PRECONDITION, c.FAILED_PRECONDITION),
    ("client_disconnected", 499, {"error_type": "client_disconnected"}, c.UNKNOWN, c.UNAVAILABLE, c.ABORTED),
    ("internal_error", 500, {"error_type": "internal_error"}, c.INTERNAL, c.INTERNAL, c.INTERNAL),
    (
        "internal_error-hint",
        500,
        {"error_type": "internal_error", **HINT},
        c.ABORTED,
        c.UNAVAILABLE,
        c.ABORTED,
    ),
    ("runner_server_error", 500, {"error_type": "runner_server_error"}, c.INTERNAL, c.INTERNAL, c.INTERNAL),
    (
        "runner_server_error-hint",
        500,
        {"error_type": "runner_server_error", **HINT},
        c.ABORTED,
        c.UNAVAILABLE,
        c.ABORTED,
    ),
    ("app-500", 500, {"text": "Internal Server Error"}, c.INTERNAL, c.INTERNAL, c.INTERNAL),
    ("app-500-hint", 500, HINT, c.ABORTED, c.UNAVAILABLE, c.ABORTED),
    ("app-500-no-hint", 500, {"needs_retry": False}, c.INTERNAL, c.INTERNAL, c.INTERNAL),
    (
        "runner_incomplete_response",
        502,
        {"error_type": "runner_incomplete_response"},
        c.ABORTED,
        c.UNAVAILABLE,
        c.ABORTED,
    ),
    ("app-502", 502, {}, c.ABORTED, c.UNAVAILABLE, c.ABORTED),
    ("gpu", 503, {"text": "GPU error"}, c.ABORTED, c.UNAVAILABLE, c.ABORTED),
    *(
        (kind, 503, {"error_type": kind}, c.ABORTED, c.UNAVAILABLE, c.ABORTED)
        for kind in ("runner_connection_timeout", "runner_disconnected", "runner_connection_error")
    ),
    *(
        (kind, 503, {"error_type": kind}, c.UNAVAILABLE, c.UNAVAILABLE, c.ABORTED)
        for kind in ("runner_scheduling_failure", "runner_connection_refused")
    ),
    (
        "user-timeout",
        504,
        {"error_type": "startup_timeout", "timeout_type": "user"},
        c.DEADLINE_EXCEEDED,
        c.DEADLINE_EXCEEDED,
        c.DEADLINE_EXCEEDED,
    ),
    ("startup_timeout", 504, {"error_type": "startup_timeout"}, c.UNAVAILABLE, c.UNAVAILABLE, c.ABORTED),
    (
        "request_timeout",
        504,
        {"error_type": "request_timeout"},
        c.DEADLINE_EXCEEDED,
        c.DEADLINE_EXCEEDED,
        c.DEADLINE_EXCEEDED,
    ),
    ("other-504", 504, {}, c.DEADLINE_EXCEEDED, c.DEADLINE_EXCEEDED, c.DEADLINE_EXCEEDED),
    ("501", 501, {}, c.UNIMPLEMENTED, c.UNIMPLEMENTED, c.UNIMPLEMENTED),
    ("3xx", 307, {}, c.UNKNOWN, c.UNKNOWN, c.UNKNOWN),
    ("odd-4xx", 418, {}, c.UNKNOWN, c.UNKNOWN, c.UNKNOWN),
    ("odd-5xx", 520, {}, c.UNKNOWN, c.UNKNOWN, c.UNKNOWN),
    ("odd-5xx-hint", 520, HINT, c.ABORTED, c.UNAVAILABLE, c.ABORTED),
]


@pytest.mark.parametrize(
    ("status", "says", "paid", "read", "stored"), [pytest.param(*row[1:], id=row[0]) for row in ROWS]
)
def test_http_errors(status: int, says: dict[str, object], paid: int, read: int, stored: int | None) -> None:
    """§17.2: each answer has its code for a paid call, for a read and for a stored outcome."""
    for operation in PAID:
        assert code(answered(operation, status, **says)) == paid
    assert code(answered(Operation.STATUS, status, **says)) == read
    if stored is not None:
        assert code(answered(Operation.RESULT, status, stored=True, **says)) == stored


VALUE_CHECKS = [
    "greater_than", "greater_than_equal", "less_than", "less_than_equal", "multiple_of",
    "sequence_too_short", "sequence_too_long", "one_of", "missing", "value_error", "value_error.missing",
    "value_error.number.not_le", "image_too_small", "image_too_large", "image_load_error",
    "audio_duration_too_long", "audio_duration_too_short", "video_duration_too_long",
    "video_duration_too_short", "unsupported_audio_format", "unsupported_image_format",
    "unsupported_video_format", "file_too_large", "invalid_archive", "archive_file_count_below_minimum",
    "archive_file_count_exceeds_maximum", "face_detection_error", "input_value_error",
    "content_policy_violation", "no_media_generated", "feature_not_supported", "something_new", "",
]  # fmt: skip


@pytest.mark.parametrize("kind", VALUE_CHECKS)
def test_wrong_inputs(kind: str) -> None:
    """§17.3: what is wrong with the input in any state is INVALID_ARGUMENT, live or stored, known or not."""
    for operation, stored in ((Operation.RUN, False), (Operation.RESULT, True)):
        assert code(answered(operation, 422, stored=stored, **item(kind))) == c.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("kind", "status", "hint", "expected"),
    [
        pytest.param("file_download_error", 422, None, c.FAILED_PRECONDITION, id="file_download_error"),
        pytest.param("generation_timeout", 504, None, c.DEADLINE_EXCEEDED, id="generation_timeout"),
        pytest.param("generation_timeout", 504, True, c.DEADLINE_EXCEEDED, id="generation_timeout-hint"),
        pytest.param("internal_server_error", 500, None, c.INTERNAL, id="internal_server_error"),
        pytest.param("internal_server_error", 500, True, c.ABORTED, id="internal_server_error-hint"),
        pytest.param("downstream_service_unavailable", 500, None, c.ABORTED, id="downstream_unavailable"),
        pytest.param("downstream_service_error", 500, None, c.UNKNOWN, id="downstream-500"),
        pytest.param("downstream_service_error", 400, None, c.UNKNOWN, id="downstream-400"),
        pytest.param("downstream_service_error", 500, True, c.ABORTED, id="downstream-500-hint"),
        pytest.param("downstream_service_error", 400, True, c.ABORTED, id="downstream-400-hint"),
    ],
)
def test_other_model_errors(kind: str, status: int, hint: bool | None, expected: int) -> None:
    """§17.3: the type decides, not the status (§16.1 row 9), and the hint makes a failure passing."""
    for operation, stored in ((Operation.RUN, False), (Operation.RESULT, True)):
        error = answered(operation, status, stored=stored, needs_retry=hint, **item(kind))
        assert code(error) == expected


def test_the_first_telling_item_decides() -> None:
    """§17.3: among several items the first whose code is not INVALID_ARGUMENT gives code and reason."""
    kinds = ("missing", "file_download_error", "generation_timeout")
    error = answered(Operation.RUN, 422, items=tuple(DetailItem(type=kind) for kind in kinds))
    verdict = verdicts.of_fal_error(error)
    assert (verdict.code, verdict.reason) == (c.FAILED_PRECONDITION, "FILE_DOWNLOAD_ERROR")
    assert len(verdict.violations) == 3


@pytest.mark.parametrize("status", [502, 503, 504])
def test_edge_pages(status: int) -> None:
    """The edge may have forwarded paid work, so its page is UNKNOWN there and UNAVAILABLE for reads."""
    for operation in PAID:
        error = answered(operation, status, request_id="")
        assert (code(error), delivery(error)) == (c.UNKNOWN, Delivery.UNKNOWN)
    assert code(answered(Operation.STATUS, status, request_id="")) == c.UNAVAILABLE
    assert code(answered(Operation.RESULT, status, request_id="")) == c.UNAVAILABLE


@pytest.mark.parametrize(
    ("failure", "paid", "read"),
    [
        (Failure.UNREACHABLE, c.UNAVAILABLE, c.UNAVAILABLE),
        (Failure.INTERRUPTED, c.UNKNOWN, c.UNAVAILABLE),
        (Failure.TRUNCATED, c.UNKNOWN, c.UNAVAILABLE),
        (Failure.MALFORMED, c.UNKNOWN, c.INTERNAL),
        (Failure.TOO_LARGE, c.UNKNOWN, c.RESOURCE_EXHAUSTED),
        (Failure.STREAM_TRUNCATED, c.UNKNOWN, c.UNAVAILABLE),
        (Failure.STREAM_ERROR, c.UNKNOWN, c.UNKNOWN),
        (Failure.NOT_COMPLETED, c.FAILED_PRECONDITION, c.FAILED_PRECONDITION),
        (Failure.HOST_REFUSED, c.INTERNAL, c.INTERNAL),
    ],
)
def test_failures_without_an_answer(failure: Failure, paid: int, read: int) -> None:
    """What happened to an exchange has its code for paid calls and for reads (§17.1)."""
    assert code(FalError(Operation.RUN, failure, "x")) == paid
    assert code(FalError(Operation.STATUS, failure, "x")) == read


def test_a_result_read_too_early() -> None:
    """400 "still in progress" is FAILED_PRECONDITION with a time to ask again (§17.2)."""
    for text in ("Request is still in progress", "Request is still IN PROGRESS"):
        verdict = verdicts.of_fal_error(answered(Operation.RESULT, 400, text=text))
        assert (verdict.code, verdict.reason) == (c.FAILED_PRECONDITION, "REQUEST_NOT_COMPLETED")
        assert verdict.retry_seconds is not None


def test_a_model_that_does_not_stream() -> None:
    """fal's `Path /stream not found` is STREAMING_NOT_SUPPORTED for Stream, and nothing special for Run."""
    for text in ("Path /stream not found", "Path /dev/stream not found"):
        assert verdicts.of_fal_error(answered(Operation.STREAM, 404, text=text)).reason == (
            "STREAMING_NOT_SUPPORTED"
        )
    assert verdicts.of_fal_error(answered(Operation.RUN, 404, text="Path /x not found")).code == c.NOT_FOUND


def test_a_full_queue_is_told_from_concurrency() -> None:
    """429 on a submission that named a longest queue is QUEUE_TOO_LONG, else it is the concurrency limit."""
    error = answered(Operation.SUBMIT, 429)
    error.hit_queue_limit = True
    assert verdicts.of_fal_error(error).reason == "QUEUE_TOO_LONG"
    error = answered(Operation.SUBMIT, 429, error_type="concurrent_requests_limit")
    assert verdicts.of_fal_error(error).reason == "CONCURRENT_REQUESTS_LIMIT"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(answered(Operation.RUN, 422), Delivery.FAILED, id="422"),
        pytest.param(answered(Operation.RUN, 500), Delivery.FAILED, id="500-with-id"),
        pytest.param(answered(Operation.RUN, 500, request_id=""), Delivery.UNKNOWN, id="500-without-id"),
        pytest.param(answered(Operation.RUN, 520, request_id=""), Delivery.UNKNOWN, id="520-without-id"),
        *(
            pytest.param(answered(Operation.RUN, s), Delivery.REJECTED, id=str(s))
            for s in (400, 401, 403, 404)
        ),
        pytest.param(
            answered(Operation.RUN, 429, error_type="concurrent_requests_limit"),
            Delivery.REJECTED,
            id="fals-429",
        ),
        pytest.param(answered(Operation.SUBMIT, 429), Delivery.REJECTED, id="submit-429"),
        pytest.param(answered(Operation.RUN, 429), Delivery.FAILED, id="apps-429"),
        pytest.param(answered(Operation.RESULT, 422, stored=True), Delivery.FAILED, id="stored-422"),
        pytest.param(answered(Operation.RESULT, 404, stored=True), Delivery.FAILED, id="stored-404"),
        pytest.param(FalError(Operation.RUN, Failure.UNREACHABLE, "x"), Delivery.NOT_SENT, id="unreachable"),
        pytest.param(FalError(Operation.RUN, Failure.INTERRUPTED, "x"), Delivery.UNKNOWN, id="interrupted"),
        pytest.param(
            FalError(Operation.SUBMIT, Failure.MALFORMED, "x"), Delivery.UNKNOWN, id="submit-malformed"
        ),
        pytest.param(
            answered(Operation.RUN, 400, **item("downstream_service_error")), Delivery.FAILED, id="model-400"
        ),
    ],
)
def test_what_became_of_the_request(error: FalError, expected: Delivery) -> None:
    """`delivery` says REJECTED before any work, FAILED after it, and UNKNOWN where nobody can know."""
    assert delivery(error) is expected


STATUSES = st.sampled_from([301, 307, *range(400, 430), 451, 499, *range(500, 512), 520, 522, 530])
TYPES = st.sampled_from(["", "odd", *status_table.REQUEST_ERRORS])
ITEMS = st.lists(
    st.sampled_from(["", "missing", "odd", *status_table.MODEL_ERRORS]).map(
        lambda kind: DetailItem(type=kind)
    ),
    max_size=3,
).map(tuple)
ANSWERS = st.builds(
    ErrorAnswer,
    STATUSES,
    request_id=st.sampled_from(["", "r"]),
    error_type=TYPES,
    text=st.sampled_from(["", "x", "Path /stream not found", "in progress", BALANCE["text"]]),
    items=ITEMS,
    needs_retry=st.sampled_from([None, True, False]),
    timeout_type=st.sampled_from(["", "user", "app"]),
    retry_after_seconds=st.sampled_from([None, 0.0, 7.0]),
)
STEPS = st.sampled_from([(Operation.RESULT, ""), (Operation.STREAM, ""), (Operation.STREAM, "node")])


@example(ErrorAnswer(503), (Operation.STREAM, ""))
@given(ANSWERS, STEPS)
def test_stored_outcomes_are_final(answer: ErrorAnswer, step: tuple[Operation, str]) -> None:
    """A stored outcome is never UNAVAILABLE, never called repeatable, and its delivery is FAILED."""
    operation, node_id = step
    if operation is Operation.RESULT and not answer.request_id:
        return  # without fal's id a result is not the stored one (§17.1)
    error = FalError(operation, Failure.ANSWER, "x", answer=answer, is_stored=True, node_id=node_id)
    verdict = verdicts.of_fal_error(error)
    assert verdict.code not in (c.UNAVAILABLE, c.CANCELLED, c.OK)
    assert verdict.retry_seconds is None
    assert verdict.metadata["delivery"] == "FAILED"
    assert verdict.reason not in ("OUTCOME_UNKNOWN", "UPSTREAM_INTERRUPTED")


@given(ANSWERS, st.sampled_from(PAID), st.booleans())
def test_paid_calls_look_repeatable_only_when_nothing_ran(
    answer: ErrorAnswer, operation: Operation, limited: bool
) -> None:
    """UNAVAILABLE for a paid call means that fal itself says that nothing ran; CANCELLED is never made."""
    error = FalError(operation, Failure.ANSWER, "x", answer=answer)
    error.hit_queue_limit = limited
    verdict = verdicts.of_fal_error(error)
    assert verdict.code not in (c.CANCELLED, c.OK)
    if verdict.code == c.UNAVAILABLE:
        assert answer.error_type in (
            "startup_timeout",
            "runner_scheduling_failure",
            "runner_connection_refused",
        )
        assert verdict.metadata["delivery"] == "REJECTED"
    if verdict.code == c.UNKNOWN:
        assert verdict.metadata["delivery"] != "NOT_SENT"


NOTHING_LEFT = (Failure.UNREACHABLE, Failure.BUSY, Failure.SUSPENDED)
SOMETHING_LEFT = [one for one in Failure if one not in (*NOTHING_LEFT, Failure.ANSWER)]


@pytest.mark.parametrize("failure", NOTHING_LEFT)
def test_what_never_left_says_so(failure: Failure) -> None:
    """When nothing left, any call is NOT_SENT and told when to try again."""
    for operation in Operation:
        error = FalError(operation, failure, "x", retry_after_seconds=2.5)
        verdict = verdicts.of_fal_error(error)
        assert verdict.code == (c.RESOURCE_EXHAUSTED if failure is Failure.BUSY else c.UNAVAILABLE)
        assert (verdict.metadata["delivery"], verdict.retry_seconds) == ("NOT_SENT", 2.5)


@pytest.mark.parametrize("failure", SOMETHING_LEFT)
def test_paid_calls_cut_after_bytes_left_are_not_repeatable(failure: Failure) -> None:
    """No failure of a paid exchange that had begun is UNAVAILABLE or carries a retry delay."""
    for operation in PAID:
        verdict = verdicts.of_fal_error(FalError(operation, failure, "x"))
        assert verdict.code != c.UNAVAILABLE
        if failure is not Failure.NOT_COMPLETED:  # never of a paid operation
            assert verdict.retry_seconds is None


# Completeness

FALS_REQUEST_ERRORS = {
    "request_timeout", "startup_timeout", "runner_scheduling_failure", "runner_connection_timeout",
    "runner_disconnected", "runner_connection_refused", "runner_connection_error",
    "runner_incomplete_response", "runner_server_error", "internal_error", "client_disconnected",
    "client_cancelled", "bad_request", "concurrent_requests_limit",
}  # fmt: skip


def test_every_request_error_has_a_row() -> None:
    """§12.1's types and the table's are the same set."""
    assert set(status_table.REQUEST_ERRORS) == FALS_REQUEST_ERRORS


def test_every_retryable_model_error_has_a_row() -> None:
    """§12.2's types that are not about the input are in the table."""
    types = {
        "internal_server_error",
        "generation_timeout",
        "downstream_service_error",
        "downstream_service_unavailable",
    }
    assert types | {"file_download_error"} == set(status_table.MODEL_ERRORS)


def test_every_failure_has_a_row() -> None:
    """Each way in which an exchange can fail gives a verdict, for every operation."""
    for failure, operation in itertools.product(Failure, Operation):
        answer = ErrorAnswer(500) if failure is Failure.ANSWER else None
        verdict = verdicts.of_fal_error(FalError(operation, failure, "x", answer=answer))
        assert verdict.code != c.OK
        assert verdict.reason
        assert verdict.metadata["delivery"] in {d.value for d in Delivery}


def test_every_documented_status_has_a_row() -> None:
    """Each status of §12.5 that is not told by its text has a row."""
    told_by_text = {401, 404}
    documented = {400, 401, 402, 403, 404, 405, 408, 409, 413, 422, 424, 429, 499, 500, 502, 503, 504}
    assert documented - told_by_text <= set(status_table.HTTP_STATUSES)

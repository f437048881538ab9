"""When a request to fal is sent again (docs/decisions/0001-commit-point.md)."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falrpc_server.fal_http import retry
from falrpc_server.fal_http.error_bodies import ErrorAnswer, Failure, FalError
from falrpc_server.fal_http.models import Operation

HARMLESS = {
    Operation.STATUS,
    Operation.STATUS_STREAM,
    Operation.RESULT,
    Operation.CANCEL,
    Operation.UPLOAD_INITIATE,
}
PAID = [operation for operation in Operation if operation.is_paid]
POLICY = retry.Policy(resends_max=2)
STATUSES = [301, 400, 401, 403, 404, 408, 409, 422, 429, 499, 500, 501, 502, 503, 504, 520]


def failed(operation: Operation, failure: Failure, status: int = 0, **answer: object) -> FalError:
    given = ErrorAnswer(status, **answer) if failure is Failure.ANSWER else None
    return FalError(operation, failure, "x", answer=given)


def delay(
    error: FalError, resends: int = 0, left: float | None = None, fraction: float = 0.5
) -> float | None:
    return retry.delay_seconds(error, resends, left, POLICY, lambda: fraction)


@pytest.mark.parametrize("operation", Operation)
def test_what_never_left_is_sent_again(operation: Operation) -> None:
    """When no byte left, any request may be sent again."""
    assert delay(failed(operation, Failure.UNREACHABLE)) is not None


@pytest.mark.parametrize(
    ("operation", "failure"),
    [
        pytest.param(o, f, id=f"{o.name}-{f.name}")
        for o, f in itertools.product(PAID, Failure)
        if f not in (Failure.UNREACHABLE, Failure.ANSWER)
    ],
)
def test_paid_work_that_may_have_left_is_not_sent_again(operation: Operation, failure: Failure) -> None:
    """No failure after a byte may have left makes us send a paid request again."""
    assert delay(failed(operation, failure)) is None


@pytest.mark.parametrize("status", STATUSES)
def test_paid_work_that_was_answered_is_not_sent_again(status: int) -> None:
    """No error status but fal's own 429 makes us send a paid request again, hint or not."""
    if status == 429:
        return
    for operation, hint in itertools.product(PAID, (None, True, False)):
        error = failed(operation, Failure.ANSWER, status, needs_retry=hint, retry_after_seconds=0.0)
        assert delay(error) is None


@pytest.mark.parametrize(
    ("operation", "answer", "is_sent_again"),
    [
        pytest.param(Operation.RUN, {"error_type": "concurrent_requests_limit"}, True, id="run-fals-type"),
        pytest.param(Operation.STREAM, {"error_type": "concurrent_requests_limit"}, True, id="stream-type"),
        pytest.param(Operation.RUN, {"needs_retry": True}, True, id="run-hint"),
        pytest.param(Operation.RUN, {"needs_retry": False}, False, id="run-hint-against"),
        pytest.param(Operation.RUN, {"request_id": "r"}, False, id="run-the-apps-own"),
        pytest.param(Operation.STREAM, {}, False, id="stream-the-apps-own"),
        pytest.param(Operation.SUBMIT, {}, True, id="submit"),
        pytest.param(Operation.SUBMIT, {"retry_after_seconds": 3.0}, True, id="submit-soon"),
        pytest.param(Operation.SUBMIT, {"retry_after_seconds": 6.0}, False, id="submit-much-later"),
    ],
)
def test_what_fal_itself_refused_is_sent_again(
    operation: Operation, answer: dict[str, object], is_sent_again: bool
) -> None:
    """A 429 that is fal's own says that nothing was begun; one of an app says nothing of the kind."""
    error = failed(operation, Failure.ANSWER, 429, **answer)
    assert (delay(error) is not None) == is_sent_again


def test_a_queue_that_is_too_long_for_the_caller() -> None:
    """A 429 that answers the caller's own longest queue is told, not repeated."""
    error = failed(Operation.SUBMIT, Failure.ANSWER, 429)
    error.hit_queue_limit = True
    assert delay(error) is None


@pytest.mark.parametrize("operation", Operation)
@pytest.mark.parametrize("failure", [Failure.BUSY, Failure.SUSPENDED])
def test_limits_of_our_own_are_told_at_once(operation: Operation, failure: Failure) -> None:
    """What was held back here is known to pass, and is repeated here only when bytes of files would be lost."""
    error = failed(operation, failure)
    waits = failure is Failure.SUSPENDED and operation.has_own_credential
    assert (delay(error) is not None) == waits
    assert retry.is_passing(error)


@pytest.mark.parametrize("operation", sorted(HARMLESS, key=lambda o: o.name))
def test_reads_are_repeated_after_passing_failures(operation: Operation) -> None:
    """What changes nothing is sent again after a cut, a truncation, a 429 and a 502, 503 or 504, and after nothing else."""
    assert delay(failed(operation, Failure.INTERRUPTED)) is not None
    assert delay(failed(operation, Failure.TRUNCATED)) is not None
    for failure in (Failure.MALFORMED, Failure.TOO_LARGE, Failure.NOT_COMPLETED):
        assert delay(failed(operation, failure)) is None
    repeated = {status for status in STATUSES if delay(failed(operation, Failure.ANSWER, status)) is not None}
    assert repeated == {429, 502, 503, 504}


@pytest.mark.parametrize("status", STATUSES)
def test_a_stored_outcome_is_not_read_again(status: int) -> None:
    """The outcome of a finished request stays what it is, so it is read once."""
    answer = ErrorAnswer(status, request_id="r", needs_retry=True)
    error = FalError(Operation.RESULT, Failure.ANSWER, "x", answer=answer, is_stored=True)
    assert delay(error) is None


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_bytes_of_files_are_repeated(status: int) -> None:
    """A file's bytes replace themselves: they are sent again after all that may pass."""
    for operation in (Operation.UPLOAD_PUT, Operation.UPLOAD_PART, Operation.UPLOAD_COMPLETE):
        assert delay(failed(operation, Failure.INTERRUPTED)) is not None
        assert delay(failed(operation, Failure.ANSWER, status)) is not None
        assert delay(failed(operation, Failure.ANSWER, 403)) is None


@pytest.mark.parametrize("resends_max", range(4))
def test_the_limit_of_resends(resends_max: int) -> None:
    """A request is sent again as often as the policy allows."""
    error, policy = failed(Operation.STATUS, Failure.UNREACHABLE), retry.Policy(resends_max)
    allowed = [retry.delay_seconds(error, resends, None, policy) is not None for resends in range(5)]
    assert allowed == [resends < resends_max for resends in range(5)]


@given(st.integers(0, 1), st.floats(0, 1))
def test_full_jitter_within_bounds(resends: int, fraction: float) -> None:
    """The whole delay is drawn, from zero to a ceiling that grows and is capped."""
    error = failed(Operation.STATUS, Failure.UNREACHABLE)
    seconds = delay(error, resends, fraction=fraction)
    assert seconds is not None
    assert 0 <= seconds <= min(retry.CAP_SECONDS, retry.BASE_SECONDS * 4**resends)
    assert delay(error, resends, fraction=0.0) == 0.0


def test_retry_after_is_a_floor() -> None:
    """What fal asks to wait is waited in full, with jitter on top."""
    error = failed(Operation.STATUS, Failure.ANSWER, 429, retry_after_seconds=3.0)
    assert delay(error, fraction=0.0) == 3.0
    assert 3.0 < (delay(error, fraction=1.0) or 0) <= 3.0 + retry.CAP_SECONDS


def test_nothing_is_repeated_past_the_deadline() -> None:
    """A delay that would reach the deadline ends the repeats."""
    error = failed(Operation.STATUS, Failure.ANSWER, 503, retry_after_seconds=3.0)
    assert delay(error, left=3.0, fraction=0.0) is None
    assert delay(error, left=3.01, fraction=0.0) == 3.0
    assert delay(failed(Operation.STATUS, Failure.UNREACHABLE), left=-1.0) is None

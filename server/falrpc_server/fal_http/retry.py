"""Decides whether a request to fal is sent again. Pure: seconds or None.

fal has no idempotency key (docs/fal-http-api.md §4), so a paid request is sent again only when nothing of
it can have been accepted: no byte left, or fal itself refused it with a 429 before any work.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from falrpc_server.fal_http.error_bodies import Failure, FalError
from falrpc_server.fal_http.models import Operation

__all__ = ["Budget", "Policy", "delay_seconds", "is_fals_limit", "is_passing", "may_repeat", "was_refused"]

BASE_SECONDS = 0.1
CAP_SECONDS = 5.0
RETRY_AFTER_SECONDS_MAX = 5.0
PAID_SECONDS_MIN = 1.0  # fal's least start timeout: with less time a paid request would end in doubt
CONCURRENCY = "concurrent_requests_limit"
WINDOW_SECONDS = 10

# Repeating these changes nothing at fal: a second cancellation finds the first, a second upload URL or token
# is free, the same bytes again replace themselves or become a second file that nobody knows.
_HARMLESS = frozenset(
    {
        Operation.STATUS,
        Operation.STATUS_STREAM,
        Operation.RESULT,
        Operation.CANCEL,
        Operation.UPLOAD_INITIATE,
        Operation.UPLOAD_TOKEN,
        Operation.UPLOAD_BEGIN,
        Operation.UPLOAD_PUT,
        Operation.UPLOAD_PART,
        Operation.UPLOAD_COMPLETE,
    }
)
_PASSING_STATUSES = frozenset({429, 502, 503, 504})
_PASSING_AT_STORAGE = _PASSING_STATUSES | {408, 500}


@dataclass(frozen=True, slots=True)
class Policy:
    """How much is sent again at the most.

    Attributes:
        resends_max: Of one request.
        share: Of all requests, as a share of the first attempts of the last ten seconds.
        reserve: How many more in ten seconds, so that little traffic may repeat, too.
    """

    resends_max: int = 2
    share: float = 0.1
    reserve: int = 10


OF_UPLOADS = Policy(resends_max=5, share=1.0, reserve=100)
"""Of the bytes of files: they cost nothing, and a whole file would be lost for one part."""


def delay_seconds(
    error: FalError,
    resends: int,
    seconds_left: float | None,
    policy: Policy,
    fraction: Callable[[], float] = random.random,
) -> float | None:
    """Returns how long to wait before the request is sent again, or None when it must not be.

    Args:
        error: What the last attempt ended with: its operation, and the answer or what was sent.
        resends: How often the request has been sent again already.
        seconds_left: Time until the call's deadline, None for no limit.
        policy: How often at the most.
        fraction: Gives the jitter, from 0 to 1: the whole delay is drawn ("full jitter").
    """
    if resends >= policy.resends_max or not may_repeat(error):
        return None
    delay = fraction() * min(CAP_SECONDS, BASE_SECONDS * 4.0**resends)
    if error.retry_after_seconds is not None:
        if error.retry_after_seconds > RETRY_AFTER_SECONDS_MAX:
            return None  # the caller is told how long, and decides
        delay += error.retry_after_seconds
    needed = PAID_SECONDS_MIN if error.operation.is_paid else 0.0
    if seconds_left is not None and delay + needed >= seconds_left:
        return None
    return delay


def may_repeat(error: FalError) -> bool:
    """Whether the request may be sent again at all, and may fare better then."""
    if error.failure is Failure.UNREACHABLE or was_refused(error):
        return True
    if error.failure is Failure.SUSPENDED and error.operation.has_own_credential:
        return True  # for some seconds, and a whole file would be lost for them
    if error.operation not in _HARMLESS or error.is_stored:
        return False
    if error.failure is Failure.ANSWER:
        is_at_storage = error.operation.has_own_credential
        return error.http_status in (_PASSING_AT_STORAGE if is_at_storage else _PASSING_STATUSES)
    return error.failure in (Failure.INTERRUPTED, Failure.TRUNCATED)


def is_passing(error: FalError) -> bool:
    """Whether the same request may fare better later, though not at once."""
    return may_repeat(error) or error.failure in (Failure.BUSY, Failure.SUSPENDED)


def is_fals_limit(error: FalError) -> bool:
    """Whether fal itself refused a request because of its own limits, before any work.

    A 429 without fal's marks is the app's own, which may have worked before it said so, and which may write
    any `error_type` into its body.
    """
    answer = error.answer
    if answer is None or answer.http_status != 429 or error.is_stored:
        return False
    is_marked = answer.is_platforms or answer.needs_retry is True or answer.error_type == CONCURRENCY
    return is_marked or error.operation is Operation.SUBMIT


def was_refused(error: FalError) -> bool:
    """Whether a paid request was refused so, and not because its caller wanted no longer queue."""
    return error.operation.is_paid and is_fals_limit(error) and not error.hit_queue_limit


class Budget:
    """Keeps resends a share of the traffic, so that an outage is not met with three times the load.

    Seconds are those of any clock that does not go back.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._seconds: deque[_Second] = deque()

    def sent(self, now: float) -> None:
        """Counts a first attempt."""
        self._second(now).first_attempts += 1

    def take(self, now: float) -> bool:
        """Counts a resend and returns True, or returns False when there have been enough."""
        second = self._second(now)
        resends = sum(one.resends for one in self._seconds)
        first_attempts = sum(one.first_attempts for one in self._seconds)
        if resends + 1 > self._policy.reserve + self._policy.share * first_attempts:
            return False
        second.resends += 1
        return True

    def _second(self, now: float) -> "_Second":
        number = int(now)
        if not self._seconds or self._seconds[-1].number != number:
            self._seconds.append(_Second(number))
        while self._seconds[0].number <= number - WINDOW_SECONDS:
            self._seconds.popleft()
        return self._seconds[-1]


@dataclass(slots=True)
class _Second:
    number: int
    first_attempts: int = 0
    resends: int = 0

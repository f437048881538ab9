"""Decides whether a request to fal is sent again. Pure: one function, seconds or None.

fal has no idempotency key (docs/fal-http-api.md §4), so a paid request is sent again only when no
byte of it can have arrived.
"""

import random
from collections.abc import Callable

from falrpc_server.fal_http.error_bodies import Failure, FalError
from falrpc_server.fal_http.models import Operation

__all__ = ["RESENDS_MAX", "delay_seconds", "may_repeat"]

RESENDS_MAX = 2
BASE_SECONDS = 0.1
CAP_SECONDS = 5.0
RETRY_AFTER_SECONDS_MAX = 5.0

_READS = frozenset({Operation.STATUS, Operation.STATUS_STREAM, Operation.RESULT})
_PASSING_STATUSES = frozenset({429, 502, 503, 504})


def delay_seconds(
    error: FalError,
    resends: int,
    seconds_left: float | None,
    fraction: Callable[[], float] = random.random,
) -> float | None:
    """Returns how long to wait before the request is sent again, or None when it must not be.

    Args:
        error: What the last attempt ended with.
        resends: How often the request has been sent again already.
        seconds_left: Time until the call's deadline, None for no limit.
        fraction: Gives the jitter, from 0 to 1: the whole delay is drawn ("full jitter").
    """
    if resends >= RESENDS_MAX or not may_repeat(error):
        return None
    delay = fraction() * min(CAP_SECONDS, BASE_SECONDS * 4.0**resends)
    if error.answer and error.answer.retry_after_seconds is not None:
        if error.answer.retry_after_seconds > RETRY_AFTER_SECONDS_MAX:
            return None  # the caller is told how long, and decides
        delay += error.answer.retry_after_seconds
    if seconds_left is not None and delay >= seconds_left:
        return None
    return delay


def may_repeat(error: FalError) -> bool:
    """Whether the request may be sent again at all, and may fare better then."""
    if error.failure is Failure.UNREACHABLE:
        return True
    if error.operation not in _READS or error.is_stored:
        return False
    if error.failure is Failure.ANSWER:
        return error.http_status in _PASSING_STATUSES
    return error.failure in (Failure.INTERRUPTED, Failure.TRUNCATED)

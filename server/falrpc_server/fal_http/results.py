"""Results of completed requests: the patience that reading them takes, and what their errors say."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from falrpc_server.fal_http.error_bodies import Failure, FalError
from falrpc_server.fal_http.models import RequestOutcome

__all__ = ["outcome_of", "outcome_when_there", "when_there"]

OUTCOME_SECONDS_MAX = 5.0  # those who follow the request wait for it
PAUSES_SECONDS = (0.1, 0.3, 1.0, 2.0)

_T = TypeVar("_T")


async def when_there(read: Callable[[], Awaitable[_T]]) -> _T:
    """Reads a completed request's result, again for a while if fal does not know yet that it is completed."""
    for delay in PAUSES_SECONDS:
        try:
            return await read()
        except FalError as error:
            is_too_early = error.answer.is_too_early if error.answer else False
            if not is_too_early and error.failure is not Failure.NOT_COMPLETED:
                raise
        await asyncio.sleep(delay)
    return await read()


async def outcome_when_there(read: Callable[[], Awaitable[None]]) -> RequestOutcome:
    """How a completed request ended, told by reading its result. UNKNOWN when that can't be done soon."""
    try:
        async with asyncio.timeout(OUTCOME_SECONDS_MAX):
            await when_there(read)
    except FalError as error:
        return outcome_of(error)
    except TimeoutError:
        return RequestOutcome.UNKNOWN
    return RequestOutcome.SUCCEEDED


def outcome_of(error: FalError) -> RequestOutcome:
    """How a request ended, from the error that its result was."""
    if not error.is_stored:
        return RequestOutcome.UNKNOWN
    return RequestOutcome.CANCELLED if error.http_status == 499 else RequestOutcome.FAILED

"""Gives every call an end: the caller's deadline, or the server's own."""

import asyncio
from typing import Any

from falrpc_server.interceptors.adapter import Interceptor, Proceed
from falrpc_server.interceptors.call import Call

__all__ = ["DeadlinePassed", "deadline"]


class DeadlinePassed(Exception):
    """The call's time is over."""


def deadline(default_seconds: float, seconds_max: float) -> Interceptor:
    """Returns the interceptor.

    Args:
        default_seconds: How long a call without a deadline may take.
        seconds_max: How long any call may take.
    """

    async def with_deadline(call: Call, proceed: Proceed) -> Any:
        left = call.context.time_remaining()
        limit = min(default_seconds if left is None else left, seconds_max)
        call.scope.deadline = asyncio.get_running_loop().time() + limit
        call.scope.start_timeout_derived = left is not None
        try:
            async with asyncio.timeout_at(call.scope.deadline) as timeout:
                return await proceed()
        except TimeoutError:
            if timeout.expired():
                raise DeadlinePassed from None
            raise

    return with_deadline

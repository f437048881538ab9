"""Writes one log line for each finished call. It never shows inputs, outputs or keys."""

import asyncio
import time
from typing import Any

from falrpc_server.interceptors.adapter import Proceed
from falrpc_server.interceptors.call import Call

__all__ = ["observe"]

DEADLINE_SECONDS = 0.05  # grpc may tell of the deadline a little before its clock does


async def observe(call: Call, proceed: Proceed) -> Any:
    """Outermost interceptor: sees how the call ended."""
    try:
        return await proceed()
    except (asyncio.CancelledError, GeneratorExit):
        if call.code == "OK":  # else its status is on the way already
            left = call.context.time_remaining()
            is_late = left is not None and left <= DEADLINE_SECONDS
            call.code = "DEADLINE_EXCEEDED" if is_late else "CANCELLED"
            call.reason, call.source = "CALL_DEADLINE_EXCEEDED" if is_late else "", "caller"
        raise
    finally:
        call.log.info(
            "call.finished",
            code=call.code,
            reason=call.reason,
            source=call.source,
            http_status=call.http_status,
            **({"cause": call.cause} if call.cause else {}),
            identity=call.identity,
            tenant=call.caller.tenant.name if call.caller else "",
            endpoint_id=call.endpoint_id,
            request_id=call.request_id,
            duration_seconds=round(time.monotonic() - call.started, 6),
            attempts=call.scope.attempts,
            messages=call.messages,
            paid=call.is_paid,
        )

"""Lets a call begin, or refuses it before anything of it is done."""

import time
from typing import Any

from falrpc_server.access import rules
from falrpc_server.access.admission import Admission, Methods
from falrpc_server.interceptors.adapter import Interceptor, Proceed
from falrpc_server.interceptors.call import Call

__all__ = ["METHODS", "admission"]

METHODS = {
    **dict.fromkeys(rules.CALLS, Methods.CALLS),
    **dict.fromkeys(rules.STREAMS, Methods.STREAMS),
    **dict.fromkeys(rules.UPLOADS, Methods.UPLOADS),
}
"""Every method of FalService, and what counts with it."""


def admission(door: Admission) -> Interceptor:
    """Returns the interceptor. It comes after the one that finds out who calls."""

    async def admitted(call: Call, proceed: Proceed) -> Any:
        method = call.method
        methods = METHODS.get(method, Methods.CALLS)
        tenant = call.permitted.tenant
        door.enter(methods, method, tenant, call.context.time_remaining())
        started, succeeded = time.monotonic(), False
        try:
            response = await proceed()
            succeeded = True
            return response
        finally:
            door.leave(methods, method, tenant, time.monotonic() - started, succeeded)

    return admitted

"""Refuses calls that come when the server is about to stop."""

from typing import Any

from falrpc_server.interceptors.adapter import Interceptor, Proceed
from falrpc_server.interceptors.call import Call, CallRegistry

__all__ = ["ServerDraining", "refusing"]


class ServerDraining(Exception):
    """The server takes no new calls."""


def refusing(calls: CallRegistry) -> Interceptor:
    """Returns the interceptor: it refuses new calls from calls.refuse_new() on."""

    async def unless_draining(call: Call, proceed: Proceed) -> Any:
        if calls.refuses_new:
            calls.note_refusal()
            raise ServerDraining
        return await proceed()

    return unless_draining

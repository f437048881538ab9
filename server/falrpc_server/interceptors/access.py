"""Finds out who calls, and whether that caller may call this method."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from falrpc_server.access.authentication import Peer
from falrpc_server.access.gate import Gate
from falrpc_server.interceptors.adapter import Interceptor, Proceed
from falrpc_server.interceptors.call import Call

__all__ = ["access"]


def access(gate: Gate) -> Interceptor:
    """Returns the interceptor. What the method asks for is checked later, when it has been read."""

    async def with_caller(call: Call, proceed: Proceed) -> Any:
        context = call.context
        peer = Peer(
            address=context.peer(),
            certificate=cast(Mapping[str, Sequence[bytes]], context.auth_context()),
            metadata=cast(Sequence[tuple[str, str | bytes]], context.invocation_metadata() or ()),
        )
        call.identity = await gate.identify(peer)
        call.caller = gate.enter(call.identity, peer, call.method)
        return await proceed()

    return with_caller

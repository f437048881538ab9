"""One shape for all four kinds of methods, so that an interceptor is one plain function.

grpc hands an interceptor a handler whose type depends on how many messages go each way. Here each method
of FalService becomes one coroutine: a streaming method's messages are written from it, so that deadlines,
cancellation and clean-up happen in one frame. (Left to grpc, an abandoned generator would be closed by the
event loop's finalizer, in another task: grpc/grpc#42295.) Other services pass untouched: grpc's health
Watch, for one, is no generator but writes through its context.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError

from falrpc_server.interceptors.call import Call, CallRegistry
from falrpc_server.translate.violations import InvalidRequest, Violation

__all__ = ["Chain", "Interceptor", "Proceed"]

REQUEST_SECONDS_MAX = 60.0  # for the one request of a method to come, once the call is there

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Proceed = Callable[[], Awaitable[Any]]
Interceptor = Callable[[Call, Proceed], Awaitable[Any]]


class Chain(grpc.aio.ServerInterceptor):
    """Runs every call of some services through interceptors, outermost first.

    The services' methods take a request (or an iterator of requests) and a Call.
    """

    def __init__(
        self,
        services: Sequence[str],
        interceptors: Sequence[Interceptor],
        calls: CallRegistry,
        log: structlog.typing.FilteringBoundLogger,
        stall_seconds: float,
    ) -> None:
        """Ends streams whose callers leave a message unread for `stall_seconds`."""
        self._stall_seconds = stall_seconds
        self._prefixes = tuple(f"/{service}/" for service in services)
        self._interceptors = tuple(reversed(interceptors))
        self._calls = calls
        self._log = log
        self._adapted: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """Returns the handler of the call's method, adapted; None when there is no such method."""
        path = handler_call_details.method
        if adapted := self._adapted.get(path):
            return adapted
        handler = await continuation(handler_call_details)
        if handler is None or not path.startswith(self._prefixes):
            return handler
        return self._adapted.setdefault(path, self._adapt(path.rpartition("/")[2], handler))

    def _adapt(self, method: str, handler: Any) -> Handler:
        way_in = "stream" if handler.request_streaming else "unary"
        way_out = "stream" if handler.response_streaming else "unary"
        behaviour = getattr(handler, f"{way_in}_{way_out}")
        adapter = self._streaming if handler.response_streaming else self._unary
        # As one that takes a stream, whatever it takes: grpc would read the one request of the others, and
        # hold it, before the interceptors know who calls. They decode it, too: a bad one ends like any.
        make = getattr(grpc, f"stream_{way_out}_rpc_method_handler")
        decode = _decoded_all if handler.request_streaming else _only
        read = partial(decode, handler.request_deserializer)
        adapted: Handler = make(partial(adapter, method, behaviour, read), None, handler.response_serializer)
        return adapted

    async def _unary(self, method: str, behaviour: Any, read: Any, request: Any, context: Any) -> Any:
        call = Call(method, context, self._log, self._stall_seconds)

        async def respond() -> Any:
            response = await behaviour(await read(request, context), call)
            call.messages += 1
            return response

        return await self._through(call, respond)

    async def _streaming(self, method: str, behaviour: Any, read: Any, request: Any, context: Any) -> None:
        call = Call(method, context, self._log, self._stall_seconds)

        async def respond() -> None:
            asked = await read(request, context)
            async with call.streaming(), aclosing(behaviour(asked, call)) as messages:
                async for message in messages:
                    await call.send(message)

        await self._through(call, respond)

    async def _through(self, call: Call, respond: Proceed) -> Any:
        proceed = respond
        for interceptor in self._interceptors:
            proceed = partial(interceptor, call, proceed)
        self._calls.add(call)
        try:
            return await proceed()
        finally:
            self._calls.remove(call)
            call.release()


async def _only(deserialize: Callable[[bytes], Any], _: Any, context: Any) -> Any:
    """The request of a method that takes one."""
    try:
        async with asyncio.timeout(REQUEST_SECONDS_MAX) as limit:
            message = await context.read()
    except TimeoutError:
        if not limit.expired():
            raise
        raise InvalidRequest([Violation("request", f"must come within {REQUEST_SECONDS_MAX:g} s")]) from None
    if message is grpc.aio.EOF:
        raise InvalidRequest([Violation("request", "is required")])
    return _decoded(deserialize, message)


def _decoded(deserialize: Callable[[bytes], Any], message: bytes) -> Any:
    try:
        return deserialize(message)
    except DecodeError:
        description = "is no message of this method, or is nested too deeply"
        raise InvalidRequest([Violation("request", description)]) from None


async def _decoded_all(
    deserialize: Callable[[bytes], Any], messages: AsyncIterator[bytes], _: Any
) -> AsyncIterator[Any]:
    return _each_decoded(deserialize, messages)


async def _each_decoded(
    deserialize: Callable[[bytes], Any], messages: AsyncIterator[bytes]
) -> AsyncIterator[Any]:
    async for message in messages:
        held = [message]
        del message  # large ones are not kept while the next one is awaited
        yield _decoded(deserialize, held.pop())

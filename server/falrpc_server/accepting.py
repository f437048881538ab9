"""How calls are taken from grpc's core: several at once, and those of methods that are not there, too.

grpc.aio takes one call of each method at a time, and for each looks at the outstanding requests for all
methods. On a busy machine calls then wait unseen in the core while the event loop has time for them: a
refusal that costs half a millisecond comes after half a second. Here a few requests for each method are open.

And it decodes the name of a method that nobody registered as UTF-8, in the task that takes all calls. Bytes
that are no text raise there, and grpc takes that for the server's end: one frame, from anyone who gets a
connection, before any interceptor, ends the listener and every call on it (grpcio 1.85.1). Here such calls
are answered UNIMPLEMENTED without a look at their names.

There is no public way to do so. With a version of grpc that has changed its inner parts the tests of names
that are no text fail; that several calls are taken at once only the figures of tests/overload show.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined] # it has no types

__all__ = ["make_server"]

Refuse = Callable[[str], Any]

AT_ONCE = 8  # requests for calls of one method
UNKNOWN = ""


def make_server(
    interceptors: Sequence[Any], options: Sequence[tuple[str, Any]], refuse: Refuse
) -> grpc.aio.Server:
    """grpc.aio.server(), whose methods must all be registered.

    Args:
        interceptors: As there.
        options: As there.
        refuse: Asked for each call by its method's path, before anything is read: a handler that refuses it,
            without interceptors, or None.
    """
    standard = cygrpc.AioServer
    cygrpc.AioServer = partial(_AioServer, refuse)  # there is no other way to say what a server is made of
    try:
        return grpc.aio.server(interceptors=interceptors, options=options)
    finally:
        cygrpc.AioServer = standard


class _AioServer(cygrpc.AioServer):  # type: ignore[misc] # it has no types
    def __new__(cls, refuse: Refuse, *rest: Any) -> "_AioServer":
        made: _AioServer = super().__new__(cls, *rest)
        return made

    def __init__(
        self,
        refuse: Refuse,
        loop: asyncio.AbstractEventLoop,
        thread_pool: Any,
        generic_handlers: Any,
        interceptors: Any,
        *rest: Any,
    ) -> None:
        super().__init__(loop, thread_pool, generic_handlers, interceptors, *rest)
        self._refuse = refuse
        self._own_loop = loop
        self._own_interceptors = tuple(interceptors or ())
        self._methods: dict[str, Any] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._beginning = asyncio.Lock()

    def add_registered_method_handlers(self, method_handlers: Mapping[str, Any]) -> None:
        super().add_registered_method_handlers(method_handlers)
        self._methods |= method_handlers

    def _make_request_call_future(self, method: bytes | None) -> "asyncio.Future[None]":
        """Takes all calls of a method, or of all that are not registered (None).

        grpc's own loop wants a future of the next call. What it gets ends with the server.
        """
        over = self._own_loop.create_future()
        if method is None:
            self._start(self._accept(UNKNOWN, self._request_call, {}, over))
        else:
            for _ in range(AT_ONCE):
                take = partial(self._request_registered_call, method)
                self._start(self._accept(method.decode(), take, self._methods, over))
        return over

    async def _accept(
        self,
        name: str,
        take: Callable[[], Awaitable[Any]],
        methods: Mapping[str, Any],
        over: "asyncio.Future[None]",
    ) -> None:
        """Takes one call after the other for as long as the server runs."""
        resolver = cygrpc._MethodResolver([], methods)
        interceptors = self._own_interceptors if methods else ()
        while self.is_running():
            try:
                state = await take()
            except cygrpc._RequestCallError:  # of a call that has gone, or of the server's end
                continue
            except Exception as error:  # grpc ends the server then, and says why
                if not over.done():
                    over.set_exception(error)
                return
            if refusing := self._refuse(name):
                refusal = cygrpc._MethodResolver([], {name: refusing})
                self._handle(name, refusal, (), state)
                continue
            async with self._beginning:  # one at a time: what begins together holds up everything else
                self._handle(name, resolver, interceptors, state)
                await asyncio.sleep(0)
        if not over.done():
            over.set_exception(cygrpc._RequestCallError)  # as grpc's own requests end then

    def _handle(self, name: str, resolver: Any, interceptors: Any, state: Any) -> None:
        handling = cygrpc._handle_rpc(name, resolver, interceptors, state, self._own_loop, False)
        self._start(cygrpc._schedule_rpc_coro(handling, state, self._own_loop, name))

    def _start(self, work: Any) -> None:
        task = self._own_loop.create_task(work)
        self._tasks.add(task)  # the loop alone would not hold it
        task.add_done_callback(self._tasks.discard)

"""One call of FalService: what its method, the interceptors and the drain share about it."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import grpc
import structlog

from falrpc_server.access.gate import Caller
from falrpc_server.fal_http.models import CallInfo, EndpointId, Scope
from falrpc_server.interceptors.heartbeats import Heartbeats

__all__ = ["LOGGED_CHARACTERS_MAX", "Call", "CallRegistry", "ReaderStalled"]

TRAILER_BYTES_MAX = 256
LOGGED_CHARACTERS_MAX = 200
METADATA_SECONDS_MAX = 1.0  # of a call that is cancelled; usually a fraction of a millisecond


class ReaderStalled(Exception):
    """The caller has not read a message for too long."""


class Call:
    """One call, from its first message to its status.

    Attributes:
        method: The method's name without the service, for instance `Run`.
        call_id: Our own id of the call, for the log.
        context: grpc's side of it.
        log: A logger that names the call.
        scope: What it lends to exchanges with fal.
        identity, caller: Who makes it, and what that one may do, as soon as each is known.
        endpoint: The endpoint that it may use.
        endpoint_id, request_id: What it is about, as soon as that is known.
        has_handle: Whether request_id names a queue request that goes on without the call.
        code, reason, source, cause, http_status: How it ended, whose affair that is, what callers are not
            told, and what fal answered when it failed, for the log.
        messages: How many messages were sent.
        is_drained, is_stalled: Whether the server's shutdown ended it, or a reader who did not read.
    """

    def __init__(
        self,
        method: str,
        context: "grpc.aio.ServicerContext[Any, Any]",
        log: structlog.typing.FilteringBoundLogger,
        stall_seconds: float,
    ) -> None:
        self.method = method
        self.call_id = secrets.token_hex(8)
        self.context = context
        self.log = log.bind(method=method, call_id=self.call_id)
        self.scope = Scope(commit=self._commit, accepted=self._accepted, noticed=self._noticed)
        self.identity = ""
        self.caller: Caller | None = None
        self.started = time.monotonic()
        self.endpoint: EndpointId | None = None
        self.endpoint_id = ""
        self.request_id = ""
        self.has_handle = False
        self.code = "OK"
        self.reason = ""
        self.source = ""
        self.cause = ""
        self.http_status = 0
        self.messages = 0
        self.is_drained = False
        self.is_stalled = False
        self._stall_seconds = stall_seconds
        self._task = asyncio.current_task()
        self._sending = asyncio.Lock()
        self._has_begun = False
        self._heartbeats: Heartbeats | None = None

    @property
    def is_paid(self) -> bool:
        """Whether the call has begun something that costs money."""
        return self.scope.committed

    def succeeded(self, call: CallInfo) -> None:
        """Notes what fal said about the call; it leaves as trailing metadata."""
        trailers = []
        for name, value in (
            ("x-fal-request-id", call.request_id),
            ("x-fal-billable-units", call.billable_units),
        ):
            # Others would make the client's library refuse the answer with them.
            if value and len(value) <= TRAILER_BYTES_MAX and value.isascii() and value.isprintable():
                trailers.append((name, value))
        self.context.set_trailing_metadata(tuple(trailers))

    @property
    def permitted(self) -> Caller:
        """Who makes the call. To be asked before anything is spent."""
        if self.caller is None:
            raise RuntimeError("nobody asked who calls")
        return self.caller

    def is_about(self, endpoint_id: str, request_id: str = "") -> None:
        """Notes what the call is about, as far as a caller's own text may fill the log."""
        self.endpoint_id = endpoint_id[:LOGGED_CHARACTERS_MAX]
        self.request_id = request_id[:LOGGED_CHARACTERS_MAX]

    async def send(self, message: Any) -> None:
        """Sends a message of a stream. Waits while the reader is slow; raises ReaderStalled in the end."""
        try:
            async with self._sending, asyncio.timeout(self._stall_seconds):  # not of the message before
                await self._write(message)
        except TimeoutError:
            raise ReaderStalled from None

    def start_heartbeats(self, seconds: float, message: Any) -> None:
        """From now on sends the message whenever nothing else was sent for that long; 0 for never."""
        if seconds > 0:
            self._heartbeats = Heartbeats(seconds, partial(self._beat, message))

    @contextlib.asynccontextmanager
    async def streaming(self) -> AsyncIterator[None]:
        """Ends the heartbeats with the stream."""
        try:
            yield
        finally:
            if self._heartbeats:
                await self._heartbeats.stop()

    def drain(self) -> None:
        """Ends the call because the server stops."""
        if self._task and not self._task.done():
            self.is_drained = True
            self._task.cancel()

    def release(self) -> None:
        """Lets go of what refers back to the call, so that it goes at once, without a garbage collection."""
        self.scope, self._heartbeats, self._task = Scope(), None, None

    async def _commit(self) -> None:
        """After initial metadata neither a client library nor a proxy repeats the call."""
        async with self._sending:  # a heartbeat may be first: it brings initial metadata along
            await self._begin()

    def _accepted(self, request_id: str) -> None:
        self.request_id = request_id[:LOGGED_CHARACTERS_MAX]
        self.log.info("request.accepted", endpoint_id=self.endpoint_id, request_id=self.request_id)

    def _noticed(self, what: str, value: str) -> None:
        self.log.warning("fal.noticed", what=what, value=value[:200])

    async def _beat(self, message: Any) -> None:
        try:
            await self.send(message)
        except ReaderStalled:
            if self._task and not self._task.done():
                self.is_stalled = True
                self._task.cancel()

    async def _begin(self) -> None:
        """Sends initial metadata if that was not done, and to the end even when cancelled.

        Broken off in the middle, alone or along with a message, grpc would try to send them again with the
        status, fail, and leave the caller without any.
        """
        if self._has_begun:
            return
        self._has_begun = True
        clock = asyncio.get_running_loop().time
        sending = asyncio.ensure_future(self.context.send_initial_metadata(()))
        sending.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen, whatever comes
        cancelled: asyncio.CancelledError | None = None
        ends_at = None
        while not sending.done() and (ends_at is None or clock() < ends_at):
            try:
                await asyncio.wait({sending}, timeout=ends_at and ends_at - clock())
            except asyncio.CancelledError as error:
                cancelled, ends_at = error, ends_at or clock() + METADATA_SECONDS_MAX
        if cancelled:
            try:
                raise cancelled
            finally:
                del cancelled
        sending.result()

    async def _write(self, message: Any) -> None:
        await self._begin()
        await self.context.write(message)
        self.messages += 1
        if self._heartbeats:
            self._heartbeats.sent()


class CallRegistry:
    """The calls in flight."""

    def __init__(self) -> None:
        self._calls: set[Call] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.refuses_new = False
        self._postpone_quiet: Callable[[], None] = _nothing

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call: Call) -> None:
        """Notes a call that begins."""
        self._calls.add(call)
        self._idle.clear()

    def remove(self, call: Call) -> None:
        """Notes a call that has ended, clean-up included."""
        self._calls.discard(call)
        if not self._calls:
            self._idle.set()

    async def wait_idle(self, seconds: float) -> bool:
        """Waits until no call is in flight, at most that long. Returns whether none is."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        return self._idle.is_set()

    async def refuse_new(self, quiet_seconds: float, seconds_max: float) -> None:
        """From now on new calls are refused. Waits until none has come for a moment."""
        self.refuses_new = True
        clock = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(quiet_seconds) as quiet:

                def postpone() -> None:
                    if not quiet.expired():
                        quiet.reschedule(clock() + quiet_seconds)

                self._postpone_quiet = postpone
                await asyncio.sleep(seconds_max)
        except TimeoutError:
            pass
        finally:
            self._postpone_quiet = _nothing

    def note_refusal(self) -> None:
        """Notes that a call was refused."""
        self._postpone_quiet()

    def drain(self) -> None:
        """Ends all calls because the server stops."""
        for call in list(self._calls):
            call.drain()


def _nothing() -> None:
    return None

"""fal's API as methods: one for each exchange, all through one funnel.

The funnel commits before paid work is handed to the transport, decides about repeats (retry.py), and
raises FalError for whatever is not the answer that was asked for. It knows neither protobuf nor gRPC.
"""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import httpx

from falrpc_server.fal_http import error_bodies, retry, wire
from falrpc_server.fal_http.error_bodies import Failure, FalError
from falrpc_server.fal_http.events import BadEventStream, Event, read_events
from falrpc_server.fal_http.models import (
    CallInfo,
    CallOptions,
    CancelOutcome,
    EndpointId,
    Operation,
    Payload,
    QueueOptions,
    QueueState,
    QueueStatus,
    RequestOutcome,
    RequestRef,
    Scope,
    Submitted,
    Upload,
)
from falrpc_server.fal_http.transport import Progress

__all__ = ["Bounds", "FalClient", "ModelStream"]

ERROR_BODY_BYTES_MAX = 2 * 1024 * 1024
ENVELOPE_BYTES_MAX = 8 * 1024 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Bounds:
    """How much and how long the client waits for.

    Attributes:
        output_bytes_max: Largest output that is read.
        read_idle_seconds: Longest silence of an exchange that should answer at once.
        stream_idle_seconds: Longest silence of a model's stream.
    """

    output_bytes_max: int = 63 * 1024 * 1024
    read_idle_seconds: float = 60.0
    stream_idle_seconds: float = 600.0


@dataclasses.dataclass(slots=True)
class ModelStream:
    """An open stream of a model.

    Attributes:
        call: What the response headers said.
        payload: The whole answer, when it is no event stream; then there are no events.
        events: The data of the events as they come. Raises FalError.
    """

    call: CallInfo
    payload: Payload | None
    events: AsyncGenerator[Event]


class FalClient:
    """One account's access to fal. Safe for any number of concurrent calls on one event loop."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        key: str,
        hosts: wire.Hosts,
        bounds: Bounds | None = None,
        user_agent: str = "falrpc",
    ) -> None:
        self._transport = transport
        self._credential = (("Authorization", f"Key {key}"),)
        self._hosts = hosts
        self._bounds = bounds or Bounds()
        self._standard_headers = (("User-Agent", user_agent), ("Accept-Encoding", "identity"))

    async def run(self, endpoint: EndpointId, body: bytes, options: CallOptions, scope: Scope) -> Payload:
        """Calls a model and returns its output (§6). Paid."""
        request = wire.run(self._hosts, endpoint, body, _with_start_timeout(options, scope))
        about = _About(Operation.RUN, endpoint.full)
        async with self._open(request, about, scope, idle_seconds=None) as response:
            return await self._output(response, about)

    @asynccontextmanager
    async def stream(
        self, endpoint: EndpointId, body: bytes, options: CallOptions, scope: Scope
    ) -> AsyncIterator[ModelStream]:
        """Opens a model's stream (§8). Paid."""
        request = wire.stream(self._hosts, endpoint, body, _with_start_timeout(options, scope))
        about = _About(Operation.STREAM, endpoint.full)
        async with self._open(request, about, scope, self._bounds.stream_idle_seconds) as response:
            call = wire.call_info(response.headers)
            if "text/event-stream" in response.headers.get("content-type", "").lower():
                yield ModelStream(call, None, _events(response, about))
            else:
                yield ModelStream(call, await self._output(response, about), _no_events())

    async def submit(
        self,
        endpoint: EndpointId,
        body: bytes,
        options: CallOptions,
        queue: QueueOptions,
        scope: Scope,
    ) -> Submitted:
        """Puts a request into the queue (§7.2). Paid."""
        request = wire.submit(self._hosts, endpoint, body, options, queue)
        about = _About(Operation.SUBMIT, endpoint.full)
        try:
            async with self._open(request, about, scope, self._bounds.read_idle_seconds) as response:
                answer = await self._envelope(response, about)
                try:
                    submitted = wire.read_submitted(answer)
                except wire.Malformed as error:
                    raise about.failed(Failure.MALFORMED, str(error), response.status_code) from error
                scope.accepted(submitted.request_id)
                # We build these URLs ourselves, and say so should fal ever mean others (§3.2).
                built = wire.status(self._hosts, RequestRef(endpoint, submitted.request_id), logs=False).url
                if submitted.status_url not in ("", built):
                    scope.noticed("other_status_url", submitted.status_url)
                return submitted
        except FalError as error:
            limit = error.answer.error_type == "concurrent_requests_limit" if error.answer else False
            error.hit_queue_limit = queue.max_queue_length is not None and not limit
            raise

    async def status(self, ref: RequestRef, scope: Scope, *, logs: bool = False) -> QueueStatus:
        """Reads a queue request's state (§7.3)."""
        about = _About(Operation.STATUS, ref.endpoint.full, ref.request_id)
        request = wire.status(self._hosts, ref, logs=logs)
        async with self._open(request, about, scope, self._bounds.read_idle_seconds) as response:
            answer = await self._envelope(response, about)
            return _status(answer, response, about, scope)

    async def status_events(
        self, ref: RequestRef, scope: Scope, *, logs: bool, idle_seconds: float
    ) -> AsyncGenerator[QueueStatus]:
        """Yields the states that fal's status stream sends (§7.5), up to COMPLETED or its end."""
        about = _About(Operation.STATUS_STREAM, ref.endpoint.full, ref.request_id)
        request = wire.status_stream(self._hosts, ref, logs=logs)
        async with self._open(request, about, scope, idle_seconds) as response:
            if "text/event-stream" not in response.headers.get("content-type", "").lower():
                raise about.failed(Failure.MALFORMED, "no event stream", response.status_code)
            async with aclosing(_events(response, about)) as events:
                async for event in events:
                    status = _status(event.data, response, about, scope)
                    yield status
                    if status.state is QueueState.COMPLETED:
                        return

    async def result(self, ref: RequestRef, scope: Scope) -> Payload:
        """Reads a queue request's output (§7.6). A failed request raises its own, stored error."""
        about = _About(Operation.RESULT, ref.endpoint.full, ref.request_id)
        request = wire.result(self._hosts, ref)
        async with self._open(request, about, scope, self._bounds.read_idle_seconds) as response:
            return await self._output(response, about)

    async def outcome(self, ref: RequestRef, scope: Scope) -> RequestOutcome:
        """Reads how a completed request ended from the head of its result. UNKNOWN if it can't."""
        about = _About(Operation.RESULT, ref.endpoint.full, ref.request_id)
        request = wire.result(self._hosts, ref)
        try:
            async with self._open(request, about, scope, self._bounds.read_idle_seconds):
                return RequestOutcome.SUCCEEDED
        except FalError as error:
            return outcome_of(error)

    async def cancel(self, ref: RequestRef, scope: Scope) -> CancelOutcome:
        """Asks fal to drop a queue request (§7.7)."""
        about = _About(Operation.CANCEL, ref.endpoint.full, ref.request_id)
        request = wire.cancel(self._hosts, ref)
        try:
            async with self._open(request, about, scope, self._bounds.read_idle_seconds) as response:
                return wire.read_cancel(await self._envelope(response, about))
        except FalError as error:
            word = error.answer.status_word if error.answer else ""
            if error.http_status == 400 and word == CancelOutcome.ALREADY_COMPLETED.value:
                return CancelOutcome.ALREADY_COMPLETED
            raise

    async def initiate_upload(self, upload: Upload, scope: Scope) -> wire.UploadTarget:
        """Asks where to put a file (§10.6)."""
        about = _About(Operation.UPLOAD_INITIATE)
        request = wire.initiate_upload(self._hosts, upload)
        async with self._open(request, about, scope, self._bounds.read_idle_seconds) as response:
            answer = await self._envelope(response, about)
            try:
                target = wire.read_upload_target(answer)
            except wire.Malformed as error:
                raise about.failed(Failure.MALFORMED, str(error), response.status_code) from error
        if not target.is_allowed(self._hosts):
            raise about.failed(Failure.HOST_REFUSED, "upload_url is not on the list", response.status_code)
        return target

    async def put_upload(
        self,
        target: wire.UploadTarget,
        upload: Upload,
        size: int,
        chunks: AsyncIterator[bytes],
        scope: Scope,
    ) -> None:
        """Puts a file's bytes where fal said (§10.6). The chunks are read once, so nothing is resent."""
        about = _About(Operation.UPLOAD_PUT)
        request = wire.put_upload(target, upload, size)
        async with self._open(request, about, scope, self._bounds.read_idle_seconds, chunks) as response:
            await _body(response, ENVELOPE_BYTES_MAX, about)

    # The funnel

    @asynccontextmanager
    async def _open(
        self,
        request: wire.Request,
        about: "_About",
        scope: Scope,
        idle_seconds: float | None,
        chunks: AsyncIterator[bytes] | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """Sends a request and gives its 2xx response, whose body the caller reads. Raises FalError."""
        resends = 0
        while True:
            try:
                response = await self._send(request, about, scope, idle_seconds, chunks)
                break
            except FalError as error:
                left = None if scope.deadline is None else scope.deadline - asyncio.get_running_loop().time()
                delay = None if chunks else retry.delay_seconds(error, resends, left)
                if delay is None:
                    raise
            resends += 1
            await asyncio.sleep(delay)
        try:
            yield response
        finally:
            await response.aclose()

    async def _send(
        self,
        request: wire.Request,
        about: "_About",
        scope: Scope,
        idle_seconds: float | None,
        chunks: AsyncIterator[bytes] | None,
    ) -> httpx.Response:
        """One attempt."""
        # A signed upload URL carries its own credential; the key stays with fal's own hosts.
        credential = () if about.operation is Operation.UPLOAD_PUT else self._credential
        progress = Progress()
        outgoing = httpx.Request(
            request.method,
            request.url,
            headers=[*self._standard_headers, *credential, *request.headers],
            content=request.body if chunks is None else chunks,
            extensions={"progress": progress, "timeout": {"read": idle_seconds}},
        )
        if about.operation.is_paid and not scope.committed:
            await scope.commit()
            scope.committed = True
        scope.attempts += 1
        try:
            response = await self._transport.handle_async_request(outgoing)
        except httpx.TransportError as error:
            failure = Failure.INTERRUPTED if progress.connected else Failure.UNREACHABLE
            raise about.failed(failure, f"{type(error).__name__}: {error}") from error
        finally:
            if about.operation.is_paid and progress.connected:
                scope.paid_bytes_may_have_left = True
        about.request_id = about.request_id or response.headers.get("x-fal-request-id", "")
        if about.operation in (Operation.RUN, Operation.STREAM) and about.request_id:
            scope.accepted(about.request_id)
        if 200 <= response.status_code < 300:
            return response
        try:
            raise await _refusal(response, about)
        finally:
            await response.aclose()

    async def _output(self, response: httpx.Response, about: "_About") -> Payload:
        body = await _body(response, self._bounds.output_bytes_max, about)
        try:
            return wire.read_output(response.headers, body)
        except wire.Truncated as error:
            raise about.failed(Failure.TRUNCATED, str(error), response.status_code) from error

    async def _envelope(self, response: httpx.Response, about: "_About") -> bytes:
        return await _body(response, ENVELOPE_BYTES_MAX, about)


def outcome_of(error: FalError) -> RequestOutcome:
    """How a request ended, from the error that its result was."""
    if not error.is_stored:
        return RequestOutcome.UNKNOWN
    return RequestOutcome.CANCELLED if error.http_status == 499 else RequestOutcome.FAILED


@dataclasses.dataclass(slots=True)
class _About:
    """What an exchange is about, for its errors."""

    operation: Operation
    endpoint_id: str = ""
    request_id: str = ""

    def failed(self, failure: Failure, cause: str, http_status: int = 0) -> FalError:
        return FalError(
            self.operation,
            failure,
            cause,
            endpoint_id=self.endpoint_id,
            request_id=self.request_id,
            http_status=http_status,
        )


def _with_start_timeout(options: CallOptions, scope: Scope) -> CallOptions:
    """Gives fal the call's own deadline, so that it does not start work that nobody waits for."""
    if options.start_timeout_seconds is not None or not scope.start_timeout_derived or scope.deadline is None:
        return options
    left = scope.deadline - asyncio.get_running_loop().time()
    return dataclasses.replace(options, start_timeout_seconds=left)


def _status(body: bytes | str, response: httpx.Response, about: _About, scope: Scope) -> QueueStatus:
    try:
        status = wire.read_status(body)
    except wire.Malformed as error:
        raise about.failed(Failure.MALFORMED, str(error), response.status_code) from error
    if status.state is QueueState.UNKNOWN:
        scope.noticed("unknown_state", status.state_word)
    return status


async def _refusal(response: httpx.Response, about: _About) -> FalError:
    """The error of an answer that is not 2xx. What can't be read of its body is left out."""
    body = b""
    try:
        async with aclosing(_pieces(response)) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) > ERROR_BODY_BYTES_MAX:
                    break
    except httpx.TransportError:
        pass  # the status was read: it is the answer, however little of its text came
    answer = error_bodies.read(response.status_code, response.headers, body)
    return FalError(
        about.operation,
        Failure.ANSWER,
        f"HTTP {response.status_code} {answer.error_type}".strip(),
        answer=answer,
        is_stored=about.operation is Operation.RESULT and _is_outcome(answer),
        endpoint_id=about.endpoint_id,
        request_id=about.request_id,
    )


def _is_outcome(answer: error_bodies.ErrorAnswer) -> bool:
    """Whether a result's error answer is what the request ended with (§7.6, §17.1).

    Without fal's request id it is the edge's; a refused credential, an unknown request and a request
    that is not completed are answers to the reading.
    """
    if not answer.request_id or answer.http_status in (401, 403, 405, 408):
        return False
    if answer.http_status == 404:
        return answer.text.startswith("Path ")
    return not (answer.http_status == 400 and "in progress" in answer.text)


async def _body(response: httpx.Response, bytes_max: int, about: _About) -> bytes:
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise about.failed(Failure.MALFORMED, "an encoding nobody asked for", response.status_code)
    read: list[bytes] = []
    size = 0
    try:
        async with aclosing(_pieces(response)) as pieces:
            async for piece in pieces:
                size += len(piece)
                if size > bytes_max:
                    cause = f"more than {bytes_max} bytes"
                    raise about.failed(Failure.TOO_LARGE, cause, response.status_code)
                read.append(piece)
    except httpx.TransportError as error:
        raise about.failed(Failure.TRUNCATED, str(error), response.status_code) from error
    return b"".join(read)


async def _events(response: httpx.Response, about: _About) -> AsyncGenerator[Event]:
    """The events of a response, without empty ones."""
    try:
        async with aclosing(read_events(_pieces(response))) as events:
            async for event in events:
                if event.data:
                    yield event
    except httpx.TransportError as error:
        raise about.failed(Failure.STREAM_TRUNCATED, str(error), response.status_code) from error
    except BadEventStream as error:
        raise about.failed(Failure.MALFORMED, str(error), response.status_code) from error


def _pieces(response: httpx.Response) -> AsyncGenerator[bytes]:
    """The bytes of a response as they come, undecoded: no encoding was asked for."""
    return response.stream.__aiter__()  # type: ignore[union-attr,return-value] # Transport's is a generator


async def _no_events() -> AsyncGenerator[Event]:
    return
    yield

"""fal's API as methods, one for each exchange (docs/fal-http-api.md §6 to §10).

It knows fal's requests and answers (wire.py, answers.py) and sends them through the funnel (exchange.py).
It knows neither protobuf nor gRPC.
"""

import asyncio
import dataclasses
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

from falrpc_server.fal_http import answers, wire
from falrpc_server.fal_http.error_bodies import Failure, FalError
from falrpc_server.fal_http.events import Event
from falrpc_server.fal_http.exchange import Exchanges
from falrpc_server.fal_http.incoming import About, Answer
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
)
from falrpc_server.fal_http.results import outcome_when_there, when_there

__all__ = ["UNKNOWN_STATE", "Bounds", "FalClient", "ModelStream"]

ENVELOPE_BYTES_MAX = 8 * 1024 * 1024
UNKNOWN_STATE = "unknown_state"

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True, slots=True)
class Bounds:
    """How much and how long the client waits for.

    Attributes:
        output_bytes_max: Largest output that is read.
        read_idle_seconds: Longest silence of an exchange that should answer at once.
        exchange_seconds_max: How long each such exchange may take, but for the reading of outputs.
        stream_idle_seconds: Longest silence of a model's stream.
    """

    output_bytes_max: int = 63 * 1024 * 1024
    read_idle_seconds: float = 60.0
    exchange_seconds_max: float = 120.0
    stream_idle_seconds: float = 1_800.0


@dataclasses.dataclass(slots=True)
class ModelStream:
    """An open stream of a model.

    Attributes:
        call: What the response headers said.
        payload: The whole answer, when it is no event stream; then there are no events.
        events: The events as they come. Raises FalError.
        is_framed: Whether the end of the body proves that it is complete.
        scope: What the caller's call lends to it.
    """

    call: CallInfo
    payload: Payload | None
    events: AsyncGenerator[Event]
    is_framed: bool = True
    scope: Scope = dataclasses.field(default_factory=Scope)


class FalClient:
    """Access to fal, for any account. Safe for any number of concurrent calls on one event loop.

    Every method takes the scope of the caller's call and raises FalError.
    """

    def __init__(self, exchanges: Exchanges, hosts: wire.Hosts, bounds: Bounds | None = None) -> None:
        self._exchanges = exchanges
        self._hosts = hosts
        self._bounds = bounds or Bounds()

    async def run(self, endpoint: EndpointId, body: bytes, options: CallOptions, scope: Scope) -> Payload:
        """Calls a model and returns its output (§6). Paid."""
        about = About(Operation.RUN, endpoint.full)
        answer = await self._exchanges.fetch(
            lambda: wire.run(self._hosts, endpoint, body, _with_start_timeout(options, scope)),
            about,
            scope,
            idle_seconds=None,
            bytes_max=self._bounds.output_bytes_max,
        )
        return _output(answer, about)

    @asynccontextmanager
    async def stream(
        self, endpoint: EndpointId, body: bytes, options: CallOptions, scope: Scope
    ) -> AsyncIterator[ModelStream]:
        """Opens a model's stream (§8). Paid."""
        about = About(Operation.STREAM, endpoint.full)
        opened = self._exchanges.open(
            lambda: wire.stream(self._hosts, endpoint, body, _with_start_timeout(options, scope)),
            about,
            scope,
            idle_seconds=self._bounds.stream_idle_seconds,
        )
        async with opened as answer:
            call = answers.call_info(answer.headers)
            if "text/event-stream" in answer.headers.get("content-type", "").lower():
                events = answer.events(self._bounds.output_bytes_max)
                is_framed = answers.is_framed(answer.status, answer.headers)
                yield ModelStream(call, None, events, is_framed, scope)
            else:
                whole = await answer.body(self._bounds.output_bytes_max)
                payload = _output(Answer(answer.status, answer.headers, whole), about)
                is_nothing = not payload.data and not payload.content_type
                yield ModelStream(call, None if is_nothing else payload, _no_events())

    async def submit(
        self, endpoint: EndpointId, body: bytes, options: CallOptions, queue: QueueOptions, scope: Scope
    ) -> Submitted:
        """Puts a request into the queue (§7.2). Paid."""
        request = wire.submit(self._hosts, endpoint, body, options, queue)
        about = About(Operation.SUBMIT, endpoint.full, has_queue_limit=queue.max_queue_length is not None)
        answer = await self._fetch(request, about, scope)
        submitted = _read(answers.read_submitted, answer.body, answer.status, about)
        if submitted.request_id != about.request_id:  # else the head has told it
            scope.accepted(submitted.request_id)
        # We build these URLs ourselves, and say so should fal ever mean others (§3.2).
        built = wire.status(self._hosts, RequestRef(endpoint, submitted.request_id), logs=False).url
        if submitted.status_url not in ("", built):
            # Into the log, where queries do not belong.
            scope.noticed("other_status_url", re.split("[?#]", submitted.status_url)[0])
        return submitted

    async def status(self, ref: RequestRef, scope: Scope, *, logs: bool = False) -> QueueStatus:
        """Reads a queue request's state (§7.3)."""
        about = About(Operation.STATUS, ref.endpoint.full, ref.request_id)
        answer = await self._fetch(wire.status(self._hosts, ref, logs=logs), about, scope)
        status = _read(answers.read_status, answer.body, answer.status, about)
        return _noticed(status, scope)

    async def status_events(
        self, ref: RequestRef, scope: Scope, *, logs: bool, idle_seconds: float
    ) -> AsyncGenerator[QueueStatus]:
        """Yields the states that fal's status stream sends (§7.5), up to COMPLETED or its end."""
        about = About(Operation.STATUS_STREAM, ref.endpoint.full, ref.request_id)
        request = wire.status_stream(self._hosts, ref, logs=logs)
        async with self._exchanges.open(request, about, scope, idle_seconds=idle_seconds) as answer:
            if "text/event-stream" not in answer.headers.get("content-type", "").lower():
                raise about.failed(Failure.MALFORMED, "no event stream", answer.status)
            async with aclosing(answer.events(ENVELOPE_BYTES_MAX)) as events:
                async for event in events:
                    status = _read(answers.read_status, event.data.encode(), answer.status, about)
                    yield _noticed(status, scope)
                    if status.state is QueueState.COMPLETED:
                        return

    async def result(self, ref: RequestRef, scope: Scope, *, is_completed: bool = False) -> Payload:
        """Reads a queue request's output (§7.6). A failed request raises its own, stored error.

        Args:
            is_completed: Whether fal has said that the request is COMPLETED. Else an error answer is
                ambiguous, and its status is read to tell an outcome from trouble with the reading.
        """
        about = About(Operation.RESULT, ref.endpoint.full, ref.request_id)
        try:
            answer = await self._exchanges.fetch(
                wire.result(self._hosts, ref),
                about,
                scope,
                idle_seconds=self._bounds.read_idle_seconds,
                bytes_max=self._bounds.output_bytes_max,
            )
        except FalError as error:
            if error.answer and error.answer.may_be_outcome:
                error.is_stored = is_completed or await self._is_completed(ref, scope)
            raise
        if answer.status == 202:  # some of fal's documents have it so (§16.1 row 16)
            raise about.failed(Failure.NOT_COMPLETED, "HTTP 202", 202)
        return _output(answer, about)

    async def _is_completed(self, ref: RequestRef, scope: Scope) -> bool:
        """Whether fal says that a request has ended."""
        try:
            return (await self.status(ref, scope)).state is QueueState.COMPLETED
        except FalError:
            return False

    async def completed_result(self, ref: RequestRef, scope: Scope) -> Payload:
        """result() of a request that fal has called COMPLETED."""
        return await when_there(lambda: self.result(ref, scope, is_completed=True))

    async def outcome(self, ref: RequestRef, scope: Scope) -> RequestOutcome:
        """Reads how a completed request ended from the head of its result. UNKNOWN if it can't soon."""
        about = About(Operation.RESULT, ref.endpoint.full, ref.request_id)
        request, idle = wire.result(self._hosts, ref), self._bounds.read_idle_seconds

        async def read() -> None:
            try:
                async with self._exchanges.open(request, about, scope, idle_seconds=idle) as answer:
                    if answer.status == 202:
                        raise about.failed(Failure.NOT_COMPLETED, "HTTP 202", 202)
            except FalError as error:
                error.is_stored = error.answer is not None and error.answer.may_be_outcome
                raise

        return await outcome_when_there(read)

    async def cancel(self, ref: RequestRef, scope: Scope) -> CancelOutcome:
        """Asks fal to drop a queue request (§7.7)."""
        about = About(Operation.CANCEL, ref.endpoint.full, ref.request_id)
        try:
            answer = await self._fetch(wire.cancel(self._hosts, ref), about, scope)
        except FalError as error:
            word = error.answer.status_word if error.answer else ""
            if error.http_status == 400 and word == CancelOutcome.ALREADY_COMPLETED.value:
                return CancelOutcome.ALREADY_COMPLETED
            raise
        return answers.read_cancel(answer.body)

    async def _fetch(self, request: wire.Request, about: About, scope: Scope) -> Answer:
        """An exchange that should answer at once, and briefly."""
        return await self._exchanges.fetch(
            request,
            about,
            scope,
            idle_seconds=self._bounds.read_idle_seconds,
            bytes_max=ENVELOPE_BYTES_MAX,
            total_seconds=self._bounds.exchange_seconds_max,
        )


def _with_start_timeout(options: CallOptions, scope: Scope) -> CallOptions:
    """Gives fal the call's own deadline, so that it does not start work that nobody waits for."""
    if options.start_timeout_seconds is not None or not scope.start_timeout_derived or scope.deadline is None:
        return options
    left = scope.deadline - asyncio.get_running_loop().time()
    return dataclasses.replace(options, start_timeout_seconds=left)


def _read(reader: Callable[[bytes], _T], body: bytes, http_status: int, about: About) -> _T:
    try:
        return reader(body)
    except answers.Malformed as error:
        raise about.failed(Failure.MALFORMED, str(error), http_status) from error


def _output(answer: Answer, about: About) -> Payload:
    try:
        return answers.read_output(answer.status, answer.headers, answer.body)
    except answers.Truncated as error:
        raise about.failed(Failure.TRUNCATED, str(error), answer.status) from error


def _noticed(status: QueueStatus, scope: Scope) -> QueueStatus:
    if status.state is QueueState.UNKNOWN:
        scope.noticed(UNKNOWN_STATE, status.state_word)
    return status


async def _no_events() -> AsyncGenerator[Event]:
    return
    yield

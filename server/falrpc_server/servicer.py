"""FalService: each method checks and translates in, calls fal, and translates out.

It knows the translations and fal's client, and nothing of HTTP, statuses or the server that runs it. What
goes wrong is raised; interceptors/ending.py says what the caller is told.
"""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import TypeGuard, TypeVar

from google.protobuf.message import Message

from falrpc import v1
from falrpc_server import permissions, upload_messages
from falrpc_server.background import BackgroundTasks
from falrpc_server.fal_http.accounts import Account
from falrpc_server.fal_http.client import FalClient
from falrpc_server.fal_http.error_bodies import Failure, FalError
from falrpc_server.fal_http.models import (
    CallInfo,
    LogBatch,
    Operation,
    QueueState,
    QueueStatus,
    RequestOutcome,
    RequestRef,
    Scope,
    Submitted,
)
from falrpc_server.fal_http.results import outcome_of
from falrpc_server.fal_http.retry import is_passing
from falrpc_server.fal_http.streams import model_events, workflow_events
from falrpc_server.fal_http.uploads import Uploads
from falrpc_server.interceptors.call import Call
from falrpc_server.translate import json_text, requests, responses
from falrpc_server.watchers.hub import Watchers

__all__ = ["Limits", "Servicer"]

ABANDON_SECONDS_MAX = 10.0
ABANDON_PAUSE_SECONDS = 0.5
LARGE_REQUEST_BYTES = 256 * 1024

_Request = TypeVar("_Request", bound=Message)
_Asked = TypeVar("_Asked")


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """Bounds and habits of the service.

    Attributes:
        input_bytes_max: Largest input, as JSON text.
        heartbeat_seconds: How long a stream may be silent before a heartbeat; 0 for never.
        upload_bytes_max: Largest file.
        upload_idle_seconds: How long a caller may take for the next chunk of a file.
    """

    input_bytes_max: int = 12 * 1024 * 1024
    heartbeat_seconds: float = 15.0
    upload_bytes_max: int = 10 * 1024**3
    upload_idle_seconds: float = 60.0


class Servicer:
    """The methods of falrpc.v1.FalService. The protos say what each does."""

    def __init__(
        self,
        fal: FalClient,
        uploads: Uploads,
        watchers: Watchers,
        background: BackgroundTasks,
        limits: Limits,
    ) -> None:
        self._fal = fal
        self._uploads = uploads
        self._watchers = watchers
        self._background = background
        self._limits = limits

    async def Run(self, request: v1.RunRequest, call: Call) -> v1.RunResponse:
        call.is_about(request.endpoint_id)
        asked = permissions.paid_call(await self._read(requests.run, request), call)
        body = await self._body(asked, call)
        payload = await self._fal.run(asked.endpoint, body, asked.options, call.scope)
        call.succeeded(payload.call)
        return responses.run(payload)

    async def Submit(self, request: v1.SubmitRequest, call: Call) -> v1.SubmitResponse:
        call.is_about(request.endpoint_id)
        asked = permissions.submission(await self._read(requests.submit, request), call)
        ref, submitted = await self._submit(asked, call)
        call.succeeded(CallInfo(request_id=submitted.request_id))
        return responses.submit(ref, submitted)

    async def Status(self, request: v1.StatusRequest, call: Call) -> v1.StatusResponse:
        _about_handle(call, request.handle)
        ref = permissions.request(requests.status(request), call)
        status = await self._fal.status(ref, call.scope, logs=request.include_logs)
        return responses.status(status)

    async def StreamStatus(
        self, request: v1.StreamStatusRequest, call: Call
    ) -> AsyncIterator[v1.StreamStatusResponse]:
        _about_handle(call, request.handle)
        asked = requests.stream_status(request)
        permissions.request(asked.ref, call)
        beat = v1.StreamStatusResponse(heartbeat=v1.Heartbeat())
        call.start_heartbeats(self._heartbeat(asked.heartbeat_seconds), beat)
        account = call.permitted.account
        watched = self._watchers.watch(asked.ref, account, logs=asked.include_logs, outcome=True)
        async with aclosing(watched) as changes:
            async for change in changes:
                yield responses.stream_status(change)

    async def Result(self, request: v1.ResultRequest, call: Call) -> v1.ResultResponse:
        _about_handle(call, request.handle)
        ref, wait_seconds = requests.result(request)
        permissions.request(ref, call)
        last = await self._wait(ref, wait_seconds, call) if wait_seconds else None
        read = self._fal.completed_result if last else self._fal.result
        payload = await read(ref, call.scope)
        call.succeeded(payload.call)
        return responses.result(payload, last.inference_seconds if last else None)

    async def Cancel(self, request: v1.CancelRequest, call: Call) -> v1.CancelResponse:
        _about_handle(call, request.handle)
        ref = permissions.request(requests.cancel(request), call)
        outcome = await self._fal.cancel(ref, call.scope)
        return responses.cancel(outcome)

    async def Subscribe(
        self, request: v1.SubscribeRequest, call: Call
    ) -> AsyncIterator[v1.SubscribeResponse]:
        asked = permissions.subscription(await self._read(requests.subscribe, request), call)
        is_over = False
        last = QueueStatus(QueueState.UNKNOWN)
        beat = v1.SubscribeResponse(heartbeat=v1.Heartbeat())
        call.start_heartbeats(self._heartbeat(asked.heartbeat_seconds), beat)
        try:
            if isinstance(asked.target, RequestRef):
                ref = asked.target
            else:
                ref, _ = await self._submit(asked.target, call)
            call.is_about(ref.endpoint.full, ref.request_id)
            call.has_handle = True
            yield responses.accepted(ref)
            async with aclosing(self._watch(ref, call, logs=asked.include_logs)) as changes:
                async for change in changes:
                    if _is_completed(change):
                        last, is_over = change, True
                    else:
                        yield responses.subscribe_change(change)
            async with aclosing(self._outcome(ref, last, call)) as messages:
                async for message in messages:
                    yield message
        except Exception:
            is_over = True  # nobody left: following it failed, and the caller may attach again
            raise
        finally:
            # A submission's id is known as soon as the head of fal's answer is read.
            is_abandoned = call.request_id and not is_over and not call.is_drained
            if asked.cancels_when_abandoned and is_abandoned:
                target = asked.target if isinstance(asked.target, RequestRef) else asked.target.call
                abandoned = RequestRef(target.endpoint, call.request_id)
                self._background.spawn(self._cancel_abandoned(abandoned, call), f"cancel {call.request_id}")

    async def Stream(self, request: v1.StreamRequest, call: Call) -> AsyncIterator[v1.StreamResponse]:
        call.is_about(request.endpoint_id)
        asked = permissions.paid_call(await self._read(requests.stream, request), call)
        body = await self._body(asked, call)
        beat = v1.StreamResponse(heartbeat=v1.Heartbeat())
        call.start_heartbeats(self._heartbeat(asked.heartbeat_seconds), beat)
        async with self._fal.stream(asked.endpoint, body, asked.options, call.scope) as stream:
            yield responses.stream_started(stream.call)
            if stream.payload:
                yield responses.event_output(stream.payload)
            else:
                async with aclosing(model_events(stream, asked.endpoint)) as events:
                    async for data in events:
                        yield responses.event(data)
            call.succeeded(stream.call)

    async def StreamWorkflow(
        self, request: v1.StreamWorkflowRequest, call: Call
    ) -> AsyncIterator[v1.StreamWorkflowResponse]:
        call.is_about(request.endpoint_id)
        asked = permissions.paid_call(await self._read(requests.stream, request), call)
        body = await self._body(asked, call)
        beat = v1.StreamWorkflowResponse(heartbeat=v1.Heartbeat())
        call.start_heartbeats(self._heartbeat(asked.heartbeat_seconds), beat)
        async with self._fal.stream(asked.endpoint, body, asked.options, call.scope) as stream:
            yield responses.workflow_started(stream.call)
            if stream.payload:
                yield responses.workflow_output(stream.payload)
            else:
                async with aclosing(workflow_events(stream, asked.endpoint)) as events:
                    async for event in events:
                        yield responses.workflow_event(event)
            call.succeeded(stream.call)

    async def Upload(self, messages: AsyncIterator[v1.UploadRequest], call: Call) -> v1.UploadResponse:
        idle_seconds = self._limits.upload_idle_seconds
        header = await upload_messages.header(messages, idle_seconds)
        bytes_max = permissions.upload_bytes_max(self._limits.upload_bytes_max, call)
        asked = requests.upload(header, bytes_max)
        stored = await self._uploads.store(
            permissions.upload(asked.upload, call),
            upload_messages.chunks(messages, idle_seconds, call.scope),
            call.scope,
            size=asked.size,
            sha256=asked.sha256,
            bytes_max=bytes_max,
            progress=upload_messages.progress(call.log, asked.size),
        )
        return responses.upload(stored)

    # What several methods share

    async def _read(self, reader: Callable[[_Request, int], _Asked], request: _Request) -> _Asked:
        """Checks and translates a request; a large one beside the event loop, which others wait for."""
        if request.ByteSize() < LARGE_REQUEST_BYTES:
            return reader(request, self._limits.input_bytes_max)
        return await asyncio.to_thread(reader, request, self._limits.input_bytes_max)

    async def _body(self, asked: requests.PaidCall, call: Call) -> bytes:
        """The input as it goes to fal: the attachments' names replaced by URLs."""
        urls = {}
        for attachment in asked.attachments:
            urls[attachment.name] = await self._uploads.store_bytes(
                attachment.upload, attachment.data, call.scope
            )
        return await asyncio.to_thread(json_text.with_attachments, asked.body, urls) if urls else asked.body

    async def _submit(self, asked: requests.SubmitCall, call: Call) -> tuple[RequestRef, Submitted]:
        call.is_about(asked.call.endpoint.full)
        body = await self._body(asked.call, call)
        submitted = await self._fal.submit(
            asked.call.endpoint, body, asked.call.options, asked.queue, call.scope
        )
        return call.permitted.signed(RequestRef(asked.call.endpoint, submitted.request_id)), submitted

    def _watch(self, ref: RequestRef, call: Call, *, logs: bool) -> AsyncGenerator[QueueStatus | LogBatch]:
        return self._watchers.watch(ref, call.permitted.account, logs=logs)

    async def _wait(self, ref: RequestRef, seconds: float, call: Call) -> QueueStatus:
        """Waits until the request is completed. Raises FalError when that takes longer."""
        try:
            async with asyncio.timeout(seconds):
                async with aclosing(self._watch(ref, call, logs=False)) as changes:
                    return [change async for change in changes if _is_completed(change)][-1]
        except TimeoutError as error:
            raise FalError(
                Operation.RESULT,
                Failure.NOT_COMPLETED,
                f"still not completed after {seconds:g} s",
                endpoint_id=ref.endpoint.full,
                request_id=ref.request_id,
            ) from error

    async def _outcome(
        self, ref: RequestRef, status: QueueStatus, call: Call
    ) -> AsyncGenerator[v1.SubscribeResponse]:
        """The last messages of Subscribe: the final status with its outcome, then the result."""
        try:
            payload = await self._fal.completed_result(ref, call.scope)
        except FalError as error:
            outcome = outcome_of(error)
            if outcome is RequestOutcome.UNKNOWN:
                outcome = status.outcome
            yield responses.subscribe_change(dataclasses.replace(status, outcome=outcome))
            raise
        status = dataclasses.replace(status, outcome=RequestOutcome.SUCCEEDED)
        yield responses.subscribe_change(status)
        yield responses.completed(payload, status.inference_seconds)
        call.succeeded(payload.call)

    async def _cancel_abandoned(self, ref: RequestRef, call: Call) -> None:
        """Cancels what nobody waits for any more. The call is gone: the log has the outcome."""
        outcome = "timeout"
        try:
            async with asyncio.timeout(ABANDON_SECONDS_MAX):
                outcome = await self._cancelled(ref, call.permitted.account)
        except FalError as error:
            outcome = str(error)
        except TimeoutError:
            pass
        call.log.info("request.cancelled", request_id=ref.request_id, outcome=outcome)

    async def _cancelled(self, ref: RequestRef, account: Account) -> str:
        """Cancels a request, after failures that pass, too. Returns fal's word; raises FalError."""
        while True:
            try:
                return (await self._fal.cancel(ref, Scope(account))).name
            except FalError as error:
                if not is_passing(error):
                    raise
                pause = error.retry_after_seconds or 0.0
            await asyncio.sleep(max(pause, ABANDON_PAUSE_SECONDS))

    def _heartbeat(self, asked_seconds: float | None) -> float:
        return self._limits.heartbeat_seconds if asked_seconds is None else asked_seconds


def _is_completed(change: QueueStatus | LogBatch) -> TypeGuard[QueueStatus]:
    return isinstance(change, QueueStatus) and change.state is QueueState.COMPLETED


def _about_handle(call: Call, handle: v1.RequestHandle) -> None:
    call.is_about(handle.endpoint_id, handle.request_id)

"""The ways that a call can take through the gateway: each method, with what makes it wait."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from tests.conftest import Fal
from tests.faults.history import History, Told
from tests.service.test_queue_calls import request, waiting
from tests.service.test_run import WAIT_SECONDS_MAX, run
from tests.service.test_stream_calls import stream, workflow

from falrpc import v1

__all__ = ["WAYS", "Caller", "Way", "unique"]

CHUNKS = 3
EVENTS = '"events":[{"n":0},{"n":1},{"n":2}],"delay":0.015'
SUBMIT = '{"type":"submit","node_id":"a","app_id":"b","request_id":"c"}'
WORKFLOW = f'"events":[{SUBMIT},{{"type":"output","output":{{}}}}],"delay":0.015'
LARGE_BYTES = 300_000
LASTING = '"seconds":0.1'  # long enough to be followed, on a busy machine, too

PIECES_BYTES = {"submit": 100, "status": 100, "result": 10, "cancel": 15, "upload_initiate": 100}

_numbers = itertools.count()


def unique(members: str = "") -> str:
    """An input that no other call has."""
    return f'{{"number":{next(_numbers)}{"," if members else ""}{members}}}'


class Caller:
    """Makes calls and keeps their history."""

    def __init__(self, stub: Any, history: History, fal: Fal) -> None:
        self.stub = stub
        self.history = history
        self.fal = fal

    def begin(self, method: str, asked: Any) -> "tuple[Told, Any, asyncio.Task[None]]":
        """Begins a call: what it is told, the call itself, and the task that reads it to its end."""
        is_upload = method == "Upload"
        told = self.history.begin(method, v1.UploadRequest() if is_upload else asked)
        if getattr(asked, "attachments", None):
            told.body_sha256 = ""  # what fal receives is not what the caller wrote
        call = getattr(self.stub, method)(asked)
        return told, call, asyncio.create_task(self._read(told, call))

    async def call(self, method: str, asked: Any) -> Told:
        """Makes a whole call."""
        told, _, reading = self.begin(method, asked)
        await reading
        return told

    async def plain(self) -> Told:
        """An ordinary call."""
        return await self.call("Run", run("emulator/echo", unique()))

    async def call_all_ways(self) -> None:
        """Makes one call of each kind, so that all is loaded and open that stays so."""
        await self.plain()
        await self.call("Stream", stream("emulator/echo", unique()))
        await self.call("Upload", chunks(None))

    async def submitted(self, endpoint_id: str, members: str = "") -> v1.RequestHandle:
        """Submits a request."""
        told = await self.call("Submit", request(endpoint_id, unique(members)))
        assert told.code == "OK", told
        handle: v1.RequestHandle = told.messages[0].handle
        return handle

    async def put_scenarios(self, way: "Way") -> None:
        """Makes fal do what the way wants: else its answers come in small pieces, so that they are awaited."""
        if way.act:
            self.fal.will(**way.act, times=None)
        for operation, chunk_bytes in PIECES_BYTES.items():
            self.fal.will(
                "slow_body", operation=operation, chunk_bytes=chunk_bytes, seconds=0.003, times=None
            )

    async def _read(self, told: Told, call: Any) -> None:
        try:
            if isinstance(call, grpc.aio.UnaryStreamCall):
                async for message in call:
                    self.history.message(told, message)
            else:
                self.history.message(told, await call)
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
            self.history.ended(told, error)
        else:
            self.history.ended(told)


@dataclass(frozen=True)
class Way:
    """A way through the gateway.

    Attributes:
        name: For people.
        method: The method's name.
        ask: Makes the request.
        suspensions_min: How often the call surely suspends: fewer would mean that it was not watched.
        code: How it ends when it is left alone.
        settings: What the gateway needs for it.
        cancels_when_abandoned: Whether the request is cancelled at fal when the caller leaves.
        cleans_up: Whether there is something to wait for when it has been stopped.
        act: A scenario that it needs.
        cuts_min: How many exchanges with fal are surely cut while their answers come.
        is_json_as_sent: Whether fal receives the input that the caller wrote.
    """

    name: str
    method: str
    ask: Callable[[Caller], Awaitable[Any]]
    suspensions_min: int
    code: str = "OK"
    settings: Mapping[str, Any] = field(default_factory=dict)
    cancels_when_abandoned: bool = False
    act: dict[str, Any] | None = None
    cuts_min: int = 0
    is_json_as_sent: bool = True

    @property
    def is_plain(self) -> bool:
        """Whether the call can be made at any time, among others."""
        needs_nothing = not self.act and self.settings.keys() <= {"heartbeat_seconds"}
        return needs_nothing and self.is_json_as_sent and self.ask is not _run_behind


async def chunks(size: int | None) -> AsyncIterator[v1.UploadRequest]:
    """An upload's messages."""
    yield v1.UploadRequest(header=v1.UploadHeader(file_name="f", size=size))
    for _ in range(CHUNKS):
        yield v1.UploadRequest(chunk=b"x" * 1_000)


async def _run(_: Caller) -> v1.RunRequest:
    return run("emulator/events/stream", unique(EVENTS))  # its body comes bit by bit


async def _run_failing(_: Caller) -> v1.RunRequest:
    return run("emulator/fail", unique('"seconds":0'))


async def _run_large(_: Caller) -> v1.RunRequest:
    return run("emulator/echo", unique(f'"a":"{"x" * LARGE_BYTES}"'))


async def _run_with_attachment(_: Caller) -> v1.RunRequest:
    asked = run("emulator/echo", unique('"image":"attachment:a"'))
    asked.attachments["a"].data = b"x" * 1_000
    return asked


async def _submit(_: Caller) -> v1.SubmitRequest:
    return request("emulator/echo", unique())


async def _status(caller: Caller) -> v1.StatusRequest:
    return v1.StatusRequest(handle=await caller.submitted("emulator/echo"), include_logs=True)


async def _stream_status(caller: Caller) -> v1.StreamStatusRequest:
    handle = await caller.submitted("emulator/logs", '"count":2')
    return v1.StreamStatusRequest(handle=handle, include_logs=True)


async def _result(caller: Caller) -> v1.ResultRequest:
    handle = await caller.submitted("emulator/echo")
    assert (await caller.call("Result", waiting(handle))).code == "OK"
    return v1.ResultRequest(handle=handle)


async def _result_awaited(caller: Caller) -> v1.ResultRequest:
    return waiting(await caller.submitted("emulator/sleep", LASTING))


async def _cancel(caller: Caller) -> v1.CancelRequest:
    return v1.CancelRequest(handle=await caller.submitted("emulator/cancellable"))


async def _subscribe(_: Caller) -> v1.SubscribeRequest:
    return v1.SubscribeRequest(
        submit=request("emulator/logs", unique('"count":2,"late":1')), include_logs=True
    )


async def _subscribe_failing(_: Caller) -> v1.SubscribeRequest:
    return v1.SubscribeRequest(submit=request("emulator/fail", unique('"seconds":0.01')))


async def _attach(caller: Caller) -> v1.SubscribeRequest:
    return v1.SubscribeRequest(attach=await caller.submitted("emulator/sleep", LASTING))


async def _attach_and_cancel(caller: Caller) -> v1.SubscribeRequest:
    asked = await _attach(caller)
    asked.on_abandon = v1.AbandonPolicy.ABANDON_POLICY_CANCEL
    return asked


async def _stream(_: Caller) -> v1.StreamRequest:
    return stream("emulator/events", unique(EVENTS))


async def _stream_cut(_: Caller) -> v1.StreamRequest:
    return stream("emulator/events", unique(f'{EVENTS},"end":"cut"'))


async def _stream_workflow(_: Caller) -> v1.StreamWorkflowRequest:
    return workflow("workflows/emulator/replay", unique(WORKFLOW))


async def _upload(_: Caller) -> AsyncIterator[v1.UploadRequest]:
    return chunks(CHUNKS * 1_000)


async def _upload_collected(_: Caller) -> AsyncIterator[v1.UploadRequest]:
    return chunks(None)


async def _run_behind(caller: Caller) -> v1.RunRequest:
    """Has to wait until another call is done."""
    caller.begin("Run", run("emulator/sleep", unique('"seconds":0.5')))
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while not await caller.fal.open_requests():
            await asyncio.sleep(0.001)
    return run("emulator/sleep", unique('"seconds":0'))


_BEATS: dict[str, Any] = {"settings": {"heartbeat_seconds": 0.005}}
_FAILS = {"act": "slow_body", "operation": "run", "chunk_bytes": 40, "seconds": 0.003}
_NO_STATUS = {"act": "edge_page", "operation": "status", "status": 503}
_NO_STATUS_STREAM = {"act": "fail", "operation": "status_stream", "kind": "internal_server_error"}
_SINGLE = {"endpoint_limits": "emulator/sleep=1", "connections_max": 2}

WAYS = [
    Way("Run", "Run", _run, 5),
    Way("Run that fails", "Run", _run_failing, 5, "INTERNAL", act=_FAILS),
    Way("Run with a large input", "Run", _run_large, 5),
    Way("Run with an attachment", "Run", _run_with_attachment, 7, is_json_as_sent=False),
    Way("Run that waits for a connection", "Run", _run_behind, 3),
    Way("Run that waits for its endpoint", "Run", _run_behind, 4, settings=_SINGLE),
    Way("Submit", "Submit", _submit, 6),
    Way("Status", "Status", _status, 5),
    Way("Status that is asked again", "Status", _status, 6, "UNAVAILABLE", act=_NO_STATUS),
    Way("StreamStatus", "StreamStatus", _stream_status, 3, **_BEATS),
    Way("StreamStatus by polling", "StreamStatus", _stream_status, 3, act=_NO_STATUS_STREAM),
    Way("Result", "Result", _result, 3),
    Way("Result with wait", "Result", _result_awaited, 4),
    Way("Cancel", "Cancel", _cancel, 4),
    Way("Subscribe", "Subscribe", _subscribe, 8, cancels_when_abandoned=True, **_BEATS),
    Way("Subscribe that fails", "Subscribe", _subscribe_failing, 8, "INTERNAL", cancels_when_abandoned=True),
    Way("Subscribe that attaches", "Subscribe", _attach, 5, **_BEATS),
    Way("Subscribe that attaches to cancel", "Subscribe", _attach_and_cancel, 5, cancels_when_abandoned=True),
    Way("Stream", "Stream", _stream, 8, cuts_min=4, **_BEATS),
    Way("Stream that is cut", "Stream", _stream_cut, 8, "UNKNOWN"),
    Way("StreamWorkflow", "StreamWorkflow", _stream_workflow, 7, cuts_min=4, **_BEATS),
    Way("Upload", "Upload", _upload, 5),
    Way("Upload of unknown size", "Upload", _upload_collected, 7),
]

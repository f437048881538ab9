"""Callers' deadlines: when a call's time is over, all of it ends, and nothing more is sent."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from tests.conftest import Fal, Running, running_gateway
from tests.faults.history import body_sha256
from tests.faults.processes import unix_seconds
from tests.service.test_leaving import is_idle, logged
from tests.service.test_queue_calls import request, submitted, waiting
from tests.service.test_run import TRIES, arrived, run
from tests.service.test_stream_calls import stream, workflow

from falrpc import v1

DEADLINE_SECONDS = 2.0
EARLY_SECONDS_MAX = 0.1
LATE_SECONDS_MAX = 0.1  # met by the best of TRIES: others use this machine, too
LONG = 60  # seconds, after which a test that waits in vain ends

Evidence = dict[str, Any]
Find = Callable[[Evidence], bool]


async def upload(mark: str) -> AsyncIterator[v1.UploadRequest]:
    yield v1.UploadRequest(header=v1.UploadHeader(file_name=mark, size=3))
    yield v1.UploadRequest(chunk=b"abc")


def with_body(asked: Any) -> Find:
    """Finds a paid request at fal by its input."""
    sha256 = body_sha256(asked)
    return lambda record: record["body_sha256"] == sha256


def about(handle: v1.RequestHandle, operation: str) -> Find:
    """Finds a read at fal by its request."""
    return lambda record: record["operation"] == operation and handle.request_id in record["path"]


async def silent_calls(gateway: Running, mark: str) -> dict[str, tuple[str, Any, Find]]:
    """A method, its request and the request at fal that stays silent, for each way to wait for fal."""

    async def handle() -> v1.RequestHandle:
        return await submitted(gateway, "emulator/cancellable")

    def own(way: str) -> str:
        return f'{{"events":[],"of":"{way} {mark}"}}'

    of_run, of_submit = run("emulator/echo", own("Run")), request("emulator/echo", own("Submit"))
    of_stream = stream("emulator/events", own("Stream"))
    of_workflow = workflow("workflows/emulator/replay", own("StreamWorkflow"))
    subscribe = v1.SubscribeRequest(submit=request("emulator/echo", own("Subscribe")))
    status, watched, result, awaited, cancelled, attached = [await handle() for _ in range(6)]
    return {
        "Run": ("Run", of_run, with_body(of_run)),
        "Submit": ("Submit", of_submit, with_body(of_submit)),
        "Stream": ("Stream", of_stream, with_body(of_stream)),
        "StreamWorkflow": ("StreamWorkflow", of_workflow, with_body(of_workflow)),
        "Subscribe, submit": ("Subscribe", subscribe, with_body(subscribe)),
        "Subscribe, attach": (
            "Subscribe",
            v1.SubscribeRequest(attach=attached),
            about(attached, "status_stream"),
        ),
        "Status": ("Status", v1.StatusRequest(handle=status), about(status, "status")),
        "StreamStatus": (
            "StreamStatus",
            v1.StreamStatusRequest(handle=watched),
            about(watched, "status_stream"),
        ),
        "Result": ("Result", v1.ResultRequest(handle=result), about(result, "result")),
        "Result, wait": ("Result", waiting(awaited, LONG), about(awaited, "status_stream")),
        "Cancel": ("Cancel", v1.CancelRequest(handle=cancelled), about(cancelled, "cancel")),
        "Upload, initiate": ("Upload", None, lambda record: record["operation"] == "upload_initiate"),
        "Upload, PUT": ("Upload", None, lambda record: record["operation"] == "upload_put"),
    }


WAYS = 13
OF_GRPCS_CLIENT = "Internal error from Core"  # when a deadline passes just while it writes a message
HANGING = ("run", "submit", "stream", "status", "status_stream", "result", "cancel", "upload_initiate")


@pytest.mark.alone
async def test_a_silent_fal(emulator_url: str, fal: Fal) -> None:
    """With a deadline of 2 s each method's connection to fal is closed and its record written within 100 ms."""
    closings: dict[str, list[float]] = {}
    records: dict[str, list[float]] = {}
    for number in range(TRIES):
        fal.reset()
        async with running_gateway(emulator_url=emulator_url) as gateway:
            calls = await silent_calls(gateway, str(number))
            assert len(calls) == WAYS
            assert {method for method, _, _ in calls.values()} == rpcs()
            already = len(gateway.logged("call.finished"))
            ends = await silent_calls_made(gateway, fal, calls)
            assert {way: code for way, (code, _) in ends.items()} == dict.fromkeys(calls, "DEADLINE_EXCEEDED")
            await logged(gateway, "call.finished", already + WAYS)
            await is_idle(fal)
            lines = gateway.logged("call.finished")[already:]
            assert {line["code"] for line in lines} == {"DEADLINE_EXCEEDED"}
        evidence = fal.received()
        for way, (method, _, find) in calls.items():
            deadline = ends[way][1]
            [record] = [one for one in evidence if find(one) and one["outcome"] != "answered"]
            assert record["outcome"] == "client_closed"
            closings.setdefault(way, []).append(record["closed_at"] - deadline)
            assert closings[way][-1] > -EARLY_SECONDS_MAX  # it is the deadline that ended it
            same = [unix_seconds(line) - deadline for line in lines if line["method"] == method]
            # Two ways of one method have no other mark in the log; PUT began a little before initiate.
            records.setdefault(way, []).append(min(same) if way == "Upload, PUT" else max(same))
        best = {way: (min(closings[way]), min(records[way])) for way in calls}
        if all(late <= LATE_SECONDS_MAX for pair in best.values() for late in pair):
            return
    raise AssertionError(f"seconds late, connection and record: {best}")


async def silent_calls_made(
    gateway: Running, fal: Fal, calls: dict[str, tuple[str, Any, Find]]
) -> dict[str, tuple[str, float]]:
    """Makes the calls at once; gives each one's code and when its deadline was."""
    ends: dict[str, tuple[str, float]] = {}

    async def made(way: str) -> None:
        method, asked, _ = calls[way]
        deadline = time.time() + DEADLINE_SECONDS
        code = await code_of(gateway.stub, method, asked or upload(way), DEADLINE_SECONDS)
        ends[way] = (code, deadline)

    async with asyncio.TaskGroup() as group:
        fal.will("hang", operation="upload_put", times=None)
        group.create_task(made("Upload, PUT"))
        await arrived(fal, "upload_put")  # before its first step is made to hang for the other one
        for operation in HANGING:
            fal.will("hang", operation=operation, times=None)
        for way in calls:
            if way != "Upload, PUT":
                group.create_task(made(way))
    return ends


@pytest.mark.parametrize("seconds", [0.001, 0.01])
async def test_very_short_deadlines(gateway: Running, fal: Fal, seconds: float) -> None:
    """With a deadline of 1 or 10 ms every call ends, and what has ended sends nothing more."""
    calls = await silent_calls(gateway, str(seconds))
    already = len(gateway.logged("call.finished"))
    for operation in HANGING:
        fal.will("hang", operation=operation, times=None)
    started = time.monotonic()
    codes = await asyncio.gather(
        *(
            code_of(gateway.stub, method, asked or upload(way), seconds)
            for _ in range(TRIES)
            for way, (method, asked, _) in calls.items()
        )
    )
    assert set(codes) == {"DEADLINE_EXCEEDED"}
    assert time.monotonic() - started < 10
    await is_idle(fal)
    finished = gateway.logged("call.finished")[already:]
    assert len(finished) <= len(codes)  # of some the gateway never heard
    # Looks at queue requests are shared by calls, and none counts them.
    sent = [record for record in fal.received() if not record["operation"].startswith("status")]
    sent = [record for record in sent if record["outcome"] != "answered"]
    assert len(sent) <= sum(line["attempts"] for line in finished)
    assert all(line["duration_seconds"] < 5 for line in finished)
    before = len(fal.received())
    await asyncio.sleep(0.2)  # not for luck: in this time nothing may come
    assert len(fal.received()) == before


@pytest.mark.parametrize("method", ["Run", "Submit", "Stream", "StreamWorkflow", "Subscribe"])
async def test_no_post_after_the_deadline(gateway: Running, fal: Fal, method: str) -> None:
    """A deadline that passes before the paid request is sent leads to no POST."""
    fal.will("slow", operation="upload_initiate", seconds=1.0)
    text = '{"image_url":"attachment:cat"}'
    asked: Any = {
        "Run": v1.RunRequest,
        "Stream": v1.StreamRequest,
        "StreamWorkflow": v1.StreamWorkflowRequest,
    }.get(method, v1.SubmitRequest)(
        endpoint_id="emulator/echo",
        input=v1.Input(json=text),
        attachments={"cat": v1.Attachment(data=b"1", content_type="image/png")},
    )
    if method == "Subscribe":
        asked = v1.SubscribeRequest(submit=asked)
    assert await code_of(gateway.stub, method, asked, 0.7) == "DEADLINE_EXCEEDED"
    await logged(gateway, "call.finished")
    await is_idle(fal)
    await asyncio.sleep(0.5)  # not for luck: until then the upload would have been answered
    assert {record["operation"] for record in fal.received()} == {"upload_initiate"}


@pytest.mark.parametrize("method", ["Run", "Stream"])
async def test_the_derived_start_timeout(gateway: Running, fal: Fal, method: str) -> None:
    """fal is told the caller's deadline as start timeout, never below 1 s; an option of the caller wins."""
    asked: Any = run("emulator/echo") if method == "Run" else stream("emulator/events", '{"events":[1]}')
    own = type(asked)()
    own.CopyFrom(asked)
    own.options.start_timeout.FromMilliseconds(2500)
    slow = type(asked)()
    slow.CopyFrom(asked)
    slow.endpoint_id, slow.input.json = "emulator/events", '{"events":[1],"end":"hang"}'
    if method == "Run":
        slow = run("emulator/sleep", '{"seconds":30}')
    assert await code_of(gateway.stub, method, slow, 0.9) == "DEADLINE_EXCEEDED"
    for one, timeout in ((asked, 30), (own, 30), (asked, None)):
        assert await code_of(gateway.stub, method, one, timeout) == "OK"
    headers = [record["headers"] for record in fal.received(operation=method.lower())]
    short, long, options, none = (one.get("x-fal-request-start-timeout") for one in headers)
    assert (short, options, none) == ("1", "2.5", None)
    assert 25 < float(long) <= 31  # grpc rounds a deadline up on its way


def rpcs() -> set[str]:
    """The names of all methods."""
    services = v1.RunRequest.DESCRIPTOR.file.services_by_name
    return {method.name for method in services["FalService"].methods}


async def outcome(stub: Any, method: str, asked: Any, timeout: float | None) -> grpc.aio.AioRpcError | None:
    """Makes a whole call; gives its error, None for OK."""
    call = getattr(stub, method)(asked, timeout=timeout)
    try:
        async with asyncio.timeout(LONG):
            if isinstance(call, grpc.aio.UnaryStreamCall):
                async for _ in call:
                    pass
            else:
                await call
    except grpc.aio.AioRpcError as error:
        return error
    return None


async def code_of(stub: Any, method: str, asked: Any, timeout: float | None) -> str:
    """Makes a whole call; gives its code's name."""
    try:
        error = await outcome(stub, method, asked, timeout)
    except asyncio.CancelledError:
        # What grpc's client says of a client stream whose deadline passed before it began.
        if method != "Upload" or (task := asyncio.current_task()) is None or task.cancelling():
            raise
        return "DEADLINE_EXCEEDED"
    if method == "Upload" and error and error.details() == OF_GRPCS_CLIENT:
        return "DEADLINE_EXCEEDED"
    return error.code().name if error else "OK"

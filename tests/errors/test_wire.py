"""The cases as calls: an emulator that answers so, a gateway in front of it, and a generated stub."""

import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from tests.conftest import Fal, Running, running_gateway
from tests.errors.cases import REQUEST_ID, Case, all_cases, told, wanted
from tests.failures import Failure, unpacked

from falrpc import v1

ECHO = "emulator/echo"
MODELS = {"Stream": "emulator/events", "StreamWorkflow": "workflows/emulator/replay"}
"""Which models play events."""
OPERATIONS = {
    "Run": "run",
    "Submit": "submit",
    "Status": "status",
    "Result": "result",
    "Cancel": "cancel",
    "Stream": "stream",
    "StreamWorkflow": "stream",
}
INPUT = v1.Input(json="{}")


@pytest.fixture(scope="module")
async def shared_gateway(emulator_url: str) -> AsyncIterator[Running]:
    """One gateway for all cases."""
    async with running_gateway(emulator_url=emulator_url) as gateway:
        yield gateway


async def failure_of(call: Any) -> Failure:
    """How a call fails, unary or streaming."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    return unpacked(caught.value)


async def submitted(stub: "v1.FalServiceAsyncStub") -> v1.RequestHandle:
    return (await stub.Submit(v1.SubmitRequest(endpoint_id=ECHO, input=INPUT))).handle


async def completed(stub: "v1.FalServiceAsyncStub", handle: v1.RequestHandle) -> None:
    """Waits until the request has ended."""
    async for _ in stub.StreamStatus(v1.StreamStatusRequest(handle=handle)):
        pass


async def uploading() -> AsyncIterator[v1.UploadRequest]:
    yield v1.UploadRequest(header=v1.UploadHeader(file_name="a.txt", content_type="text/plain"))
    yield v1.UploadRequest(chunk=b"text")


def waiting(handle: v1.RequestHandle) -> v1.ResultRequest:
    asked = v1.ResultRequest(handle=handle)
    asked.wait.FromSeconds(20)
    return asked


def put_in_place(fal: Fal, case: Case) -> None:
    """Lets fal answer as the case says, as long as the test runs."""
    if "events" in case.fal:
        return
    operation = "work" if case.context == "stored" else OPERATIONS.get(case.rpc)
    fal.will(**{"act": "answer", "operation": operation, "times": None, **case.fal})


async def made(case: Case, stub: "v1.FalServiceAsyncStub", fal: Fal) -> tuple[Failure, str]:
    """Makes the case's call. Returns how it failed, and fal's id for the request where fal chose it."""
    given = INPUT
    if "events" in case.fal:
        given = v1.Input(json=json.dumps({"events": case.fal["events"], "end": case.fal["end"]}))
    if case.rpc in ("Status", "Result", "Cancel") and case.context == "live":
        handle = await submitted(stub)
        await completed(stub, handle)
        put_in_place(fal, case)
        call: Any = {
            "Status": lambda: stub.Status(v1.StatusRequest(handle=handle)),
            "Result": lambda: stub.Result(v1.ResultRequest(handle=handle)),
            "Cancel": lambda: stub.Cancel(v1.CancelRequest(handle=handle)),
        }[case.rpc]()
        return await failure_of(call), handle.request_id
    put_in_place(fal, case)
    if case.context == "stored":
        handle = await submitted(stub)
        return await failure_of(stub.Result(waiting(handle))), handle.request_id
    model = MODELS[case.rpc] if "events" in case.fal else ECHO
    match case.rpc:
        case "Run":
            endpoint_id = case.request.get("endpoint_id", ECHO)
            failed = await failure_of(stub.Run(v1.RunRequest(endpoint_id=endpoint_id, input=given)))
        case "Submit":
            queue = v1.QueueOptions(**case.request)
            asked = v1.SubmitRequest(endpoint_id=ECHO, input=given, queue=queue)
            failed = await failure_of(stub.Submit(asked))
        case "Stream":
            failed = await failure_of(stub.Stream(v1.StreamRequest(endpoint_id=model, input=given)))
        case "StreamWorkflow":
            workflow = v1.StreamWorkflowRequest(endpoint_id=model, input=given)
            failed = await failure_of(stub.StreamWorkflow(workflow))
        case _:
            failed = await failure_of(stub.Upload(uploading()))
    return failed, failed.info.metadata.get("request_id", REQUEST_ID)


@pytest.mark.parametrize("case", [pytest.param(one, id=one.name) for one in all_cases()])
async def test_a_case(case: Case, shared_gateway: Running, fal: Fal) -> None:
    """A caller of the generated stub is told what the case wants."""
    failed, request_id = await made(case, shared_gateway.stub, fal)
    got = told(failed, request_id)
    assert got == wanted(case, got), case.description

"""One call for each kind of request that the gateway makes."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from tests.failures import Failure, ended, unpacked
from tests.service.test_queue_calls import request
from tests.service.test_run import run
from tests.service.test_stream_calls import stream, workflow
from tests.service.test_upload_calls import messages

from falrpc import v1

__all__ = ["CALLS", "LONG", "code_of", "failure_of_any"]

LONG = 60  # seconds, after which a test that waits in vain ends
HANDLE = v1.RequestHandle(endpoint_id="a/b", request_id="r-1")

CALLS: dict[str, Callable[[v1.FalServiceStub], Any]] = {
    "Run": lambda stub: stub.Run(run("a/b"), timeout=LONG),
    "Submit": lambda stub: stub.Submit(request("a/b"), timeout=LONG),
    "Status": lambda stub: stub.Status(v1.StatusRequest(handle=HANDLE), timeout=LONG),
    "StreamStatus": lambda stub: stub.StreamStatus(v1.StreamStatusRequest(handle=HANDLE), timeout=LONG),
    "Result": lambda stub: stub.Result(v1.ResultRequest(handle=HANDLE), timeout=LONG),
    "Cancel": lambda stub: stub.Cancel(v1.CancelRequest(handle=HANDLE), timeout=LONG),
    "Stream": lambda stub: stub.Stream(stream("a/b"), timeout=LONG),
    "StreamWorkflow": lambda stub: stub.StreamWorkflow(workflow("workflows/a/b"), timeout=LONG),
    "Subscribe": lambda stub: stub.Subscribe(v1.SubscribeRequest(submit=request("a/c")), timeout=LONG),
    "Upload": lambda stub: stub.Upload(
        messages(v1.UploadHeader(file_name="a", size=3), b"abc"),  # type: ignore[arg-type] # the stubs' mistake
        timeout=LONG,
    ),
}


async def code_of(call: Any) -> str:
    """Waits for a call's end, whatever its kind; gives its code."""
    try:
        await ended(call)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def failure_of_any(call: Any) -> Failure:
    """Waits for a call that must fail, whatever its kind."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ended(call)
    return unpacked(caught.value)

"""One call for each method of FalService, with whatever metadata and over whatever connection a test wants."""

import contextlib
from collections.abc import Sequence
from typing import Any

from tests.conftest import Fal, Running
from tests.failures import Failure, failure_of_upload
from tests.faults.each_call import LONG, failure_of_any
from tests.security.guarded import Files, as_caller
from tests.service.test_queue_calls import request
from tests.service.test_run import run
from tests.service.test_stream_calls import stream, workflow
from tests.service.test_upload_calls import messages

from falrpc import v1

__all__ = ["HANDLED", "METHODS", "PAID", "SENTENCES", "Metadata", "begun", "nothing_came", "refused"]

PAID = ("Run", "Submit", "Stream", "StreamWorkflow", "Subscribe")
HANDLED = ("Status", "StreamStatus", "Result", "Cancel", "Subscribe, attached")
METHODS = (*PAID, *HANDLED, "Upload")
"""The ways of calling; `Subscribe, attached` is Subscribe on a handle."""

SENTENCES = {
    "mtls": "the caller is not authenticated; accepted is a client certificate",
    "jwt": "the caller is not authenticated; accepted is a JWT as metadata `authorization: Bearer ...`",
    "tokens": "the caller is not authenticated; accepted is a token as metadata `authorization: Bearer ...`",
}
"""What callers are told who are not authenticated, by how they may be."""

Metadata = Sequence[tuple[str, str]]

_ENDPOINTS = {"Stream": "emulator/events", "StreamWorkflow": "workflows/emulator/replay"}
_STREAM = '{"events":[{"n":0}]}'
_WORKFLOW = '{"events":[{"type":"output","output":{}}],"end":"clean"}'


def begun(
    stub: v1.FalServiceStub,
    method: str,
    *,
    endpoint: str = "",
    handle: v1.RequestHandle | None = None,
    metadata: Metadata = (),
) -> Any:
    """A call of a method: about that endpoint, or else one that fits; about that handle, or else nobody's."""
    endpoint = endpoint or _ENDPOINTS.get(method, "emulator/echo")
    handle = handle or v1.RequestHandle(endpoint_id=endpoint, request_id="nobodys-request")
    asked: Any = {
        "Run": lambda: run(endpoint),
        "Submit": lambda: request(endpoint),
        "Stream": lambda: stream(endpoint, _STREAM),
        "StreamWorkflow": lambda: workflow(endpoint, _WORKFLOW),
        "Subscribe": lambda: v1.SubscribeRequest(submit=request(endpoint)),
        "Subscribe, attached": lambda: v1.SubscribeRequest(attach=handle),
        "Status": lambda: v1.StatusRequest(handle=handle),
        "StreamStatus": lambda: v1.StreamStatusRequest(handle=handle),
        "Result": lambda: v1.ResultRequest(handle=handle),
        "Cancel": lambda: v1.CancelRequest(handle=handle),
        "Upload": lambda: messages(v1.UploadHeader(file_name="a", size=3), b"abc"),
    }[method]()
    name = method.partition(",")[0]
    return getattr(stub, name)(asked, metadata=tuple(metadata), timeout=LONG)


async def refused(gateway: Running, method: str, files: Files | None = None, **call: Any) -> Failure:
    """Calls a method, which must fail."""
    if method == "Upload" and files is None:
        sent = messages(v1.UploadHeader(file_name="a", size=3), b"abc")
        return await failure_of_upload(gateway.address, sent, metadata=tuple(call.get("metadata", ())))
    async with contextlib.AsyncExitStack() as stack:
        stub = await stack.enter_async_context(as_caller(gateway, files)) if files else gateway.stub
        return await failure_of_any(begun(stub, method, **call))


def nothing_came(fal: Fal) -> None:
    """Of whatever was tried fal has seen nothing."""
    assert fal.received() == []

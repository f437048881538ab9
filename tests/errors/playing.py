"""Plays a case of tests/cases/errors with any client: the emulator answers so, a gateway is in front of it."""

import json
from collections.abc import Sequence
from typing import Any, Protocol

from google.protobuf.message import Message
from tests.conftest import Fal
from tests.errors.cases import REQUEST_ID, Case
from tests.failures import Failure

from falrpc import v1

__all__ = ["CallFailed", "Client", "made"]

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


class CallFailed(Exception):
    """A call ended with a status that is not OK."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.code)
        self.failure = failure


class Client(Protocol):
    """Makes calls, in whatever language."""

    async def call(self, method: str, *requests: Message) -> Sequence[Any]:
        """Makes a call and reads it to its end. Returns the messages; raises CallFailed."""


async def made(case: Case, client: Client, fal: Fal) -> tuple[Failure, str]:
    """Makes the case's call. Returns how it failed, and fal's id for the request where fal chose it."""
    given = INPUT
    if "events" in case.fal:
        given = v1.Input(json=json.dumps({"events": case.fal["events"], "end": case.fal["end"]}))
    if case.rpc in ("Status", "Result", "Cancel") and case.context == "live":
        handle = await _submitted(client)
        await client.call("StreamStatus", v1.StreamStatusRequest(handle=handle))  # until it has ended
        _put_in_place(fal, case)
        kind = getattr(v1, f"{case.rpc}Request")
        return await _failure(client, case.rpc, kind(handle=handle)), handle.request_id
    _put_in_place(fal, case)
    if case.context == "stored":
        handle = await _submitted(client)
        asked = v1.ResultRequest(handle=handle)
        asked.wait.FromSeconds(20)
        return await _failure(client, "Result", asked), handle.request_id
    failed = await _failure(client, case.rpc, *_requests(case, given))
    return failed, failed.info.metadata.get("request_id", REQUEST_ID)


def _requests(case: Case, given: v1.Input) -> list[Message]:
    """What the case sends in its one call."""
    model = MODELS[case.rpc] if "events" in case.fal else ECHO
    match case.rpc:
        case "Run":
            return [v1.RunRequest(endpoint_id=case.request.get("endpoint_id", ECHO), input=given)]
        case "Submit":
            queue = v1.QueueOptions(**case.request)
            return [v1.SubmitRequest(endpoint_id=ECHO, input=given, queue=queue)]
        case "Stream":
            return [v1.StreamRequest(endpoint_id=model, input=given)]
        case "StreamWorkflow":
            return [v1.StreamWorkflowRequest(endpoint_id=model, input=given)]
        case _:
            header = v1.UploadHeader(file_name="a.txt", content_type="text/plain")
            return [v1.UploadRequest(header=header), v1.UploadRequest(chunk=b"text")]


def _put_in_place(fal: Fal, case: Case) -> None:
    """Lets fal answer as the case says, as long as the test runs."""
    if "events" in case.fal:
        return
    operation = "work" if case.context == "stored" else OPERATIONS.get(case.rpc)
    fal.will(**{"act": "answer", "operation": operation, "times": None, **case.fal})


async def _submitted(client: Client) -> v1.RequestHandle:
    [answer] = await client.call("Submit", v1.SubmitRequest(endpoint_id=ECHO, input=INPUT))
    handle: v1.RequestHandle = answer.handle
    return handle


async def _failure(client: Client, method: str, *requests: Message) -> Failure:
    try:
        messages = await client.call(method, *requests)
    except CallFailed as failed:
        return failed.failure
    raise AssertionError(f"{method} went well: {messages}")

"""The cases as values: fal's answer in, the status and its details out."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2
from tests.errors.cases import REQUEST_ID, Case, all_cases, told, wanted
from tests.failures import Failure, unpacked_details

from falrpc_server.emulator import faults, scenarios
from falrpc_server.fal_http import error_bodies
from falrpc_server.fal_http import streams as fal_streams
from falrpc_server.fal_http.client import ModelStream
from falrpc_server.fal_http.error_bodies import FalError
from falrpc_server.fal_http.events import Event
from falrpc_server.fal_http.models import CallInfo, EndpointId, Operation
from falrpc_server.translate import rpc_status, verdicts

OPERATIONS = {
    "Run": Operation.RUN,
    "Submit": Operation.SUBMIT,
    "Status": Operation.STATUS,
    "Result": Operation.RESULT,
    "Cancel": Operation.CANCEL,
    "Stream": Operation.STREAM,
}
UPLOADS = {"upload_initiate": Operation.UPLOAD_INITIATE, "upload_put": Operation.UPLOAD_PUT}
ABOUT_A_REQUEST = ("Status", "Result", "Cancel")
ENDPOINT = "emulator/echo"
WORKFLOW = EndpointId.parse("workflows/emulator/replay")


def answer_of(case: Case) -> FalError:
    """The failure that an HTTP answer is."""
    scripted = {name: value for name, value in case.fal.items() if name != "operation"}
    [scenario] = scenarios.read({"act": "answer", **scripted})
    answered = faults.instead(scenario)
    assert answered is not None
    answer = error_bodies.read(answered.status, answered.headers, answered.body)
    is_upload = case.context == "upload"
    operation = UPLOADS[case.fal["operation"]] if is_upload else OPERATIONS[case.rpc]
    error = FalError(
        operation,
        error_bodies.Failure.ANSWER,
        "private",
        answer=answer,
        # The client has read that the request is completed.
        is_stored=operation is Operation.RESULT and answer.may_be_outcome,
        endpoint_id="" if is_upload else case.request.get("endpoint_id", ENDPOINT),
        request_id=REQUEST_ID if case.rpc in ABOUT_A_REQUEST else "",
    )
    error.hit_queue_limit = "max_queue_length" in case.request
    return error


async def end_of_workflow(case: Case) -> FalError:
    """The failure that a workflow's events end with."""
    texts = [json.dumps(event) for event in case.fal["events"]]

    async def source() -> AsyncGenerator[Event]:
        for text in texts:
            yield Event(text)

    stream = ModelStream(CallInfo(request_id=REQUEST_ID), None, source())
    with pytest.raises(FalError) as caught:
        async for _ in fal_streams.workflow_events(stream, WORKFLOW):
            pass
    return caught.value


def told_by(error: FalError) -> dict[str, Any]:
    status = rpc_status.status_of(verdicts.of_fal_error(error))
    code = grpc.StatusCode[code_pb2.Code.Name(status.code)].name
    return told(Failure(code, status.message, unpacked_details(status)))


def is_pure(case: Case) -> bool:
    return (case.is_answer and case.fal["status"] >= 300) or (
        case.context == "workflow" and case.fal["end"] == "clean"
    )


@pytest.mark.parametrize("case", [pytest.param(one, id=one.name) for one in all_cases() if is_pure(one)])
async def test_a_case(case: Case) -> None:
    """fal's answer becomes the status and the details that the case wants."""
    error = await end_of_workflow(case) if case.context == "workflow" else answer_of(case)
    got = told_by(error)
    assert got == wanted(case, got), case.description

"""Messages as text and as JSON. Pure."""

import json

import pytest
from google.protobuf.duration_pb2 import Duration

from falrpc import v1
from falrpc_server.cli import printing

OUTPUT = '{"seed":15860307465884635512,"x":1e3,"y":1.0,\n"t":"\\u00e9"}'


def test_payload_stays_verbatim() -> None:
    """An output stands in the JSON line as fal sent it, on one line."""
    answer = v1.RunResponse(output=v1.Output(json=OUTPUT), call=v1.CallInfo(request_id="r"))
    line = printing.json_line(printing.to_value(answer))
    assert line == '{"output":' + OUTPUT.replace("\n", " ") + ',"call":{"request_id":"r"}}'
    json.loads(line)


def test_fields_of_every_kind() -> None:
    """Enum values have their names, durations are seconds, digests are hexadecimal, lists are lists."""
    status = v1.RequestStatus(
        state=v1.RequestState.REQUEST_STATE_IN_QUEUE,
        queue_position=0,
        inference_time=Duration(seconds=1, nanos=500_000_000),
    )
    answer = v1.StatusResponse(status=status, logs=[v1.LogEntry(level="INFO", message="m")])
    assert printing.to_value(answer) == {
        "status": {"state": "REQUEST_STATE_IN_QUEUE", "queue_position": 0, "inference_time": 1.5},
        "logs": [{"level": "INFO", "message": "m"}],
    }
    assert printing.to_value(v1.UploadResponse(url="u", size=2**40, sha256=b"\1\xff")) == {
        "url": "u",
        "size": 2**40,
        "sha256": "01ff",
    }


def test_value_of_a_newer_enum() -> None:
    """An enum value that this version does not know is its number."""
    status = v1.RequestStatus.FromString(b"\x08\x63")
    assert printing.to_value(status) == {"state": 99}
    assert printing.status_sentence(status) == "99"


def test_binary_output() -> None:
    """A binary output is base64 for programs and a description for people."""
    output = v1.Output(binary=v1.BinaryOutput(content_type="image/png", data=b"\0"))
    assert printing.to_value(output) == {"content_type": "image/png", "data_base64": "AA=="}
    assert printing.pretty(output) == "binary output, image/png, 1 bytes"


def test_json_fields_are_json() -> None:
    """Fields that hold JSON text are JSON in the line, or text when they hold none after all."""
    assert (
        printing.json_line(printing.to_value(v1.WorkflowError(body_json='{"a":1e3}')))
        == '{"body_json":{"a":1e3}}'
    )
    assert printing.to_value(v1.WorkflowError(body_json="<html>")) == {"body_json": "<html>"}


def test_pretty_keeps_numbers() -> None:
    """Indenting for people changes white space only."""
    text = printing.pretty(v1.Output(json=OUTPUT))
    assert "".join(text.split()) == "".join(OUTPUT.split())
    assert len(text.splitlines()) == 6


def test_no_terminal_control() -> None:
    """What a model says can't steer the terminal."""
    entry = v1.LogEntry(level="INFO", message="\x1b[2J\x9b1mgone\r")
    assert not {"\x1b", "\x9b", "\r"} & set(printing.log_line(entry))


def test_handle_words_are_arguments() -> None:
    """A handle is printed so that it can be pasted after `falrpc result`."""
    assert printing.handle_words(v1.RequestHandle(endpoint_id="a/b", request_id="r")) == "a/b r"
    tokened = v1.RequestHandle(endpoint_id="a/b", request_id="r", ownership_token="t t")
    assert printing.handle_words(tokened) == "a/b r '--ownership-token=t t'"


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (v1.StreamWorkflowResponse(started=v1.CallInfo(request_id="r")), "started     request r"),
        (
            v1.StreamWorkflowResponse(submit=v1.WorkflowSubmit(node_id="n", app_id="a/b", request_id="r")),
            "submit      n  a/b  request r",
        ),
        (
            v1.StreamWorkflowResponse(completion=v1.WorkflowCompletion(output=v1.Output(json="{}"))),
            "completion  {}",
        ),
        (
            v1.StreamWorkflowResponse(output=v1.WorkflowOutput(output=v1.Output(json="{\n}"))),
            "output      { }",
        ),
        (
            v1.StreamWorkflowResponse(error=v1.WorkflowError(node_id="n", message="m", http_status=422)),
            "error       n  m  HTTP 422",
        ),
        (v1.StreamWorkflowResponse(other_json='{"type":"new"}'), 'other_json  {"type":"new"}'),
    ],
)
def test_workflow_line(message: v1.StreamWorkflowResponse, line: str) -> None:
    """Each typed event of a workflow is one line that begins with its kind."""
    assert printing.workflow_line(message) == line

"""Answers that are hard to read, hold what nobody may see, or come in the middle of a longer call."""

import asyncio
import base64
import gzip
import json
import time

import grpc
import pytest
from google.rpc import error_details_pb2
from tests.conftest import KEY, Fal, Running, running_gateway
from tests.failures import failure_of, messages_and_failure
from tests.service.raw_server import answering

from falrpc import v1
from falrpc_server.fal_http import incoming

DOWNLOAD_ERROR = json.dumps(
    {"detail": [{"loc": ["body", "image_url"], "msg": "Can't download", "type": "file_download_error"}]}
)
SECRET = KEY.partition(":")[2]


def run(endpoint_id: str = "emulator/echo", **rest: object) -> v1.RunRequest:
    return v1.RunRequest(endpoint_id=endpoint_id, input=v1.Input(json=rest.pop("json", "{}")), **rest)


async def finished(gateway: Running) -> dict[str, object]:
    """The log line of the only call, which follows its status."""
    while not (lines := gateway.logged("call.finished")):
        await asyncio.sleep(0.01)
    return lines[0]


async def test_a_compressed_error(gateway: Running, fal: Fal) -> None:
    """An error body in an encoding that nobody asked for is read all the same."""
    body = base64.b64encode(gzip.compress(DOWNLOAD_ERROR.encode())).decode()
    headers = {"content-encoding": "gzip", "x-fal-request-id": "r-1"}
    fal.will("answer", operation="run", status=422, headers=headers, body_base64=body)
    failed = await failure_of(gateway.stub.Run(run()))
    assert (failed.code, failed.info.reason) == ("FAILED_PRECONDITION", "FILE_DOWNLOAD_ERROR")


@pytest.mark.parametrize("encoding", ["gzip", "br"])
async def test_an_error_in_an_encoding_that_cannot_be_read(gateway: Running, fal: Fal, encoding: str) -> None:
    """The status is the answer when the body can't be read."""
    headers = {"content-encoding": encoding, "x-fal-request-id": "r-1"}
    fal.will("answer", operation="run", status=422, headers=headers, body="no such encoding")
    failed = await failure_of(gateway.stub.Run(run()))
    assert (failed.code, failed.info.reason) == ("INVALID_ARGUMENT", "HTTP_422")


async def test_an_error_whose_body_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The status is the answer when the body stops coming, long before the deadline."""
    monkeypatch.setattr(incoming, "REFUSAL_SECONDS_MAX", 0.3)
    head = b"HTTP/1.1 422 Unprocessable\r\nx-fal-request-id: r-1\r\ncontent-length: 500\r\n\r\n{"
    async with answering(head, keeps_open=True) as url, running_gateway(emulator_url=url) as gateway:
        started = time.monotonic()
        failed = await failure_of(gateway.stub.Run(run(), timeout=30))
        assert time.monotonic() - started < 10
    assert (failed.code, failed.info.reason, failed.delivery) == ("INVALID_ARGUMENT", "HTTP_422", "FAILED")


@pytest.mark.parametrize("secret", [KEY, SECRET], ids=["key", "its secret half"])
@pytest.mark.parametrize(
    "name", ["x-fal-request-id", "x-fal-error-type", "x-fal-billable-units", "x-fal-request-timeout-type"]
)
async def test_our_key_in_a_header(gateway: Running, fal: Fal, name: str, secret: str) -> None:
    """A key that stands in a header of fal's gets neither to the caller nor into the log."""
    headers = {"x-fal-request-id": "r-1", name: f"bad-{secret}"}
    fal.will("answer", operation="run", status=400, headers=headers, body='{"detail":"x"}')
    failed = await failure_of(gateway.stub.Run(run()))
    told = f"{failed.message} {failed.details}".lower()
    await finished(gateway)
    for text in (secret.lower(), secret.replace(":", "_").replace("-", "_").lower()):
        assert text not in told
        assert text not in gateway.log_text.lower()


async def test_an_error_type_that_is_a_text(gateway: Running, fal: Fal) -> None:
    """What an app calls its error is not written into the log when it is no word."""
    prompt = "a private prompt " * 50
    body = json.dumps({"detail": "x", "error_type": prompt})
    fal.will("answer", operation="run", status=500, headers={"x-fal-request-id": "r-1"}, body=body)
    await failure_of(gateway.stub.Run(run()))
    await finished(gateway)
    assert [line["cause"] for line in gateway.logged("fal.failed")] == ["run: answer: HTTP 500"]


async def test_a_refusal_is_no_acceptance(gateway: Running, fal: Fal) -> None:
    """The id of a request that fal refused is told, and not logged as accepted."""
    fal.will("fail", operation="run", kind="bad_request")
    failed = await failure_of(gateway.stub.Run(run()))
    line = await finished(gateway)
    assert gateway.logged("request.accepted") == []
    assert line["request_id"] == failed.info.metadata["request_id"] != ""


@pytest.mark.parametrize("operation", ["upload_initiate", "upload_put"])
async def test_an_attachment_that_cannot_be_uploaded(gateway: Running, fal: Fal, operation: str) -> None:
    """When an attachment can't be uploaded the paid request was not sent, and the status says so."""
    headers = {"x-fal-request-id": "of-the-upload"}
    fal.will("answer", operation=operation, status=503, headers=headers, body='{"detail":"Down"}', times=None)
    attached = {"cat": v1.Attachment(data=b"1", content_type="image/png")}
    request = run("emulator/echo", json='{"a":"attachment:cat"}', attachments=attached)
    failed = await failure_of(gateway.stub.Run(request))
    assert (failed.code, failed.delivery) == ("UNAVAILABLE", "NOT_SENT")
    assert failed.info.metadata["endpoint_id"] == "emulator/echo"
    assert failed.find(error_details_pb2.RequestInfo) is None
    assert fal.received(operation="run") == []


@pytest.mark.parametrize(
    ("scenario", "reason"),
    [
        pytest.param({"act": "huge_answer", "bytes": 70_000_000}, "OUTPUT_TOO_LARGE", id="too large"),
        pytest.param({"act": "answer", "status": 401, "body": "{}"}, "OUTCOME_UNKNOWN", id="key refused"),
        pytest.param({"act": "edge_page"}, "OUTCOME_UNKNOWN", id="edge"),
    ],
)
async def test_a_result_that_a_subscription_cannot_read(
    gateway: Running, fal: Fal, scenario: dict[str, object], reason: str
) -> None:
    """A subscription that has submitted ends UNKNOWN, with nothing that invites to submit again."""
    fal.will(**{"operation": "result", "times": None, **scenario})
    submit = v1.SubmitRequest(endpoint_id="emulator/echo", input=v1.Input(json="{}"))
    _, failed = await messages_and_failure(gateway.stub.Subscribe(v1.SubscribeRequest(submit=submit)))
    assert (failed.code, failed.info.reason, failed.delivery) == ("UNKNOWN", reason, "ACCEPTED")
    kinds = {type(detail) for detail in failed.details}
    assert kinds == {error_details_pb2.ErrorInfo, error_details_pb2.RequestInfo}


async def test_the_deadlines_log_line(gateway: Running) -> None:
    """A call that the caller's deadline ended has its reason and source in the log."""
    with pytest.raises(grpc.aio.AioRpcError):
        await gateway.stub.Run(run("emulator/sleep", json='{"seconds":30}'), timeout=0.2)
    line = await finished(gateway)
    assert (line["code"], line["reason"], line["source"]) == (
        "DEADLINE_EXCEEDED",
        "CALL_DEADLINE_EXCEEDED",
        "caller",
    )


@pytest.mark.parametrize("status", [403, 408, 429, 500, 503])
async def test_trouble_with_reading_a_result(gateway: Running, fal: Fal, status: int) -> None:
    """While fal says that a request is not completed, an error answer to Result is not its outcome."""
    submit = v1.SubmitRequest(endpoint_id="emulator/sleep", input=v1.Input(json='{"seconds":30}'))
    handle = (await gateway.stub.Submit(submit)).handle
    headers = {"x-fal-request-id": handle.request_id}
    fal.will("answer", operation="result", status=status, headers=headers, body="{}", times=None)
    failed = await failure_of(gateway.stub.Result(v1.ResultRequest(handle=handle)))
    # ABORTED would promise that the work has ended, and ask for it to be submitted again.
    codes = {403: "PERMISSION_DENIED", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL"}
    assert failed.code == codes.get(status, "UNAVAILABLE")
    assert (failed.find(error_details_pb2.RetryInfo) is not None) == (status in (408, 429, 503))


@pytest.mark.parametrize("status", [429, 503])
async def test_a_status_that_cannot_be_read_either(gateway: Running, fal: Fal, status: int) -> None:
    """When nothing tells whether a request is completed, an error answer to Result is not its outcome."""
    submit = v1.SubmitRequest(endpoint_id="emulator/sleep", input=v1.Input(json='{"seconds":30}'))
    handle = (await gateway.stub.Submit(submit)).handle
    fal.will("edge_page", operation="status", times=None)
    headers = {"x-fal-request-id": handle.request_id}
    fal.will("answer", operation="result", status=status, headers=headers, body="{}", times=None)
    failed = await failure_of(gateway.stub.Result(v1.ResultRequest(handle=handle)))
    assert failed.code == {429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}[status]
    assert failed.find(error_details_pb2.RetryInfo) is not None

"""The Envoy of deploy/envoy, as it is committed, between callers of four kinds and a gateway."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.clients.deployed import ORIGIN, SERVICE, Proxied, deployed_envoy, gateway_behind_envoy, web_call
from tests.conftest import Fal, Running, running_gateway
from tests.failures import failure_of, messages_and_failure
from tests.processes.channels import own_channel
from tests.service.test_queue_calls import collected
from tests.service.test_queue_calls import request as submit

from falrpc import v1

ODD = '{"seed": 15860307465884635512, "half": 1e3, "text": "<é\\u00e9 \\"&>", "none": [ ]}'
BLOB_BYTES = 20_000_000
JSON_BYTES = 60_000_000  # where envoy.yaml has limits of its own
JSON_REQUEST_BYTES_MAX = 32 * 1024 * 1024
IDLE_SECONDS = 2  # for the file's 60
SILENCE_SECONDS = 5
SERVING = health_pb2.HealthCheckResponse.SERVING
LONG = 60  # seconds, beyond every limit here


@pytest.fixture
async def proxied(emulator_url: str, fal: Fal) -> AsyncIterator[Proxied]:
    async with gateway_behind_envoy(emulator_url=emulator_url) as one:
        yield one


def asked(endpoint_id: str, text: str = "{}") -> dict[str, Any]:
    """A request in JSON."""
    return {"endpointId": endpoint_id, "input": {"json": text}}


def run(endpoint_id: str, text: str = "{}") -> v1.RunRequest:
    return v1.RunRequest(endpoint_id=endpoint_id, input=v1.Input(json=text))


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_json_run(proxied: Proxied) -> None:
    """POST with JSON calls Run, and input and output are the same bytes as without Envoy."""
    answer = await proxied.json("Run", asked("emulator/echo", ODD))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json()["output"] == {"json": ODD}
    assert answer.json()["call"]["requestId"]
    assert (await proxied.json("Run", {"endpoint_id": "emulator/echo"})).json()["output"] == {"json": "{}"}


async def test_json_error(proxied: Proxied) -> None:
    """An error is a google.rpc.Status in JSON with every violation, and HTTP's status for its code."""
    answer = await proxied.json("Run", asked("fal-ai/fast-sdxl", '{"num_images": 99}'))
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json")
    status = answer.json()
    assert (status["code"], status["message"]) == (3, "input.prompt: Field required (+1 more)")
    details = {detail["@type"].rpartition("/")[2]: detail for detail in status["details"]}
    assert details["google.rpc.ErrorInfo"]["metadata"]["delivery"] == "FAILED"
    violations = details["google.rpc.BadRequest"]["fieldViolations"]
    assert [one["field"] for one in violations] == ["input.prompt", "input.num_images"]
    assert violations[0] == {"field": "input.prompt", "description": "Field required", "reason": "MISSING"}


async def test_json_that_is_wrong(proxied: Proxied, fal: Fal) -> None:
    """What Envoy can't translate is refused in plain text; a field that there is not is ignored."""
    broken = await proxied.json("Run", '{"endpointId"')
    assert (broken.status_code, broken.headers["content-type"]) == (400, "text/plain")
    assert (await proxied.json("Nothing", {})).status_code == 404
    assert (await proxied.http.get(f"{SERVICE}/Run")).status_code == 404
    assert fal.received() == []
    extra = await proxied.json("Run", {**asked("emulator/echo", "{}"), "nothing": 1})
    assert extra.status_code == 200


async def test_json_stream(proxied: Proxied) -> None:
    """A server stream is a line of JSON for each message."""
    answer = await proxied.json("StreamWorkflow", asked("workflows/fal-ai/sdxl-sticker", '{"prompt":"x"}'))
    messages = [one for one in lines(answer) if "heartbeat" not in one]
    kinds = [next(iter(one)) for one in messages]
    assert kinds == ["started", *["submit", "completion"] * 3, "output"]
    assert messages[1]["submit"]["nodeId"] == "node_1"
    assert json.loads(messages[-1]["output"]["output"]["json"])["image"]["url"]


async def test_json_stream_that_breaks_off(proxied: Proxied) -> None:
    """A stream that breaks off is HTTP 200 without a word in its body; its trailers tell."""
    given = asked("emulator/events", '{"events": [1, 2], "end": "cut"}')
    answer = await proxied.json("Stream", given)
    assert answer.status_code == 200
    assert [next(iter(one)) for one in lines(answer)] == ["started", "event", "event"]
    reader, writer = await asyncio.open_connection(*proxied.envoy.address.split(":"))
    body = json.dumps(given).encode()  # by hand: httpx drops trailers
    head = f"POST {SERVICE}/Stream HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    raw = (await reader.read()).decode()
    writer.close()
    _, trailers = raw.split("\r\n0\r\n")
    assert "grpc-status: 2\r\n" in trailers
    assert "grpc-status-details-bin: " in trailers


async def test_json_stream_that_fails_at_once(proxied: Proxied) -> None:
    """A stream that fails before its first message is HTTP 200 with the Status as its only line."""
    answer = await proxied.json("Stream", asked("fal-ai/fast-sdxl", '{"prompt":"x"}'))
    [status] = lines(answer)
    assert (answer.status_code, status["code"]) == (200, 9)
    assert status["details"][0]["reason"] == "STREAMING_NOT_SUPPORTED"


async def test_json_numbers(proxied: Proxied) -> None:
    """Fields of 64 bits are strings in JSON; Upload takes a small file as an array of messages."""
    messages = [{"header": {"fileName": "x.txt"}}, {"chunk": base64.b64encode(b"hello").decode()}]
    answer = await proxied.json("Upload", messages)
    assert answer.status_code == 200
    assert (answer.json()["size"], answer.json()["parts"]) == ("5", 1)


async def test_json_deadline(proxied: Proxied) -> None:
    """A deadline comes in the header grpc-timeout; when it passes, the answer is 504."""
    answer = await proxied.json("Run", asked("emulator/sleep", '{"seconds": 30}'), grpc_timeout="1S")
    assert (answer.status_code, answer.json()["code"]) == (504, 4)


async def test_silence(emulator_url: str) -> None:
    """A silent stream is cut unless it has heartbeats; a call that is silent until it answers is not."""
    silent = f'{{"seconds": {SILENCE_SECONDS}}}'
    ticks = v1.StreamRequest(endpoint_id="emulator/ticks")
    ticks.input.json = f'{{"events": 2, "seconds": {SILENCE_SECONDS}}}'
    mute = v1.StreamRequest(heartbeat_interval=Duration())
    mute.MergeFrom(ticks)
    async with (
        running_gateway(emulator_url=emulator_url, heartbeat_seconds=IDLE_SECONDS / 4) as gateway,
        deployed_envoy(gateway.address, idle_seconds=IDLE_SECONDS) as (envoy, http),
        own_channel(envoy.address) as channel,
    ):
        proxied = Proxied(gateway, envoy, http, channel)
        handle = (await proxied.stub.Submit(submit("emulator/sleep", silent), timeout=LONG)).handle
        waiting = v1.ResultRequest(handle=handle, wait=Duration(seconds=LONG))
        cut = asyncio.create_task(messages_and_failure(proxied.stub.Stream(mute, timeout=LONG)))
        result, response, answer, messages = await asyncio.gather(
            proxied.stub.Result(waiting, timeout=LONG),
            proxied.stub.Run(run("emulator/sleep", silent), timeout=LONG),
            proxied.json("Run", asked("emulator/sleep", silent)),
            collected(proxied.stub.Stream(ticks, timeout=LONG)),
        )
        assert "slept" in result.output.json
        assert "slept" in response.output.json
        assert "slept" in answer.text
        assert [one.WhichOneof("kind") for one in messages].count("event") == 2
        assert (await cut)[1].details == []


async def test_large_answers(proxied: Proxied) -> None:
    """An answer of 60 MB passes in JSON, one of 20 MB in gRPC-Web and in gRPC."""
    answer = await proxied.json("Run", asked("emulator/blob", f'{{"bytes": {JSON_BYTES}}}'))
    assert len(answer.json()["output"]["json"]) == JSON_BYTES
    given = f'{{"bytes": {BLOB_BYTES}}}'
    [message], trailers, _ = await web_call(proxied.http, "Run", run("emulator/blob", given))
    assert (len(v1.RunResponse.FromString(message).output.json), trailers["grpc-status"]) == (BLOB_BYTES, "0")
    response = await proxied.stub.Run(run("emulator/blob", given), timeout=LONG)
    assert len(response.output.json) == BLOB_BYTES


async def test_large_requests(proxied: Proxied, fal: Fal) -> None:
    """JSON of more than falrpc takes is refused by falrpc; of more than Envoy shall hold, by Envoy."""
    taken = await proxied.json("Run", asked("emulator/echo", f'{{"x": "{"x" * 10_000_000}"}}'))
    assert len(taken.json()["output"]["json"]) > 10_000_000
    refused = await proxied.json("Run", asked("emulator/echo", f'{{"x": "{"x" * 20_000_000}"}}'))
    assert (refused.status_code, refused.json()["code"]) == (429, 8)
    held = await proxied.json("Run", asked("emulator/echo", "x" * JSON_REQUEST_BYTES_MAX))
    assert held.status_code == 413
    assert len(fal.received()) == 1


async def test_uploads_pass_as_they_come(proxied: Proxied) -> None:
    """Envoy does not collect a gRPC upload: falrpc refuses its header before any more is sent."""
    may_go_on = asyncio.Event()

    async def messages() -> AsyncIterator[v1.UploadRequest]:
        yield v1.UploadRequest(header=v1.UploadHeader(file_name=""))
        await may_go_on.wait()

    failure = await failure_of(proxied.stub.Upload(messages(), timeout=LONG))
    assert (failure.code, failure.info.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")


@pytest.mark.parametrize("as_text", [False, True])
async def test_grpc_web(proxied: Proxied, as_text: bool) -> None:
    """gRPC-Web, binary and text: a unary call, a stream, and an error with its details."""
    [message], trailers, _ = await web_call(proxied.http, "Run", run("emulator/echo", ODD), as_text=as_text)
    response = v1.RunResponse.FromString(message)
    assert (response.output.json, trailers["grpc-status"]) == (ODD, "0")
    assert trailers["x-fal-request-id"] == response.call.request_id

    asked_for = v1.StreamRequest(endpoint_id="emulator/events", input=v1.Input(json='{"events": [1, 2]}'))
    messages, trailers, _ = await web_call(proxied.http, "Stream", asked_for, as_text=as_text)
    kinds = [v1.StreamResponse.FromString(one).WhichOneof("kind") for one in messages]
    assert (kinds, trailers["grpc-status"]) == (["started", "event", "event"], "0")

    wrong = run("fal-ai/fast-sdxl", '{"num_images": 99}')
    messages, trailers, _ = await web_call(proxied.http, "Run", wrong, as_text=as_text)
    assert (messages, trailers["grpc-status"]) == ([], "3")
    details = trailers["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(base64.b64decode(details + "=" * (-len(details) % 4)))
    assert [one.TypeName() for one in status.details][:2] == ["google.rpc.ErrorInfo", "google.rpc.BadRequest"]


async def test_pages_of_one_site(proxied: Proxied) -> None:
    """Pages of an origin that is listed may call, and read the status; those of others may not."""
    for origin, allowed in ((ORIGIN, ORIGIN), ("https://other.example.com", None)):
        preflight = {"origin": origin, "access-control-request-method": "POST"}
        asked_for = {**preflight, "access-control-request-headers": "content-type,x-grpc-web"}
        answer = await proxied.http.options(f"{SERVICE}/Run", headers=asked_for)
        assert answer.headers.get("access-control-allow-origin") == allowed
        _, _, head = await web_call(proxied.http, "Run", run("emulator/echo"), origin=origin)
        assert head.get("access-control-allow-origin") == allowed
        if allowed:
            assert "x-grpc-web" in answer.headers["access-control-allow-headers"]
            assert "grpc-status-details-bin" in head["access-control-expose-headers"]


async def test_pages_of_no_site(gateway: Running) -> None:
    """The file as it is lists no origin."""
    async with deployed_envoy(gateway.address, origin="") as (_, http):
        preflight = {"origin": ORIGIN, "access-control-request-method": "POST"}
        answer = await http.options(f"{SERVICE}/Run", headers=preflight)
        assert "access-control-allow-origin" not in answer.headers
        _, _, head = await web_call(http, "Run", run("emulator/echo"), origin=ORIGIN)
        assert "access-control-allow-origin" not in head


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
async def test_what_pages_send_without_asking(proxied: Proxied, fal: Fal, kind: str) -> None:
    """A request that a page of any site may send without a preflight is refused, and reaches nobody."""
    answer = await proxied.json("Run", asked("emulator/echo"), content_type=kind)
    assert answer.status_code == 415
    assert fal.received() == []
    assert proxied.gateway.logged("call.finished") == []


async def test_grpc(proxied: Proxied) -> None:
    """Plain gRPC passes as it is: answers, trailers, details of errors, streams, health."""
    call = proxied.stub.Run(run("emulator/echo", ODD), timeout=LONG)
    response = await call
    assert response.output.json == ODD
    assert dict(await call.trailing_metadata())["x-fal-request-id"] == response.call.request_id
    failure = await failure_of(proxied.stub.Run(run("fal-ai/fast-sdxl", '{"num_images": 99}'), timeout=LONG))
    assert (failure.code, failure.fields) == ("INVALID_ARGUMENT", ["input.prompt", "input.num_images"])
    cut = v1.StreamRequest(
        endpoint_id="emulator/events", input=v1.Input(json='{"events": [1], "end": "cut"}')
    )
    health = health_pb2_grpc.HealthStub(proxied.channel)
    assert (await health.Check(health_pb2.HealthCheckRequest())).status == SERVING
    messages, failure = await messages_and_failure(proxied.stub.Stream(cut, timeout=LONG))
    assert [one.WhichOneof("kind") for one in messages] == ["started", "event"]
    assert (failure.code, failure.info.reason) == ("UNKNOWN", "STREAM_TRUNCATED")

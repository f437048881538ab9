"""Run, end to end: stub, gateway, emulator."""

import asyncio
import datetime
import json
import time
from typing import Any

import pytest
from google.protobuf import struct_pb2
from google.rpc import error_details_pb2
from tests.conftest import KEY, Fal, Running, running_gateway
from tests.failures import failure_of

from falrpc import v1

SEED = "15860307465884635512"
TRIES = 3  # a time limit is met by the best of them: others use this machine, too
WAIT_SECONDS_MAX = 20  # for what comes at once, or never


def run(endpoint_id: str, json_text: str = "{}", **rest: object) -> v1.RunRequest:
    return v1.RunRequest(endpoint_id=endpoint_id, input=v1.Input(json=json_text), **rest)  # type: ignore[arg-type]


async def test_json_is_passed_byte_for_byte(gateway: Running) -> None:
    """Input reaches fal and output reaches the caller unchanged: big integers, spelling, order, spaces."""
    text = f'{{ "seed": {SEED}, "scale":1e3,"b":[1.0, 1],"a":"\\u00e9é" }}'
    response = await gateway.stub.Run(run("emulator/echo", text))
    assert response.output.json == text


async def test_absent_input_is_an_empty_object(gateway: Running) -> None:
    """A call without input sends {}."""
    response = await gateway.stub.Run(v1.RunRequest(endpoint_id="emulator/echo"))
    assert response.output.json == "{}"


async def test_struct_input(gateway: Running) -> None:
    """Input.object is written as JSON with integers as integers."""
    value = struct_pb2.Struct()
    value.update({"n": 3, "x": 0.5, "list": [1, {"deep": True}], "none": None})
    response = await gateway.stub.Run(
        v1.RunRequest(endpoint_id="emulator/echo", input=v1.Input(object=value))
    )
    assert '"n":3,' in response.output.json
    assert json.loads(response.output.json) == {"n": 3, "x": 0.5, "list": [1, {"deep": True}], "none": None}


async def test_struct_integers_that_a_double_cannot_hold(gateway: Running, fal: Fal) -> None:
    """A seed of 2^53 or more in Input.object is refused by its field path before anything is sent."""
    value = struct_pb2.Struct()
    value.update({"loras": [{"seed": float(SEED)}]})
    failed = await failure_of(
        gateway.stub.Run(v1.RunRequest(endpoint_id="emulator/echo", input=v1.Input(object=value)))
    )
    assert (failed.code, failed.fields) == ("INVALID_ARGUMENT", ["input.loras[0].seed"])
    assert failed.delivery == "NOT_SENT"
    assert fal.received() == []


async def test_ids_travel_in_the_answer_and_in_trailers(gateway: Running) -> None:
    """fal's request id and billable units are in CallInfo and in trailing metadata."""
    call = gateway.stub.Run(run("emulator/echo"))
    response = await call
    trailers = dict(await call.trailing_metadata())
    assert response.call.request_id
    assert trailers["x-fal-request-id"] == response.call.request_id
    assert trailers["x-fal-billable-units"] == response.call.billable_units == "1"


async def test_a_large_output_arrives(gateway: Running) -> None:
    """A 20 MB output arrives at a client whose receive limit is raised as the docs say."""
    response = await gateway.stub.Run(run("emulator/blob", '{"bytes": 20000000}'))
    assert len(response.output.json) == 20_000_000


async def test_a_large_input_arrives(gateway: Running, fal: Fal) -> None:
    """An input of 11 MB reaches fal whole, with its length declared, and comes back."""
    text = '{"a":"' + "x" * 11_000_000 + '"}'
    assert (await gateway.stub.Run(run("emulator/echo", text))).output.json == text
    [record] = fal.received(operation="run")
    assert (record["body_bytes"], record["headers"]["content-length"]) == (len(text), str(len(text)))


async def test_an_output_that_is_not_json(gateway: Running) -> None:
    """Bytes that are no JSON arrive as binary with fal's content type: a paid answer is never dropped."""
    response = await gateway.stub.Run(run("emulator/blob", '{"bytes": 1000, "binary": true}'))
    assert response.output.binary.content_type == "application/octet-stream"
    assert response.output.binary.data == b"\xff" * 1000


async def test_the_limit_of_outputs(emulator_url: str, fal: Fal) -> None:
    """An output past FALRPC_OUTPUT_BYTES_MAX ends UNKNOWN, OUTPUT_TOO_LARGE; one at the limit arrives."""
    async with running_gateway(emulator_url=emulator_url, output_bytes_max=10_000) as gateway:
        response = await gateway.stub.Run(run("emulator/blob", '{"bytes": 10000}'))
        assert len(response.output.json) == 10_000
        failed = await failure_of(gateway.stub.Run(run("emulator/blob", '{"bytes": 10001}')))
        assert (failed.code, failed.info.reason, failed.delivery) == (
            "UNKNOWN",
            "OUTPUT_TOO_LARGE",
            "ACCEPTED",
        )


async def test_the_limit_of_inputs(emulator_url: str, fal: Fal) -> None:
    """An input past FALRPC_INPUT_BYTES_MAX is INVALID_ARGUMENT before anything is sent."""
    async with running_gateway(emulator_url=emulator_url, input_bytes_max=1_000) as gateway:
        at_limit = '{"a":"' + "x" * (1_000 - 8) + '"}'
        assert (await gateway.stub.Run(run("emulator/echo", at_limit))).output.json == at_limit
        fal.reset()
        failed = await failure_of(gateway.stub.Run(run("emulator/echo", at_limit + " ")))
        assert (failed.code, failed.fields) == ("INVALID_ARGUMENT", ["input.json"])
        assert fal.received() == []


async def test_the_limit_of_messages(emulator_url: str, fal: Fal) -> None:
    """A message past FALRPC_RECEIVE_BYTES_MAX is refused by grpc itself, without our ErrorInfo."""
    limits = {"receive_bytes_max": 10_000, "input_bytes_max": 9_000}
    async with running_gateway(emulator_url=emulator_url, **limits) as gateway:
        failed = await failure_of(gateway.stub.Run(run("emulator/echo", '{"a":"' + "x" * 10_000 + '"}')))
        assert (failed.code, failed.details) == ("RESOURCE_EXHAUSTED", [])
        assert fal.received() == []


async def test_every_violation_at_once(gateway: Running, fal: Fal) -> None:
    """A request with several faults is told all of them, and nothing is sent."""
    request = run("../x", '{"a": x}', options=v1.CallOptions(runner_hint="ü", tags={"BAD": "a,b"}))
    request.options.start_timeout.FromSeconds(-1)
    failed = await failure_of(gateway.stub.Run(request))
    assert failed.code == "INVALID_ARGUMENT"
    assert failed.info.reason == "INVALID_REQUEST"
    assert failed.fields == [
        "endpoint_id",
        "input.json",
        "options.start_timeout",
        "options.runner_hint",
        "options.tags['BAD']",
        "options.tags['BAD']",
    ]
    bad = failed.find(error_details_pb2.BadRequest)
    assert bad is not None
    assert "byte 6 (line 1, column 7)" in bad.field_violations[1].description
    assert fal.received() == []


async def test_the_models_own_violations(gateway: Running) -> None:
    """A model's 422 is INVALID_ARGUMENT with one violation for each field, fal's types as reasons."""
    failed = await failure_of(gateway.stub.Run(run("fal-ai/fast-sdxl", '{"num_images": 99}')))
    assert failed.code == "INVALID_ARGUMENT"
    assert failed.message == "input.prompt: Field required (+1 more)"
    assert failed.fields == ["input.prompt", "input.num_images"]
    assert (failed.info.domain, failed.info.reason) == ("fal.ai", "MISSING")
    assert (failed.delivery, failed.info.metadata["http_status"]) == ("FAILED", "422")
    assert failed.info.metadata["request_id"]


async def test_unknown_endpoint(gateway: Running) -> None:
    """An endpoint that fal does not know is NOT_FOUND with its ResourceInfo."""
    failed = await failure_of(gateway.stub.Run(run("nobody/nothing")))
    assert (failed.code, failed.info.reason) == ("NOT_FOUND", "ENDPOINT_NOT_FOUND")
    resource = failed.find(error_details_pb2.ResourceInfo)
    assert resource is not None
    assert (resource.resource_type, resource.resource_name) == ("fal.model", "nobody/nothing")


@pytest.mark.parametrize(
    ("status", "body", "code", "reason", "delivery"),
    [
        pytest.param(400, '{"detail":"no"}', "INVALID_ARGUMENT", "HTTP_400", "REJECTED", id="400"),
        pytest.param(
            401,
            '{"detail":"no"}',
            "INTERNAL",
            "UPSTREAM_CREDENTIALS_REJECTED",
            "REJECTED",
            id="own key refused",
        ),
        pytest.param(403, '{"detail":"no"}', "PERMISSION_DENIED", "HTTP_403", "REJECTED", id="403"),
        pytest.param(
            403,
            '{"detail":"User is locked. Reason: Exhausted balance."}',
            "RESOURCE_EXHAUSTED",
            "BALANCE_EXHAUSTED",
            "REJECTED",
            id="balance",
        ),
        pytest.param(
            429,
            '{"detail":"slow down","error_type":"concurrent_requests_limit"}',
            "RESOURCE_EXHAUSTED",
            "CONCURRENT_REQUESTS_LIMIT",
            "REJECTED",
            id="concurrency",
        ),
        pytest.param(500, '{"detail":"Internal Server Error"}', "INTERNAL", "HTTP_500", "FAILED", id="500"),
        pytest.param(
            503,
            '{"detail":"gone","error_type":"runner_disconnected"}',
            "ABORTED",
            "RUNNER_DISCONNECTED",
            "FAILED",
            id="runner",
        ),
    ],
)
async def test_failures_of_fal(
    gateway: Running, status: int, body: str, code: str, reason: str, delivery: str
) -> None:
    """fal's error answers become the status that the table names."""
    answer = json.dumps({"status": status, "text": body, "content_type": "application/json"})
    failed = await failure_of(gateway.stub.Run(run("emulator/answer", answer)))
    assert (failed.code, failed.info.reason, failed.delivery) == (code, reason, delivery)


async def test_an_edge_page_leaves_the_outcome_unknown(gateway: Running, fal: Fal) -> None:
    """An edge 502 for a paid call is UNKNOWN, and the request is not sent again."""
    fal.will("edge_page", operation="run", status=502)
    failed = await failure_of(gateway.stub.Run(run("emulator/echo")))
    assert (failed.code, failed.info.reason, failed.delivery) == ("UNKNOWN", "OUTCOME_UNKNOWN", "UNKNOWN")
    assert len(fal.received(operation="run")) == 1


@pytest.mark.parametrize("act", ["close_after_body", "reset_before_body"])
async def test_a_cut_leaves_the_outcome_unknown(gateway: Running, fal: Fal, act: str) -> None:
    """A paid call that is cut after bytes left is UNKNOWN, and the request is not sent again."""
    fal.will(act, operation="run")
    failed = await failure_of(gateway.stub.Run(run("emulator/echo")))
    assert (failed.code, failed.info.reason, failed.delivery) == ("UNKNOWN", "OUTCOME_UNKNOWN", "UNKNOWN")
    assert len(fal.received(operation="run")) == 1


async def test_a_cut_answer(gateway: Running, fal: Fal) -> None:
    """A 200 that ends before its Content-Length is UNKNOWN, UPSTREAM_TRUNCATED, with fal's request id."""
    fal.will("cut_body", operation="run", after_bytes=3)
    failed = await failure_of(gateway.stub.Run(run("emulator/echo", '{"long":"enough"}')))
    assert (failed.code, failed.info.reason, failed.delivery) == ("UNKNOWN", "UPSTREAM_TRUNCATED", "ACCEPTED")
    assert failed.info.metadata["request_id"]


async def test_fal_out_of_reach(unused_port: int) -> None:
    """When nothing could be sent the call is UNAVAILABLE, NOT_SENT, with a retry hint."""
    url = f"http://127.0.0.1:{unused_port}"
    async with running_gateway(emulator_url=url) as gateway:
        failed = await failure_of(gateway.stub.Run(run("emulator/echo")))
        assert (failed.code, failed.info.reason) == ("UNAVAILABLE", "UPSTREAM_UNREACHABLE")
        assert failed.delivery == "NOT_SENT"
        assert failed.find(error_details_pb2.RetryInfo)
        assert (await gateway.finished())[0]["attempts"] == 3


@pytest.mark.alone
async def test_cancelling_closes_the_upstream_connection(gateway: Running, fal: Fal) -> None:
    """fal sees the connection closed within 100 ms of the caller's cancel."""
    delays = []
    for _ in range(TRIES):
        fal.reset()
        call = gateway.stub.Run(run("emulator/sleep", '{"seconds": 30}'))
        asyncio.ensure_future(call)  # noqa: RUF006 # the call itself is what is held
        await arrived(fal, "run")
        cancelled_at = time.time()
        call.cancel()
        record = await closed(fal, "run")
        assert record["outcome"] == "client_closed"
        delays.append(record["closed_at"] - cancelled_at)
    assert min(delays) < 0.1
    assert [line["code"] for line in gateway.logged("call.finished")] == ["CANCELLED"] * TRIES


@pytest.mark.alone
async def test_the_callers_deadline(gateway: Running, fal: Fal) -> None:
    """At the deadline the upstream connection is closed and the call record is written within 100 ms."""
    closings, records = [], []
    for _ in range(TRIES):
        fal.reset()
        deadline = time.time() + 0.5
        asked = run("emulator/sleep", '{"seconds": 30}')
        failed = await failure_of(gateway.stub.Run(asked, timeout=0.5))
        assert failed.code == "DEADLINE_EXCEEDED"
        record = await closed(fal, "run")
        assert record["outcome"] == "client_closed"
        closings.append(record["closed_at"] - deadline)
        line = (await gateway.finished(len(closings)))[-1]
        assert line["code"] == "DEADLINE_EXCEEDED"
        records.append(datetime.datetime.fromisoformat(line["timestamp"]).timestamp() - deadline)
    assert min(closings) < 0.1
    assert min(records) < 0.1


async def test_the_start_timeout_follows_the_deadline(gateway: Running, fal: Fal) -> None:
    """fal is told the caller's deadline as start timeout, never below 1 s, under both header names."""
    await gateway.stub.Run(run("emulator/echo"), timeout=40)
    await failure_of(gateway.stub.Run(run("emulator/sleep", '{"seconds": 30}'), timeout=0.9))
    await gateway.stub.Run(run("emulator/echo"))
    asked = run("emulator/echo")
    asked.options.start_timeout.FromMilliseconds(2500)
    await gateway.stub.Run(asked, timeout=40)
    names = ("x-fal-request-start-timeout", "x-fal-request-timeout")
    long, short, none, own = (
        [r["headers"].get(name) for name in names] for r in fal.received(operation="run")
    )
    assert long[0] == long[1]
    assert 30 < float(long[0]) <= 41  # grpc rounds a deadline up on its way
    assert short == ["1", "1"]
    assert none == [None, None]
    assert own == ["2.5", "2.5"]


async def test_options_travel_as_headers(gateway: Running, fal: Fal) -> None:
    """Each CallOption reaches fal as its header, and the key as the only credential."""
    options = v1.CallOptions(runner_hint="warm", disable_fallback=True, store_io=False, tags={"team": "a b"})
    options.output_lifecycle.expiration.FromSeconds(3600)
    options.output_lifecycle.initial_acl.default_decision = v1.AccessDecision.ACCESS_DECISION_FORBID
    await gateway.stub.Run(run("emulator/echo", options=options))
    headers = fal.received(operation="run")[0]["headers"]
    assert headers["x-fal-runner-hint"] == "warm"
    assert headers["x-app-fal-disable-fallback"] == "1"
    assert headers["x-fal-store-io"] == "0"
    assert headers["x-fal-tags"] == "team=a b"
    assert json.loads(headers["x-fal-object-lifecycle-preference"]) == {
        "expiration_duration_seconds": 3600,
        "initial_acl": {"default": "forbid"},
    }
    assert headers["authorization"] == "Key …"
    assert headers["accept-encoding"] == "identity"


async def test_attachments(gateway: Running, fal: Fal) -> None:
    """Strings attachment:NAME become URLs of the uploaded files; everything else stays byte for byte."""
    text = '{"image_url" : "attachment:cat", "attachment:cat":"attachment:cat ", "seed":1e3}'
    picture = v1.Attachment(data=b"\x89PNG not really", content_type="image/png")
    response = await gateway.stub.Run(run("emulator/echo", text, attachments={"cat": picture}))
    url = json.loads(response.output.json)["image_url"]
    assert url.startswith(f"{fal.url}/cdn/")
    assert response.output.json == text.replace('"attachment:cat",', f'"{url}",', 1)
    stored = fal.received(operation="upload_put")[0]
    assert (stored["body_bytes"], stored["headers"]["content-type"]) == (len(picture.data), "image/png")
    assert "authorization" not in stored["headers"]


async def test_undeclared_and_unused_attachments(gateway: Running, fal: Fal) -> None:
    """A name that is used but not declared, or declared but not used, is refused before anything is sent."""
    request = run("emulator/echo", '{"a":"attachment:x"}', attachments={"y": v1.Attachment(data=b"1")})
    failed = await failure_of(gateway.stub.Run(request))
    assert failed.fields == ["attachments['x']", "attachments['y']"]
    assert fal.received() == []


async def test_the_log_of_a_call(gateway: Running) -> None:
    """One line for a finished call and one for the accepted id; never inputs, outputs or keys."""
    response = await gateway.stub.Run(run("emulator/echo", '{"prompt":"a very private wish"}'))
    [accepted] = gateway.logged("request.accepted")
    [finished] = gateway.logged("call.finished")
    assert accepted["request_id"] == finished["request_id"] == response.call.request_id
    assert accepted["call_id"] == finished["call_id"]
    assert (finished["method"], finished["code"], finished["endpoint_id"]) == ("Run", "OK", "emulator/echo")
    assert finished["duration_seconds"] > 0
    assert "private" not in gateway.log_text
    assert KEY not in gateway.log_text


async def arrived(fal: Fal, operation: str, count: int = 1) -> None:
    """Waits until so many requests have reached fal."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while len(await fal.seen(operation=operation)) < count:
            await asyncio.sleep(0.01)


async def closed(fal: Fal, operation: str) -> dict[str, Any]:
    """Waits until the first request's end has been noticed by fal."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while True:
            record = (await fal.seen(operation=operation))[0]
            if record["closed_at"] is not None:
                return record
            await asyncio.sleep(0.01)

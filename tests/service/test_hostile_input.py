"""What callers and fal may send to hurt: it ends in a status, costs little, and shows nothing in the log."""

import asyncio
import time

import grpc
import pytest
from google.protobuf import struct_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.conftest import Fal, Running
from tests.failures import failure_of, messages_and_failure, unpacked
from tests.service.test_run import run

from falrpc import v1


def nested(levels: int) -> bytes:
    """A RunRequest whose Struct is nested so deep that no library here would make it: by hand."""

    def field(number: int, payload: bytes) -> bytes:
        size, length = len(payload), b""
        while size > 127:
            length += bytes([size & 127 | 128])
            size >>= 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + payload

    struct = b""
    for _ in range(levels):
        struct = field(1, field(1, b"a") + field(2, field(5, struct)))
    return field(1, b"a/b") + field(2, field(2, struct))


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"\xff\xff\xff\xff", id="garbage"),
        pytest.param(b"\x0a\x01\xff", id="invalid UTF-8"),
        pytest.param(nested(60), id="nested too deeply"),
    ],
)
@pytest.mark.parametrize("method", ["Run", "Stream", "Upload"])
async def test_a_message_that_is_none(gateway: Running, fal: Fal, method: str, message: bytes) -> None:
    """Bytes that are no message of the method are INVALID_ARGUMENT with details, and a line in the log."""
    path = f"/falrpc.v1.FalService/{method}"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if method == "Run":
            await gateway.channel.unary_unary(path)(message)
        elif method == "Stream":
            async for _ in gateway.channel.unary_stream(path)(message):
                pass
        else:
            await gateway.channel.stream_unary(path)(iter([b"\xff" + message]))
    failed = unpacked(caught.value)
    assert (failed.code, failed.fields, failed.delivery) == ("INVALID_ARGUMENT", ["request"], "NOT_SENT")
    async with asyncio.timeout(20):  # the line follows the status
        while not gateway.logged("call.finished"):
            await asyncio.sleep(0.001)
    assert (await gateway.finished())[-1]["code"] == "INVALID_ARGUMENT"
    assert fal.received() == []


async def test_others_are_served_meanwhile(gateway: Running) -> None:
    """A request that takes long to check does not stop the server: health answers in between."""
    value = struct_pb2.Struct()
    value.update({"n": [2.0**60] * 200_000})
    asked = v1.RunRequest(endpoint_id="emulator/echo", input=v1.Input(object=value))
    health = health_pb2_grpc.HealthStub(gateway.channel)
    checking = asyncio.create_task(failure_of(gateway.stub.Run(asked)))
    waits = []
    while not checking.done():
        started = time.monotonic()
        await health.Check(health_pb2.HealthCheckRequest())
        waits.append(time.monotonic() - started)
    failed = await checking
    assert failed.code == "INVALID_ARGUMENT"
    assert failed.info.metadata["truncated"].endswith(" field violations")
    assert sorted(waits)[len(waits) // 2] < 0.25


async def test_text_of_callers_in_the_log(gateway: Running) -> None:
    """A caller's text is cut before it is logged, and cannot begin a line of its own."""
    endpoint_id = 'x"\n{"event": "forged"}' + "y" * 1_000_000
    await failure_of(gateway.stub.Run(run(endpoint_id)))
    handle = v1.RequestHandle(endpoint_id=endpoint_id, request_id=endpoint_id)
    await failure_of(gateway.stub.Status(v1.StatusRequest(handle=handle)))
    assert len(gateway.log_text) < 5_000
    assert gateway.logged("forged") == []


async def test_text_of_models_in_the_log(gateway: Running) -> None:
    """A model's own error text reaches the caller as the message and stays out of the log."""
    asked = v1.StreamRequest(
        endpoint_id="emulator/events",
        input=v1.Input(json='{"events":[{"error":"about your private prompt"}]}'),
    )
    _, failed = await messages_and_failure(gateway.stub.Stream(asked))
    assert (failed.info.reason, failed.info.domain) == ("STREAM_ERROR", "falrpc")
    assert failed.message == "about your private prompt"
    assert "private" not in gateway.log_text


async def test_urls_in_the_log(gateway: Running, fal: Fal) -> None:
    """A webhook's URL, which may hold a secret, stays out of the log when the exchange fails."""
    fal.will("close_after_body", operation="submit")
    asked = v1.SubmitRequest(endpoint_id="emulator/echo")
    asked.queue.webhook_url = "https://hooks.example.com/?token=very-secret"
    assert (await failure_of(gateway.stub.Submit(asked))).code == "UNKNOWN"
    assert "very-secret" not in gateway.log_text


async def test_long_headers_of_fal(gateway: Running, fal: Fal) -> None:
    """A header of fal's that no client could take as a trailer does not cost the paid answer."""
    units = "1" * 6_000
    fal.will("answer", operation="run", status=200, body="{}", headers={"x-fal-billable-units": units})
    call = gateway.stub.Run(run("emulator/echo"))
    response = await call
    assert response.call.billable_units == units
    assert "x-fal-billable-units" not in dict(await call.trailing_metadata())


async def test_header_injection(gateway: Running, fal: Fal) -> None:
    """Options that travel as headers can't carry line breaks."""
    options = v1.CallOptions(runner_hint="a\r\nAuthorization: Key other:key", tags={"a": "b\r\nx: y"})
    failed = await failure_of(gateway.stub.Run(run("emulator/echo", options=options)))
    assert failed.fields == ["options.runner_hint", "options.tags['a']"]
    assert fal.received() == []

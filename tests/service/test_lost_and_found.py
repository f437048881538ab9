"""Paid answers that are odd, late or hard to follow are delivered all the same, or said to be open."""

import gzip
import time

import pytest
from tests.conftest import Fal, Running, running_gateway
from tests.failures import failure_of, messages_and_failure
from tests.service.raw_server import answering
from tests.service.test_queue_calls import collected, request, submitted
from tests.service.test_run import run
from tests.service.test_stream_calls import stream

from falrpc import v1


async def test_a_large_event(gateway: Running) -> None:
    """A stream's event may be as large as an output; here 9 MB."""
    text = f'{{"data":"{"x" * 9_000_000}"}}'
    call = gateway.stub.Stream(stream("emulator/events", f'{{"events":[{text}]}}'))
    assert [m.event.json async for m in call][1:] == [text]


async def test_the_limit_of_events(emulator_url: str, fal: Fal) -> None:
    """An event past FALRPC_OUTPUT_BYTES_MAX is UNKNOWN, OUTPUT_TOO_LARGE, not a malformed stream."""
    async with running_gateway(emulator_url=emulator_url, output_bytes_max=1_000) as gateway:
        asked = stream("emulator/events", f'{{"events":[{{"n":1}},"{"x" * 2_000}"]}}')
        messages, failed = await messages_and_failure(gateway.stub.Stream(asked))
        assert messages[1].event.json == '{"n":1}'
        assert (failed.code, failed.info.reason) == ("UNKNOWN", "OUTPUT_TOO_LARGE")


@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        pytest.param(gzip.compress(b'{"a":1e3}'), None, "", id="whole"),
        pytest.param(gzip.compress(b'{"a":1e3}')[:-4], "UNKNOWN", "UPSTREAM_TRUNCATED", id="cut"),
        pytest.param(b"not gzip", "UNKNOWN", "UPSTREAM_MALFORMED", id="something else"),
        pytest.param(gzip.compress(b"x" * 5_000), "UNKNOWN", "OUTPUT_TOO_LARGE", id="a bomb"),
    ],
)
async def test_an_encoded_answer(body: bytes, code: str | None, reason: str) -> None:
    """A paid answer in an encoding that nobody asked for is decoded, within the limit of outputs."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n"
    async with (
        answering(head % len(body) + body) as url,
        running_gateway(emulator_url=url, output_bytes_max=1_000) as gateway,
    ):
        call = gateway.stub.Run(run("a/b"))
        if code is None:
            assert (await call).output.json == '{"a":1e3}'
        else:
            failed = await failure_of(call)
            assert (failed.code, failed.info.reason) == (code, reason)


@pytest.mark.parametrize(
    ("event", "is_result"),
    [
        pytest.param('{"progress":0.4}', False, id="may be cut"),
        pytest.param('{"output":"all","partial":false}', True, id="says that it is all"),
    ],
)
async def test_a_stream_without_framing(event: str, is_result: bool) -> None:
    """Where nothing proves that a stream was complete, its last event must say so itself."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    async with (
        answering(head + f"data: {event}\n\n".encode()) as url,
        running_gateway(emulator_url=url) as gateway,
    ):
        if is_result:
            assert [m.event.json async for m in gateway.stub.Stream(stream("a/b"))][1:] == [event]
        else:
            messages, failed = await messages_and_failure(gateway.stub.Stream(stream("a/b")))
            assert messages[1].event.json == event
            assert (failed.code, failed.info.reason) == ("UNKNOWN", "STREAM_TRUNCATED")


async def test_a_passing_outage_while_following(gateway: Running, fal: Fal) -> None:
    """A Subscribe outlives reads that fail in passing, one after the other."""
    fal.will("edge_page", operation="status_stream", status=502, times=None)
    fal.will("edge_page", operation="status", status=503, times=7)
    messages = await collected(
        gateway.stub.Subscribe(v1.SubscribeRequest(submit=request("emulator/echo", '{"a":1}')))
    )
    assert messages[-1].result.output.json == '{"a":1}'


async def test_an_outage_that_lasts(emulator_url: str, fal: Fal) -> None:
    """After FALRPC_POLL_PATIENCE_SECONDS a Subscribe ends UNKNOWN with the handle; attached, UNAVAILABLE."""
    async with running_gateway(emulator_url=emulator_url, poll_patience_seconds=0.5) as gateway:
        fal.will("edge_page", operation="status_stream", status=502, times=None)
        fal.will("edge_page", operation="status", status=502, times=None)
        started = time.monotonic()
        call = gateway.stub.Subscribe(v1.SubscribeRequest(submit=request("emulator/cancellable")))
        messages, failed = await messages_and_failure(call)
        assert 0.5 <= time.monotonic() - started < 20
        assert (failed.code, failed.info.reason, failed.delivery) == (
            "UNKNOWN",
            "OUTCOME_UNKNOWN",
            "ACCEPTED",
        )
        assert failed.info.metadata["request_id"] == messages[0].accepted.request_id
        attached = gateway.stub.Subscribe(v1.SubscribeRequest(attach=messages[0].accepted))
        _, failed = await messages_and_failure(attached)
        assert (failed.code, failed.info.reason) == ("UNAVAILABLE", "UPSTREAM_INTERRUPTED")
        assert fal.received(operation="cancel") == []


@pytest.mark.parametrize("status", [404, 409])
async def test_a_lost_request(gateway: Running, fal: Fal, status: int) -> None:
    """A Subscribe with submit whose result can't be read never says that it may be submitted again."""
    fal.will("answer", operation="result", status=status, body='{"detail":"?"}', times=None)
    call = gateway.stub.Subscribe(v1.SubscribeRequest(submit=request("emulator/echo")))
    _, failed = await messages_and_failure(call)
    assert (failed.code, failed.info.reason, failed.delivery) == ("UNKNOWN", "OUTCOME_UNKNOWN", "ACCEPTED")


async def test_a_result_that_comes_late(gateway: Running, fal: Fal) -> None:
    """A completed request whose result is not there yet is read again."""
    body = '{"detail":"Request is still in progress"}'
    fal.will("answer", operation="result", status=400, body=body, times=2)
    messages = await collected(gateway.stub.Subscribe(v1.SubscribeRequest(submit=request("emulator/echo"))))
    assert messages[-1].result.output.json == "{}"


async def test_heartbeats_before_the_first_answer(gateway: Running, fal: Fal) -> None:
    """A stream that fal is slow to begin is kept alive meanwhile."""
    fal.will("slow", operation="stream", seconds=2.3)
    asked = stream("emulator/events", '{"events":[1]}')
    asked.heartbeat_interval.FromSeconds(1)
    kinds = [m.WhichOneof("kind") async for m in gateway.stub.Stream(asked)]
    assert kinds[0] == "heartbeat"
    assert kinds[-2:] == ["started", "event"]


async def test_submit_tells_its_id_in_trailers(gateway: Running) -> None:
    """The id of a submission is in trailing metadata, too."""
    call = gateway.stub.Submit(request("emulator/echo"))
    handle = (await call).handle
    assert dict(await call.trailing_metadata())["x-fal-request-id"] == handle.request_id
    assert await submitted(gateway, "emulator/echo") != handle

"""Event streams as they come over the wire: cut at every byte, and with what the standard lets pass."""

import asyncio
from typing import Any

import grpc
import pytest
from tests.conftest import running_gateway
from tests.failures import unpacked
from tests.faults.cut_answers import at, cutting
from tests.service.test_stream_calls import stream, workflow
from tests.unit.test_transport import Connection, answer, serving

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-fal-request-id: r-1\r\n"
EVENTS = ('{"n":1,"partial":true}', '{"output":"é\u2028","partial":false}')
STEPS = (
    '{"type":"submit","node_id":"a","app_id":"b/c","request_id":"r-2"}',
    '{"type":"output","output":{"n":1}}',
)
# What fails is what is tested: nobody is given up for it.
UNGUARDED = {"breaker_failures": 1_000_000}


def framed(events: tuple[str, ...], framing: str) -> bytes:
    """A stream of those events: in one chunk for each, or ended by the end of the connection."""
    wire = [f"data: {event}\n\n".encode() for event in events]
    if framing == "chunked":
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in wire)
        return HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    return HEAD + b"connection: close\r\n\r\n" + b"".join(wire)


def whole_lines(wire: bytes) -> int:
    """How many events' data lines lie wholly before a cut."""
    return sum(f"data: {event}\n".encode() in wire for event in EVENTS)


async def told(call: Any) -> tuple[list[Any], str, str]:
    """A stream's messages, its code, and the delivery that a failure names."""
    messages = []
    try:
        async for message in call:
            messages.append(message)
    except grpc.aio.AioRpcError as error:
        failed = unpacked(error)
        return messages, failed.code, failed.delivery
    return messages, "OK", ""


@pytest.mark.parametrize("framing", ["chunked", "none"])
async def test_a_stream_cut_at_every_byte(framing: str) -> None:
    """What arrives is a prefix of what was sent, with every event whose data line came whole before the cut.

    OK only after the event that says it is the last one.
    """
    wire = framed(EVENTS, framing)
    async with cutting(wire) as fal, running_gateway(emulator_url=fal.url, **UNGUARDED) as gateway:
        places = range(len(wire) + 1)
        calls = (gateway.stub.Stream(stream(f"cut/{at(place)}"), timeout=60) for place in places)
        ends = await asyncio.gather(*map(told, calls))
    for place, (messages, code, delivery) in zip(places, ends, strict=True):
        events = [message.event.json for message in messages if message.WhichOneof("kind") == "event"]
        assert tuple(events) == EVENTS[: len(events)], place
        assert len(events) >= whole_lines(wire[:place]), place
        if code == "OK":
            assert tuple(events) == EVENTS, place
        else:
            assert (code, delivery in ("UNKNOWN", "ACCEPTED")) == ("UNKNOWN", True), place
    assert ends[-1][1] == "OK"
    assert len(fal.requests) == len(wire) + 1


@pytest.mark.parametrize("framing", ["chunked", "none"])
async def test_a_workflow_cut_at_every_byte(framing: str) -> None:
    """A workflow's stream is OK only with its output, however it was cut."""
    wire = framed(STEPS, framing)
    async with cutting(wire) as fal, running_gateway(emulator_url=fal.url, **UNGUARDED) as gateway:
        places = range(len(wire) + 1)
        calls = (
            gateway.stub.StreamWorkflow(workflow(f"workflows/cut/{at(place)}"), timeout=60)
            for place in places
        )
        ends = await asyncio.gather(*map(told, calls))
    for place, (messages, code, _) in zip(places, ends, strict=True):
        outputs = [one.output.output.json for one in messages if one.WhichOneof("kind") == "output"]
        assert (code, outputs) in (("OK", ['{"n":1}']), ("UNKNOWN", [])), place
    assert ends[-1][1] == "OK"
    assert len(fal.requests) == len(wire) + 1


@pytest.mark.parametrize("content_type", ["text/event-stream", "Text/Event-Stream; charset=latin-1"])
@pytest.mark.parametrize("piece_bytes", [1, 7, 10_000])
async def test_what_the_standard_lets_pass(content_type: str, piece_bytes: int) -> None:
    """A BOM, ids, heartbeats, named and empty events, and any piece size: exactly the events with data arrive."""
    wire = (
        b"\xef\xbb\xbfdata: " + EVENTS[0].encode() + b"\r\n\r\n"
        b"id: 7\n\n: beat\n\n: beat\n\nevent: ping\n\nretry: 5\r\r"
        b"event: result\rid: 8\rdata: " + EVENTS[1].encode() + b"\r\r: beat\n\n"
    )
    head = HEAD.replace(b"text/event-stream", content_type.encode()) + b"content-length: %d\r\n\r\n" % len(
        wire
    )

    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.write(head)
        for start in range(0, len(wire), piece_bytes):
            await connection.write(wire[start : start + piece_bytes])
            await asyncio.sleep(0)

    async with serving(behave) as fal, running_gateway(emulator_url=fal.url) as gateway:
        messages, code, _ = await told(gateway.stub.Stream(stream("a/b"), timeout=60))
    assert code == "OK"
    assert [one.event.json for one in messages if one.WhichOneof("kind") == "event"] == list(EVENTS)


async def test_bytes_that_are_no_text() -> None:
    """Invalid UTF-8 in an event ends the stream UNKNOWN: it is not replaced."""
    wire = b'data: {"a":"\xff"}\n\n'
    head = HEAD + b"content-length: %d\r\n\r\n" % len(wire)
    async with serving(answer(head + wire)) as fal, running_gateway(emulator_url=fal.url) as gateway:
        messages, code, delivery = await told(gateway.stub.Stream(stream("a/b"), timeout=60))
    assert [one for one in messages if one.WhichOneof("kind") == "event"] == []
    assert (code, delivery) == ("UNKNOWN", "ACCEPTED")

"""A caller who reads slowly or not at all: it is waited for, up to a limit, and nobody else notices."""

import asyncio
import json
import time

import grpc
import pytest
from tests.conftest import Fal, running_gateway
from tests.failures import unpacked
from tests.processes.channels import own_channel
from tests.service.test_leaving import is_idle
from tests.service.test_queue_calls import request
from tests.service.test_run import arrived
from tests.service.test_stream_calls import stream

from falrpc import v1

LONG = 120  # seconds, beyond every limit here


def large_stream(events: int = 400) -> v1.StreamRequest:
    """A stream of more bytes than all buffers on the way hold."""
    return stream("emulator/ticks", f'{{"events":{events},"seconds":0,"bytes":100000}}')


async def test_a_reader_who_stops(emulator_url: str, fal: Fal) -> None:
    """Past FALRPC_STALL_SECONDS the stream ends: the connection to fal is closed, the log says why."""
    async with (
        running_gateway(emulator_url=emulator_url, stall_seconds=0.5) as gateway,
        own_channel(gateway.address) as channel,
    ):
        call = v1.FalServiceStub(channel).Stream(large_stream(), timeout=LONG)
        first = await call.read()
        [line] = await gateway.finished()
        assert (line["code"], line["reason"], line["source"]) == ("UNKNOWN", "READER_STALLED", "caller")
        assert line["request_id"] == first.started.request_id
        await is_idle(fal)
        assert fal.received(operation="stream")[0]["outcome"] == "client_closed"
        # When the caller reads on it gets what was on the way, then the status.
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while (await call.read()) is not grpc.aio.EOF:
                pass
            raise AssertionError("it ended well")
        failed = unpacked(caught.value)
        assert (failed.info.reason, failed.delivery) == ("READER_STALLED", "ACCEPTED")


async def test_a_reader_who_is_slow(emulator_url: str, fal: Fal) -> None:
    """As long as a message is taken now and then, the stream goes on and everything arrives in order."""
    async with (
        running_gateway(emulator_url=emulator_url, stall_seconds=2) as gateway,
        own_channel(gateway.address) as channel,
    ):
        call = v1.FalServiceStub(channel).Stream(large_stream(events=300), timeout=LONG)
        await call.read()
        ticks = []
        started = time.monotonic()
        while (message := await call.read()) is not grpc.aio.EOF:
            ticks.append(json.loads(message.event.json)["tick"])
            await asyncio.sleep(0.01)
        assert ticks == list(range(1, 301))
        assert time.monotonic() - started > 2


async def test_followers_of_one_request(emulator_url: str, fal: Fal) -> None:
    """A follower who does not read keeps nobody from seeing the end of the request they share."""
    async with (
        running_gateway(emulator_url=emulator_url) as gateway,
        own_channel(gateway.address) as channel,
    ):
        handle = (await gateway.stub.Submit(request("emulator/logs", '{"count":2000}'))).handle
        asked = v1.StreamStatusRequest(handle=handle, include_logs=True)
        lazy = v1.FalServiceStub(channel).StreamStatus(asked, timeout=LONG)
        await lazy.read()
        entries = [
            entry.message
            async for message in gateway.stub.StreamStatus(asked, timeout=LONG)
            for entry in message.logs.entries
        ]
        assert len(entries) == len(set(entries)) == 2_000
        lazy.cancel()


async def test_what_waits_for_a_follower_is_bounded(emulator_url: str, fal: Fal) -> None:
    """A follower who does not read is told the newest log entries later, how many were dropped, and the end."""
    count, text = 3_000, "x" * 2_000
    async with (
        running_gateway(emulator_url=emulator_url) as gateway,
        own_channel(gateway.address, **{"http2.bdp_probe": 0}) as channel,  # else grpc itself buffers 4 MB
    ):
        events = [
            {"status": "IN_PROGRESS", "logs": [{"timestamp": f"{n:06}", "message": text}]}
            for n in range(count)
        ]
        events.append({"status": "COMPLETED", "logs": []})
        fal.will(
            "answer",
            operation="status_stream",
            status=200,
            headers={"content-type": "text/event-stream"},
            body="".join(f"data: {json.dumps(event)}\n\n" for event in events),
        )
        handle = (await gateway.stub.Submit(request("emulator/echo"))).handle
        asked = v1.StreamStatusRequest(handle=handle, include_logs=True)
        lazy = v1.FalServiceStub(channel).StreamStatus(asked, timeout=LONG)
        await arrived(fal, "status_stream")
        other = [message async for message in gateway.stub.StreamStatus(asked, timeout=LONG)]
        assert other[-1].status.state == v1.RequestState.REQUEST_STATE_COMPLETED
        messages = [message async for message in lazy]
    assert messages[0].HasField("status")
    assert messages[-1].status.state == v1.RequestState.REQUEST_STATE_COMPLETED
    at = 0
    for batch in (message.logs for message in messages if message.HasField("logs")):
        at += batch.dropped
        numbers = [int(entry.timestamp) for entry in batch.entries]
        assert numbers == list(range(at, at + len(numbers)))
        at += len(numbers)
    assert at == count
    assert sum(message.ByteSize() for message in messages) < 1024 * 1024  # of 6 MB

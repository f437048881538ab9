"""Silent streams behind a proxy with an idle limit: heartbeats keep them alive. A minute is two seconds here."""

import asyncio
import itertools
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from tests.conftest import Fal, Running, running_gateway
from tests.processes.channels import own_channel
from tests.service.test_queue_calls import request
from tests.service.test_stream_calls import stream, workflow
from tests.streams.envoy import running_envoy

from falrpc import v1

IDLE_SECONDS = 2.0  # the proxy's limit, for 60
HEARTBEAT_SECONDS = 0.5  # for 15
SILENCE_SECONDS = 20.0  # for 600
FAL_SECONDS = 60.0  # for the 1,800 that fal itself may be silent
LONG = 100  # seconds, beyond every limit here
PINGED_IDLE_SECONDS = 3.0  # grpc's clients ping once a second at the most
PING_BYTES = 17  # an HTTP/2 frame (RFC 9113, section 6.7)
NO_HEARTBEATS = Duration()
OUTPUT = '{"type":"output","output":{}}'

METHODS = ("Stream", "StreamWorkflow", "StreamStatus", "Subscribe")


@pytest.fixture
async def gateway(emulator_url: str, fal: Fal) -> AsyncIterator[Running]:
    """A gateway whose heartbeats are four to the proxy's limit, as by default."""
    scaled = {"heartbeat_seconds": HEARTBEAT_SECONDS, "stream_idle_seconds": FAL_SECONDS}
    async with running_gateway(emulator_url=emulator_url, **scaled) as one:
        yield one


async def silent_call(stub: Any, method: str, heartbeat: Duration | None) -> AsyncIterable[Any]:
    """Calls a method in a way that it has nothing to say for SILENCE_SECONDS, and then something."""
    match method:
        case "Stream":
            asked: Any = stream("emulator/ticks", f'{{"events":2,"seconds":{SILENCE_SECONDS}}}')
            return stub.Stream(_with(asked, heartbeat), timeout=LONG)
        case "StreamWorkflow":
            # an event, the delay, and another event, of a type that nobody knows
            given = f'{{"events":[{OUTPUT}],"delay":{SILENCE_SECONDS},"end":"no_blank_line"}}'
            asked = workflow("workflows/emulator/replay", given)
            return stub.StreamWorkflow(_with(asked, heartbeat), timeout=LONG)
    submit = request("emulator/sleep", f'{{"seconds":{SILENCE_SECONDS}}}')
    if method == "Subscribe":
        return stub.Subscribe(_with(v1.SubscribeRequest(submit=submit), heartbeat), timeout=LONG)
    handle = (await stub.Submit(submit)).handle
    return stub.StreamStatus(_with(v1.StreamStatusRequest(handle=handle), heartbeat), timeout=LONG)


async def read(call: AsyncIterable[Any]) -> tuple[list[Any], str]:
    """Reads a call to its end: its messages, and its status."""
    messages = []
    try:
        async for message in call:
            messages.append(message)
    except grpc.aio.AioRpcError as error:
        return messages, error.code().name
    return messages, "OK"


def told(messages: list[Any]) -> list[str]:
    """What the messages but for heartbeats say: their kinds, for statuses the state."""
    return [
        v1.RequestState.Name(one.status.state).removeprefix("REQUEST_STATE_") if kind == "status" else kind
        for kind, one in ((message.WhichOneof("kind"), message) for message in messages)
        if kind != "heartbeat"
    ]


async def test_silent_streams_stay_alive(gateway: Running) -> None:
    """A stream that is silent for ten times the proxy's idle limit goes on to its end, and all arrives."""
    async with running_envoy(gateway.address, IDLE_SECONDS) as envoy, own_channel(envoy.address) as channel:
        stub = v1.FalServiceStub(channel)
        calls = [await silent_call(stub, method, None) for method in METHODS]
        ends = dict(zip(METHODS, await asyncio.gather(*map(read, calls)), strict=True))
        assert await envoy.counter("downstream_rq_idle_timeout") == 0
    assert {method: code for method, (_, code) in ends.items()} == dict.fromkeys(METHODS, "OK")
    beats = [sum(m.HasField("heartbeat") for m in messages) for messages, _ in ends.values()]
    assert min(beats) >= SILENCE_SECONDS / IDLE_SECONDS
    assert told(ends["Stream"][0]) == ["started", "event", "event"]
    assert told(ends["StreamWorkflow"][0]) == ["started", "output", "other_json"]
    states = ["IN_PROGRESS", "COMPLETED"]
    assert told(ends["StreamStatus"][0])[-2:] == states
    assert told(ends["Subscribe"][0])[0] == "accepted"
    assert told(ends["Subscribe"][0])[-3:] == [*states, "result"]


async def test_a_stream_before_its_first_message(gateway: Running, fal: Fal) -> None:
    """A stream stays alive while fal has not answered at all: a heartbeat may come before `started`."""
    fal.will("slow", operation="stream", seconds=2 * IDLE_SECONDS)
    asked = stream("emulator/events", '{"events":[1]}')
    async with running_envoy(gateway.address, IDLE_SECONDS) as envoy, own_channel(envoy.address) as channel:
        messages, code = await read(v1.FalServiceStub(channel).Stream(asked, timeout=LONG))
    assert (told(messages), code) == (["started", "event"], "OK")
    assert messages[0].WhichOneof("kind") == "heartbeat"


async def test_without_heartbeats(gateway: Running) -> None:
    """Without heartbeats the proxy cuts the same streams, although HTTP/2 pings reach it all the time."""
    pings = {"keepalive_time_ms": 1, "http2.max_pings_without_data": 0}
    async with (
        running_envoy(gateway.address, PINGED_IDLE_SECONDS) as envoy,
        own_channel(envoy.address, **pings) as channel,
    ):
        stub = v1.FalServiceStub(channel)
        calls = [await silent_call(stub, method, NO_HEARTBEATS) for method in METHODS]
        reading = asyncio.gather(*map(read, calls))
        sizes = []
        while not reading.done():
            sizes.append(await envoy.counter("downstream_cx_rx_bytes_total"))
            await asyncio.sleep(0.05)
        assert await envoy.counter("downstream_rq_idle_timeout") == len(METHODS)
    ends = dict(zip(METHODS, await reading, strict=True))
    assert "OK" not in [code for _, code in ends.values()]
    assert {method: told(messages)[-1] for method, (messages, _) in ends.items()} == {
        "Stream": "event",
        "StreamWorkflow": "output",
        "StreamStatus": "IN_PROGRESS",
        "Subscribe": "IN_PROGRESS",
    }
    growths = [later - earlier for earlier, later in itertools.pairwise(sizes)]
    assert sum(growth // PING_BYTES for growth in growths if growth % PING_BYTES == 0) >= 2


def _with(asked: Any, heartbeat: Duration | None) -> Any:
    """The request, with the heartbeats that it asks for: None for the gateway's own."""
    if heartbeat is not None:
        asked.heartbeat_interval.CopyFrom(heartbeat)
    return asked

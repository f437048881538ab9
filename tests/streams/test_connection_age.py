"""FALRPC_CONNECTION_AGE_SECONDS: connections end by and by, and no call with them."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterable, AsyncIterator

import grpc
from tests.conftest import Fal, running_gateway
from tests.faults.goodbyes import goaway
from tests.service.test_run import run
from tests.service.test_stream_calls import stream

from falrpc import v1

AGE_SECONDS = 1.0
JITTER = 0.1  # grpc's
CLOCK_SECONDS = 0.05  # between grpc's clock and ours
TOLD_SECONDS_MAX = 20.0  # on a busy machine
EVENTS = 8
EVENT_SECONDS = 0.5  # the stream lasts for more than three ages
LONG = 60  # seconds, beyond every limit here


class Relay:
    """Passes on bytes to a gateway, and knows the connections that it has.

    Attributes:
        address: Where it listens.
        opened: How many connections there have been.
        open_numbers: Those that are open, counted from 1 on.
    """

    def __init__(self, upstream: str) -> None:
        self.address = ""
        self.opened = 0
        self.open_numbers: set[int] = set()
        self._host, _, self._port = upstream.rpartition(":")

    async def passes(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until an end closes it."""
        self.opened += 1
        number = self.opened
        self.open_numbers.add(number)
        there_reader, there_writer = await asyncio.open_connection(self._host, int(self._port))
        ways = [
            asyncio.create_task(_copy(reader, there_writer)),
            asyncio.create_task(_copy(there_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.open_numbers.discard(number)
            for way in ways:
                way.cancel()
            for one in (writer, there_writer):
                one.close()


@contextlib.asynccontextmanager
async def running_relay(upstream: str) -> AsyncIterator[Relay]:
    """Runs a relay on a free port."""
    relay = Relay(upstream)
    async with await asyncio.start_server(relay.passes, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        relay.address = f"{host}:{port}"
        yield relay


async def test_an_old_connection_is_told_to_go(emulator_url: str, fal: Fal) -> None:
    """A connection is told GOAWAY at about its age."""
    async with running_gateway(emulator_url=emulator_url, connection_age_seconds=AGE_SECONDS) as gateway:
        opened_at = time.time()
        async with asyncio.timeout(TOLD_SECONDS_MAX):
            told_at = await goaway(gateway.address, asyncio.Event())
        assert told_at - opened_at > AGE_SECONDS * (1 - JITTER) - CLOCK_SECONDS


async def test_without_an_age(emulator_url: str, fal: Fal) -> None:
    """With an age of 0 a connection is never told to go."""
    async with running_gateway(emulator_url=emulator_url, connection_age_seconds=0) as gateway:
        told = asyncio.create_task(goaway(gateway.address, asyncio.Event()))
        done, _ = await asyncio.wait({told}, timeout=2 * AGE_SECONDS)
        assert not done
    await told  # by the gateway's end


async def test_calls_go_on(emulator_url: str, fal: Fal) -> None:
    """A stream ends on the connection on which it began, long past its age; no call beside it fails."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with (
        running_gateway(emulator_url=emulator_url, connection_age_seconds=AGE_SECONDS) as gateway,
        running_relay(gateway.address) as relay,
        grpc.aio.insecure_channel(relay.address, options=options) as channel,
    ):
        stub = v1.FalServiceStub(channel)
        asked = stream("emulator/ticks", f'{{"events":{EVENTS},"seconds":{EVENT_SECONDS}}}')
        call = stub.Stream(asked, timeout=LONG)
        await call.wait_for_connection()
        reading, calls = asyncio.create_task(_ticks(call, relay)), 0
        while not reading.done():
            assert (await stub.Run(run("emulator/echo"), timeout=LONG)).output.json == "{}"
            calls += 1
            await asyncio.sleep(0.01)
        assert await reading == list(range(1, EVENTS + 1))
        assert await call.code() == grpc.StatusCode.OK
        assert calls > relay.opened >= 3


async def _ticks(call: AsyncIterable[v1.StreamResponse], relay: Relay) -> list[int]:
    """Reads the stream; before its last event its connection, the relay's first, is open."""
    ticks: list[int] = []
    async for message in call:
        if message.HasField("event"):
            ticks.append(json.loads(message.event.json)["tick"])
            assert 1 in relay.open_numbers or len(ticks) == EVENTS
    return ticks


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()

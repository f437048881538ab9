"""Upstreams that drip, flood or will not say goodbye: each wait has an end, and the event loop goes on."""

import asyncio
import contextlib
import os
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from tests.conftest import running_gateway
from tests.failures import failure_of
from tests.faults.each_call import CALLS, LONG
from tests.service.test_queue_calls import request
from tests.service.test_run import TRIES, run
from tests.unit.test_transport import Behaviour, Connection, Server, serving

from falrpc import v1
from falrpc_server.emulator.tls import Authority
from falrpc_server.fal_http.transport import Transport

HANDLE = v1.RequestHandle(endpoint_id="a/b", request_id="r-1")
DRIP_SECONDS = 0.05
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10000\r\n\r\n"
LARGE_BYTES = 32 * 1024 * 1024
CLIENT = """
import sys, grpc
from falrpc import v1
channel = grpc.insecure_channel(sys.argv[1], options=[("grpc.max_receive_message_length", 64 << 20)])
print(len(v1.FalServiceStub(channel).Run(v1.RunRequest(endpoint_id="a/b"), timeout=60).output.json))
"""


async def drip(connection: Connection) -> None:
    """Answers with a head, and then a byte at a time."""
    await connection.request()
    await connection.write(HEAD)
    while not connection.writer.transport.is_closing():
        await connection.write(b"1")
        await asyncio.sleep(DRIP_SECONDS)


async def is_left(server: Server) -> None:
    """Waits until the caller has closed all connections."""
    async with asyncio.timeout(20):
        while not all(one.writer.transport.is_closing() for one in server.connections):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("whose", ["caller", "server"])
async def test_bytes_that_drip_until_the_deadline(whose: str) -> None:
    """However steadily bytes drip, a call ends with its deadline, and its connection with it."""
    limits = {"default_deadline_seconds": 0.6 if whose == "server" else LONG}
    timeout = 0.6 if whose == "caller" else None
    async with serving(drip) as fal, running_gateway(emulator_url=fal.url, **limits) as gateway:
        overtime = []
        for _ in range(TRIES):
            started = time.monotonic()
            calls: list[Any] = [
                gateway.stub.Run(run("a/b"), timeout=timeout),
                gateway.stub.Submit(request("a/b"), timeout=timeout),
                gateway.stub.Result(v1.ResultRequest(handle=HANDLE), timeout=timeout),
            ]
            async with asyncio.timeout(LONG / 2):
                failed = await asyncio.gather(*map(failure_of, calls))
            overtime.append(time.monotonic() - started - 0.6)
            assert [one.code for one in failed] == ["DEADLINE_EXCEEDED"] * 3
        assert min(overtime) < 0.25
        await is_left(fal)


@pytest.mark.parametrize("method", ["Submit", "Status", "Cancel"])
async def test_bytes_that_drip_without_a_deadline(method: str) -> None:
    """An exchange that should answer at once is ended by its own limit, however steadily bytes drip."""
    limits = {"exchange_seconds_max": 0.5, "resends_max": 0}
    async with serving(drip) as fal, running_gateway(emulator_url=fal.url, **limits) as gateway:
        started = time.monotonic()
        failed = await failure_of(CALLS[method](gateway.stub))
        assert time.monotonic() - started < 20
        if method == "Submit":
            assert (failed.code, failed.info.reason, failed.delivery) == (
                "UNKNOWN",
                "OUTCOME_UNKNOWN",
                "UNKNOWN",
            )
        else:
            assert failed.code == "UNAVAILABLE"
        assert len(fal.requests) == 1
        await is_left(fal)


async def test_an_output_that_drips_is_waited_for() -> None:
    """An output may take longer than such an exchange: that limit is not for what was paid for."""
    body = b'"0123456789"'

    async def slowly(connection: Connection) -> None:
        await connection.request()
        await connection.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n"
        )
        for n in range(len(body)):
            await connection.write(body[n : n + 1])
            await asyncio.sleep(DRIP_SECONDS)

    async with (
        serving(slowly) as fal,
        running_gateway(emulator_url=fal.url, exchange_seconds_max=0.3) as gateway,
    ):
        assert (await gateway.stub.Run(run("a/b"), timeout=LONG)).output.json == body.decode()
        result = await gateway.stub.Result(v1.ResultRequest(handle=HANDLE), timeout=LONG)
        assert result.output.json == body.decode()


def large_answer(framing: bytes) -> Behaviour:
    """A JSON output of many small values, which takes seconds to parse into Python objects."""
    unit = b'{"a":[1,2.5,"x",null]},' * 1_000
    count = LARGE_BYTES // len(unit)

    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n" + framing)
        await connection.write(b"[")
        for _ in range(count):
            await connection.write(unit)
        await connection.write(b"0]")
        connection.writer.write_eof()
        await connection.until_closed()

    size = b"content-length: %d\r\n\r\n" % (count * len(unit) + 3)
    framing = framing.replace(b"LENGTH", size)
    return behave


@pytest.mark.parametrize("framing", [b"LENGTH", b"connection: close\r\n\r\n"], ids=["content-length", "none"])
async def test_a_large_output_does_not_hold_the_loop(framing: bytes) -> None:
    """While 32 MB of small JSON values pass through, nothing on the event loop waits for long."""
    async with serving(large_answer(framing)) as fal, running_gateway(emulator_url=fal.url) as gateway:
        holds = []
        for _ in range(TRIES):
            async with longest_hold() as hold:
                received_bytes = await received_elsewhere(gateway.address)
            assert received_bytes > LARGE_BYTES * 0.95
            holds.append(hold())
        assert min(holds) < 0.2, holds


async def received_elsewhere(address: str) -> int:
    """Runs the model from another process, whose own work does not count; gives the size of the output."""
    command = [sys.executable, "-c", CLIENT, address]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    client = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
    out, _ = await client.communicate()
    return int(out)


@contextlib.asynccontextmanager
async def longest_hold() -> AsyncIterator[Callable[[], float]]:
    """Measures how long the event loop was held at the worst, in seconds of its thread's processor time.

    That leaves out what others on this machine take, unlike a clock.
    """
    holds = [0.0]

    async def tick() -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0.005)
            now = time.thread_time()
            holds.append(now - last)
            last = now

    ticking = asyncio.create_task(tick())
    try:
        yield lambda: max(holds)
    finally:
        ticking.cancel()
        await asyncio.wait([ticking])


class Rude:
    """A TLS server that answers requests and never takes part in the end of a TLS connection.

    Attributes:
        url: Where it listens.
        is_closed: Set when a client's TCP connection has ended.
    """

    def __init__(self, context: ssl.SSLContext, answer: bytes) -> None:
        self._context, self._answer = context, answer
        self.url = ""
        self.is_closed = asyncio.Event()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._context.wrap_bio(incoming, outgoing, server_side=True)
        received = b""
        step: Callable[[], object] = tls.do_handshake
        try:
            while b"\r\n\r\n" not in received:
                try:
                    done = step()
                    received += done if isinstance(done, bytes) else b""
                    step = lambda: tls.read(65_536)  # noqa: E731
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    incoming.write(await reader.read(65_536))
            tls.write(self._answer)
            writer.write(outgoing.read())
            while await reader.read(65_536):  # the client's goodbye is read, and not answered
                pass
        except ConnectionError:
            pass
        finally:
            self.is_closed.set()
            writer.close()


@contextlib.asynccontextmanager
async def rude(answer: bytes) -> AsyncIterator[tuple[Rude, ssl.SSLContext]]:
    """Runs such a server; gives it with what its client must trust."""
    authority = Authority("127.0.0.1")
    server = Rude(authority.context(), answer)
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    server.url = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    async with listener:
        yield server, ssl.create_default_context(cadata=authority.pem.decode())


@pytest.mark.parametrize("is_whole", [True, False], ids=["idle", "in the middle of an answer"])
async def test_a_peer_that_does_not_say_goodbye(is_whole: bool) -> None:
    """A TLS peer that never answers a goodbye holds up neither a response's end nor the transport's."""
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n" + (b"{}" if is_whole else b"{")
    async with rude(answer) as (server, trusted), asyncio.timeout(10):
        async with Transport(tls=trusted) as transport:
            response = await transport.handle_async_request(httpx.Request("GET", server.url))
            if is_whole:
                assert await response.aread() == b"{}"
            started = time.monotonic()
            await response.aclose()
        assert time.monotonic() - started < 5
        await server.is_closed.wait()
        assert time.monotonic() - started < 5

"""Heads of answers as nobody should send them: long lines, doubled lengths, interim answers, byte by byte."""

import asyncio
import time
import tracemalloc

import pytest
from tests.conftest import running_gateway
from tests.failures import failure_of
from tests.service.test_queue_calls import request
from tests.service.test_run import run
from tests.unit.test_transport import Behaviour, Connection, answer, serving

from falrpc import v1

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
HANDLE = v1.RequestHandle(endpoint_id="a/b", request_id="r-1")


def with_headers(*lines: bytes) -> bytes:
    return OK.replace(b"\r\n", b"\r\n" + b"".join(line + b"\r\n" for line in lines), 1)


@pytest.mark.parametrize("size", [1_000, 15 * 1024])
async def test_long_header_lines(size: int) -> None:
    """A header line as long as fal allows its apps does not cost the paid answer."""
    head = with_headers(b"x-fal-runner-hints: " + b"h" * size)
    async with serving(answer(head)) as fal, running_gateway(emulator_url=fal.url) as gateway:
        assert (await gateway.stub.Run(run("a/b"))).output.json == "{}"


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(with_headers(b"x: " + b"h" * 20 * 1024), id="line-too-long"),
        pytest.param(with_headers(b"h" * 20 * 1024 + b": x"), id="name-too-long"),
        pytest.param(b"HTTP/1.1 200 " + b"O" * 20 * 1024 + OK[15:], id="reason-too-long"),
        pytest.param(with_headers(b"content-length: 1"), id="two-lengths"),
        pytest.param(OK.replace(b"length: 2", b"length: 2, 1"), id="two-lengths-in-one"),
        pytest.param(OK.replace(b"length: 2", b"length: -2"), id="negative-length"),
        pytest.param(OK.replace(b"length: 2", b"length: two"), id="length-in-letters"),
        pytest.param(OK.replace(b"length: 2", b"length: " + b"9" * 400), id="length-without-end"),
        pytest.param(with_headers(b"transfer-encoding: chunked"), id="length-and-chunks"),
        pytest.param(with_headers(b"no colon"), id="no-colon"),
        pytest.param(with_headers(b"a\x00b: c"), id="nul-in-a-name"),
        pytest.param(OK.replace(b"200", b"0x2"), id="status-in-letters"),
        pytest.param(OK.replace(b"HTTP/1.1", b"HTTP/9.9"), id="another-http"),
        pytest.param(bytes(range(256)) * 64, id="bytes"),
        pytest.param(b"\r\n" * 10 + b"{}", id="no-head"),
    ],
)
async def test_heads_that_are_none(head: bytes) -> None:
    """A head that could be read in two ways, or in none, leaves a paid call's outcome unknown; it is sent once."""
    async with serving(answer(head)) as fal, running_gateway(emulator_url=fal.url) as gateway:
        for call in (gateway.stub.Run(run("a/b")), gateway.stub.Submit(request("a/b"))):
            failed = await failure_of(call)
            assert (failed.code, failed.info.reason) == ("UNKNOWN", "OUTCOME_UNKNOWN")
            assert failed.delivery == "UNKNOWN"
        assert len(fal.requests) == 2


@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early\r\nlink: </a>\r\n\r\n"]
)
async def test_interim_answers(interim: bytes) -> None:
    """Interim answers, one or a thousand, are passed over: the final one counts."""
    for count in (1, 1_000):
        async with (
            serving(answer(interim * count, OK)) as fal,
            running_gateway(emulator_url=fal.url) as gateway,
        ):
            assert (await gateway.stub.Run(run("a/b"), timeout=60)).output.json == "{}"
            assert len(fal.requests) == 1


async def test_interim_answers_without_end() -> None:
    """Interim answers that never stop end with the deadline, in bounded memory, and others are served."""
    interim = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 1_000
    flooding: list[Connection] = []

    async def flood(connection: Connection) -> None:
        sent = await connection.request()
        if b"/calm/" in sent.partition(b"\r\n")[0]:
            await connection.write(OK)
            return
        flooding.append(connection)
        while True:
            await connection.write(interim)

    async with serving(flood) as fal, running_gateway(emulator_url=fal.url) as gateway:
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            started = time.monotonic()
            flooded = asyncio.create_task(failure_of(gateway.stub.Run(run("a/b"), timeout=1.5)))
            assert (await gateway.stub.Run(run("a/calm/c"), timeout=60)).output.json == "{}"
            failed = await flooded
            seconds = time.monotonic() - started
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert failed.code == "DEADLINE_EXCEEDED"
        assert seconds < 20
        assert peak - before < 32 * 1024 * 1024
        async with asyncio.timeout(20):
            await flooding[0].is_closed.wait()


def by_bytes(data: bytes, seconds: float) -> Behaviour:
    async def behave(connection: Connection) -> None:
        await connection.request()
        for n in range(len(data)):
            await connection.write(data[n : n + 1])
            await asyncio.sleep(seconds)

    return behave


async def test_a_head_byte_by_byte() -> None:
    """A whole answer that comes at a byte in 10 ms is an answer."""
    async with serving(by_bytes(OK, 0.01)) as fal, running_gateway(emulator_url=fal.url) as gateway:
        assert (await gateway.stub.Run(run("a/b"), timeout=60)).output.json == "{}"


async def test_a_head_without_end() -> None:
    """A head that goes on byte by byte ends with the caller's deadline, and its connection with it."""
    head = with_headers(*(b"x-%d: y" % n for n in range(1_000)))
    async with serving(by_bytes(head, 0.01)) as fal, running_gateway(emulator_url=fal.url) as gateway:
        started = time.monotonic()
        failed = await failure_of(gateway.stub.Run(run("a/b"), timeout=0.5))
        assert failed.code == "DEADLINE_EXCEEDED"
        assert time.monotonic() - started < 10
        async with asyncio.timeout(20):
            while not fal.connections[0].writer.transport.is_closing():
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("pause_seconds", [0.0, 0.2], ids=["at once", "while idle"])
async def test_an_answer_that_nobody_asked_for(pause_seconds: float) -> None:
    """A second answer to one request is never given to the next caller."""
    stray = OK.replace(b"{}", b"[]")

    async def behave(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.write(OK if pause_seconds else OK + stray)
            if pause_seconds:
                await asyncio.sleep(pause_seconds)
                await connection.write(stray)

    async with serving(behave) as fal, running_gateway(emulator_url=fal.url) as gateway:
        for _ in range(3):
            assert (await gateway.stub.Run(run("a/b"), timeout=60)).output.json == "{}"
            await asyncio.sleep(2 * pause_seconds)
        assert len(fal.requests) == 3

"""Kept-alive connections that fal has given up: what is sent on them is sent once, or again for good reason."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.conftest import Running, running_gateway
from tests.faults.each_call import CALLS, LONG, code_of, failure_of_any
from tests.service.test_run import run
from tests.unit.test_transport import Connection, Server, serving

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
STATUS = b'{"status":"COMPLETED","request_id":"r-1"}'


async def one_answer_each(connection: Connection) -> None:
    """Answers the first request on a connection; reads the second one whole, and closes without an answer."""
    await connection.request()
    await connection.write(OK % (len(STATUS), STATUS))
    await connection.request()


@pytest.fixture
async def fal() -> AsyncIterator[Server]:
    async with serving(one_answer_each) as server:
        yield server


@pytest.mark.parametrize("method", ["Run", "Submit", "Stream", "StreamWorkflow", "Subscribe"])
async def test_paid_calls(fal: Server, method: str) -> None:
    """A paid request on a dying connection is sent once, and its outcome is unknown."""
    async with running_gateway(emulator_url=fal.url) as gateway:
        await warmed_up(gateway)
        failed = await failure_of_any(CALLS[method](gateway.stub))
        assert (failed.code, failed.info.reason, failed.delivery) == ("UNKNOWN", "OUTCOME_UNKNOWN", "UNKNOWN")
        assert (len(fal.requests), len(fal.connections)) == (2, 1)


@pytest.mark.parametrize("method", ["Status", "Result", "Cancel"])
async def test_others_are_not_repeated_by_the_engine(fal: Server, method: str) -> None:
    """Without resends of ours, a request on a dying connection is sent once, whatever its method."""
    async with running_gateway(emulator_url=fal.url, resends_max=0) as gateway:
        await warmed_up(gateway)
        assert (await failure_of_any(CALLS[method](gateway.stub))).code == "UNAVAILABLE"
        assert (len(fal.requests), len(fal.connections)) == (2, 1)


@pytest.mark.parametrize("method", ["Status", "Result"])
async def test_reads_are_repeated_by_us(fal: Server, method: str) -> None:
    """With resends, a read that met a dying connection is sent again on a fresh one, and counted."""
    async with running_gateway(emulator_url=fal.url) as gateway:
        await warmed_up(gateway)
        assert await code_of(CALLS[method](gateway.stub)) == "OK"
        assert (len(fal.requests), len(fal.connections)) == (3, 2)
        assert gateway.logged("call.finished")[-1]["attempts"] == 2


async def test_idle_connections_are_let_go(fal: Server) -> None:
    """A connection that was idle for longer than the limit is not used again."""
    async with running_gateway(emulator_url=fal.url, keepalive_seconds=0.2) as gateway:
        await warmed_up(gateway)
        await asyncio.sleep(0.5)
        assert await code_of(gateway.stub.Run(run("a/b"), timeout=LONG)) == "OK"
        assert (len(fal.requests), len(fal.connections)) == (2, 2)


async def warmed_up(gateway: Running) -> None:
    """Makes the gateway's first connection, which then is idle."""
    assert await code_of(gateway.stub.Run(run("a/b"), timeout=LONG)) == "OK"

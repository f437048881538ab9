"""Calls whose request comes late, in part or never: nobody holds anything with it whom nobody knows."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hyperframe.frame import DataFrame, HeadersFrame
from tests.conftest import Fal, Running
from tests.failures import failure_of
from tests.security.frames import Connection, headers
from tests.security.guarded import Files, guarded_gateway
from tests.service.test_run import run

from falrpc_server.access.rules import METHODS
from falrpc_server.interceptors import adapter

UNAUTHENTICATED, INVALID_ARGUMENT = "16", "3"
SECONDS_MAX = 20.0
CALLS = 16


def begin(connection: Connection, stream: int, method: str, data: bytes = b"") -> None:
    """Begins a call whose request is never whole: it announces 1 MiB."""
    fields = headers(f"/falrpc.v1.FalService/{method}")
    announced = (
        DataFrame(stream, data=b"\0" + (1024 * 1024).to_bytes(4, "big") + data).serialize() if data else b""
    )
    connection.send(connection.head(stream, fields) + announced)


def statuses(connection: Connection) -> list[str]:
    """The statuses that have come."""
    frames = [frame for frame in connection.frames if isinstance(frame, HeadersFrame)]
    found = [dict(frame.fields).get("grpc-status") for frame in frames]
    return [status for status in found if status]


async def has(connection: Connection, count: int) -> list[str]:
    """Waits for so many statuses."""
    await asyncio.to_thread(connection.wait, lambda: len(statuses(connection)) >= count, SECONDS_MAX)
    return statuses(connection)


def port_of(gateway: Running) -> int:
    return int(gateway.address.rpartition(":")[2])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("data", [b"", b"x" * 10_000], ids=["no byte of it", "a part of it"])
async def test_strangers(emulator_url: str, fal: Fal, tmp_path: Path, method: str, data: bytes) -> None:
    """A caller without a credential is told so before its request has come, and is held no longer."""
    files = Files(tmp_path)
    tokens = files.tokens({"a": "token-of-a-known-caller"})
    async with guarded_gateway(emulator_url, auth=("tokens",), tokens_file=tokens) as gateway:
        with Connection(port_of(gateway)) as connection:
            for number in range(CALLS):
                begin(connection, 2 * number + 1, method, data)
            assert await has(connection, CALLS) == [UNAUTHENTICATED] * CALLS
        assert len(await gateway.finished(CALLS)) == CALLS
    assert fal.received() == []


async def test_they_count(emulator_url: str, fal: Fal) -> None:
    """A call whose request has not come takes its place, and gives it back when its caller goes."""
    async with guarded_gateway(emulator_url, calls_in_flight_max=2) as gateway:
        with Connection(port_of(gateway)) as connection:
            for number in range(2):
                begin(connection, 2 * number + 1, "Run")
            await in_flight(gateway, 2)
            failed = await failure_of(gateway.stub.Run(run("emulator/echo"), timeout=30))
            assert (failed.code, failed.info.reason) == ("RESOURCE_EXHAUSTED", "SERVER_BUSY")
        await in_flight(gateway, 0)
        await gateway.stub.Run(run("emulator/echo"), timeout=30)


@pytest.mark.parametrize("method", ["Run", "Status", "Stream", "Subscribe"])
async def test_they_end(emulator_url: str, fal: Fal, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """A request that does not come in time ends its call, INVALID_ARGUMENT."""
    monkeypatch.setattr(adapter, "REQUEST_SECONDS_MAX", 0.2)
    async with guarded_gateway(emulator_url) as gateway:
        with Connection(port_of(gateway)) as connection:
            begin(connection, 1, method, b"x")
            assert await has(connection, 1) == [INVALID_ARGUMENT]
    assert fal.received() == []


async def test_no_request(gateway: Running, fal: Fal) -> None:
    """A call that ends before its one request is INVALID_ARGUMENT."""
    with Connection(port_of(gateway)) as connection:
        connection.send(connection.head(1, headers("/falrpc.v1.FalService/Run"), "END_HEADERS", "END_STREAM"))
        assert await has(connection, 1) == [INVALID_ARGUMENT]
    assert fal.received() == []


async def in_flight(gateway: Running, count: int) -> None:
    """Waits until so many calls are in flight."""
    calls: Any = gateway.gateway._calls
    async with asyncio.timeout(SECONDS_MAX):
        while len(calls) != count:
            await asyncio.sleep(0.01)

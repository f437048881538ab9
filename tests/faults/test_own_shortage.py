"""Connections to fal that cannot be had, or must not be used: what is ours is not taken for fal's failure."""

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
from google.rpc import error_details_pb2
from tests.conftest import Fal, Running, running_gateway
from tests.faults.each_call import CALLS, LONG, failure_of_any
from tests.service.test_run import run
from tests.unit.test_transport import Connection, serving

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
KEEPALIVE_SECONDS = 1.0


@contextlib.contextmanager
def no_files_left() -> Iterator[None]:
    """Within it this process can open no file, and so no connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as taken:
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        taken.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        with contextlib.suppress(OSError):
            while True:
                taken.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        yield


@pytest.mark.parametrize("method", ["Run", "Submit", "Stream", "StreamWorkflow", "Subscribe", "Status"])
async def test_no_file_left(emulator_url: str, fal: Fal, method: str) -> None:
    """Without a file for a connection a call ends RESOURCE_EXHAUSTED, unsent; fal's host is not blamed for it."""
    async with running_gateway(emulator_url=emulator_url, breaker_failures=1) as gateway:
        await gateway.channel.channel_ready()
        await fail_for_want_of_files(gateway, method)
        assert fal.received() == []
        assert (await gateway.stub.Run(run("emulator/echo"), timeout=LONG)).output.json == "{}"


@pytest.mark.parametrize("is_known", [False, True], ids=["never looked up", "looked up before"])
async def test_no_file_left_for_a_name(
    emulator_url: str, fal: Fal, monkeypatch: pytest.MonkeyPatch, is_known: bool
) -> None:
    """It is the same for a name: the system can't read where names are written, and says that there is none."""
    url = emulator_url.replace("127.0.0.1", "localhost")
    async with running_gateway(emulator_url=url, breaker_failures=1, keepalive_seconds=0.01) as gateway:
        await gateway.channel.channel_ready()
        if is_known:
            await gateway.stub.Run(run("emulator/echo"), timeout=LONG)
            await asyncio.sleep(0.05)  # its connection is too old then
        with monkeypatch.context() as patched:
            patched.setattr(socket, "getaddrinfo", no_name)
            await fail_for_want_of_files(gateway, "Run")
        assert len(fal.received()) == int(is_known)
        assert (await gateway.stub.Run(run("emulator/echo"), timeout=LONG)).output.json == "{}"


def no_name(*_: Any, **__: Any) -> NoReturn:
    """What glibc says when it can't open its files."""
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


async def fail_for_want_of_files(gateway: Running, method: str) -> None:
    """Makes calls that find no file left, and checks what they are told."""
    with no_files_left():
        for _ in range(3):
            failed = await failure_of_any(CALLS[method](gateway.stub))
            assert (failed.code, failed.info.reason) == ("RESOURCE_EXHAUSTED", "UPSTREAM_BUSY")
            assert method == "Status" or failed.delivery == "NOT_SENT"
            assert failed.find(error_details_pb2.RetryInfo) is not None
    assert gateway.logged("fal.noticed") == []


async def test_bytes_behind_a_connection_that_is_too_old() -> None:
    """Bytes that came unasked are not the next call's answer, though an older connection is first in the pool.

    The pool looks for old connections once in a while only: the first calls leave it two that are too old,
    which it passes over, and one on which an answer came that nobody asked for.
    """
    delays = [0.0, 0.3, 1.1]  # seconds, so that the pool's look at 1.0 finds the second one still good
    spoilt = asyncio.Event()
    numbers = iter(range(1_000))

    async def behave(connection: Connection) -> None:
        while True:
            await connection.request()
            number = next(numbers)
            own = b'{"n":%d}' % number
            await asyncio.sleep(delays[number] if number < len(delays) else 0)
            await connection.write(ANSWER % (len(own), own))
            if number == len(delays) - 1:
                await asyncio.sleep(0.1)
                await connection.write(ANSWER % (13, b'{"whose":"?"}'))
                spoilt.set()

    settings = {"keepalive_seconds": KEEPALIVE_SECONDS}
    async with serving(behave) as fal, running_gateway(emulator_url=fal.url, **settings) as gateway:
        first = (gateway.stub.Run(run("a/b"), timeout=LONG) for _ in delays)
        await asyncio.gather(*first)
        async with asyncio.timeout(LONG):
            await spoilt.wait()
        await asyncio.sleep(0.25)  # until the second one is too old, and before the third one is
        response = await gateway.stub.Run(run("a/b"), timeout=LONG)
        assert response.output.json == '{"n":3}'
        assert len(fal.requests) == 4

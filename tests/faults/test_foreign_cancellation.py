"""Exceptions from inside the HTTP engine that are nobody's cancel and no failure of fal's."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from tests.conftest import KEY, Fal, Running
from tests.failures import failure_of, messages_and_failure
from tests.faults.each_call import CALLS, failure_of_any
from tests.service.test_leaving import are_gone, is_idle, tasks
from tests.service.test_run import TRIES, run
from tests.service.test_stream_calls import stream

CANARY = "canary-5d1e77"
PAID = ("Run", "Submit", "Stream", "StreamWorkflow", "Subscribe")


async def cancelled_inside(*_: object, **__: object) -> None:
    """Awaits a task that somebody else cancelled."""
    inner = asyncio.ensure_future(asyncio.sleep(3_600))
    inner.cancel()
    await inner


async def raises_canary(*_: object, **__: object) -> None:
    raise RuntimeError(f"{CANARY} {KEY}")


@pytest.mark.spills  # a bug's text goes to the log
@pytest.mark.parametrize("fault", [cancelled_inside, raises_canary])
@pytest.mark.parametrize("method", CALLS)
async def test_before_the_request(
    gateway: Running, fal: Fal, monkeypatch: pytest.MonkeyPatch, method: str, fault: Callable[..., Any]
) -> None:
    """An exception from the engine ends any call INTERNAL at once; a paid one whose bytes stayed is NOT_SENT."""
    monkeypatch.setattr(aiohttp.TCPConnector, "connect", fault)
    started = time.monotonic()
    told = await failure_of_any(CALLS[method](gateway.stub))
    assert time.monotonic() - started < 20  # its deadline is a minute
    assert (told.code, told.info.reason) == ("INTERNAL", "INTERNAL_ERROR")
    if method in PAID:
        assert told.delivery == "NOT_SENT"
    assert CANARY not in f"{told.message}{told.details}"
    assert fal.received() == []
    [line] = gateway.logged("call.failed")
    assert line["call_id"] == told.info.metadata["call_id"]


@pytest.mark.spills  # a bug's text goes to the log
@pytest.mark.parametrize("fault", [cancelled_inside, raises_canary])
@pytest.mark.parametrize("method", ["Run", "Submit"])
async def test_after_the_request(
    gateway: Running, fal: Fal, monkeypatch: pytest.MonkeyPatch, method: str, fault: Callable[..., Any]
) -> None:
    """An exception while the answer is read ends a paid call INTERNAL, and it is not said to be unsent."""
    before = tasks()
    monkeypatch.setattr(aiohttp.StreamReader, "readany", fault)
    told = await failure_of_any(CALLS[method](gateway.stub))
    assert (told.code, told.info.reason, told.delivery) == ("INTERNAL", "INTERNAL_ERROR", "UNKNOWN")
    assert CANARY not in f"{told.message}{told.details}"
    assert len(fal.received()) == 1
    monkeypatch.undo()
    assert (await gateway.stub.Run(run("emulator/echo"))).output.json == "{}"
    await are_gone(before)
    await is_idle(fal)


async def test_in_the_middle_of_a_stream(gateway: Running, fal: Fal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that breaks inside the engine ends INTERNAL after the events that came."""
    real = aiohttp.StreamReader.readany
    came: list[bytes] = []

    async def readany(reader: aiohttp.StreamReader) -> bytes:
        if came:
            await cancelled_inside()
        came.append(await real(reader))
        return came[-1]

    monkeypatch.setattr(aiohttp.StreamReader, "readany", readany)
    asked = stream("emulator/events", '{"events":[{"n":1},{"n":2}],"delay":1}')
    messages, told = await messages_and_failure(gateway.stub.Stream(asked, timeout=60))
    assert messages[-1].event.json == '{"n":1}'
    assert (told.code, told.delivery) == ("INTERNAL", "ACCEPTED")
    monkeypatch.undo()
    await is_idle(fal)


@pytest.mark.alone
async def test_how_soon(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancellation from inside the engine is told to the caller within 100 ms."""
    monkeypatch.setattr(aiohttp.TCPConnector, "connect", cancelled_inside)
    delays = []
    for _ in range(TRIES):
        started = time.monotonic()
        await failure_of(gateway.stub.Run(run("emulator/echo"), timeout=60))
        delays.append(time.monotonic() - started)
    assert min(delays) < 0.1

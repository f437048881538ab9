"""Calls of all kinds, many of them cancelled, for a while: what the gateway holds is the same afterwards.

It lasts SOAK_SECONDS for each event loop, after a warm-up; `make soak` sets a long time.
"""

import asyncio
import os
import random
import secrets
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from tests.conftest import Fal
from tests.faults.history import History
from tests.faults.leaks import FILES_SLACK, fal_is_idle
from tests.faults.ways import WAYS, Caller, Way, unique
from tests.processes.gateway import Figures, Gateway, served
from tests.service.test_run import WAIT_SECONDS_MAX, run
from tests.service.test_stream_calls import stream

from falrpc import v1

pytestmark = pytest.mark.alone

SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "10"))
WARM_UP_CALLS = 6_000
WARM_UP_SECONDS = 5.0
WARM_UP_SECONDS_MAX = 90.0
AT_ONCE = 40
CALLS_PER_SECOND_MIN = 30
GROWTH_MAX = 0.05
GRPC_BYTES = 80
"""What grpc itself keeps for ever of a call that is cancelled at an odd moment (grpc/grpc#43360): about as much
as a server without any of our code does (docs/decisions/0009-a-leak-of-grpc.md)."""
THREADS_SLACK = 2  # grpc keeps a few, more or less, for work that may come
CALLS_AFTER = 20
CANCELLED_SHARE = 0.7
WHEN_SECONDS = (0.001, 0.05)
REST_SECONDS = 1.5  # then idle connections are closed
BETWEEN_SECONDS = 1.0
MEASURES = 3
"""How often memory is measured, with a few calls in between: the allocator keeps more or less each time, so
the one in the middle counts."""


async def _hanging(_: Caller) -> v1.StreamRequest:
    return stream("emulator/events", unique('"events":[1],"end":"hang"'))


HANGING = Way("Stream without an end", "Stream", _hanging, 0)
MIXED = [*(way for way in WAYS if way.is_plain), HANGING]


@pytest.fixture(params=["auto", "asyncio"])
def gateway(request: pytest.FixtureRequest, emulator_url: str) -> Iterator[Gateway]:
    with served(
        emulator_url, loop=request.param, keepalive_seconds="0.5", heartbeat_seconds="0.02"
    ) as gateway:
        yield gateway


@pytest.mark.timeout(SOAK_SECONDS + WARM_UP_SECONDS_MAX + 120)
async def test_it_holds_no_more_than_before(gateway: Gateway, fal: Fal) -> None:
    """After mixed and cancelled calls memory is back within 5 %, but for what grpc itself keeps of cancelled
    ones; files, threads and tasks are as before."""
    seed = secrets.randbelow(1_000_000)
    choice = random.Random(seed)
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        load = Load(v1.FalServiceStub(channel), fal, choice)
        await warmed_up(load)
        before = await at_rest(gateway, load)
        load.calls = load.cancelled = 0
        seconds = await load.run(SOAK_SECONDS)
        calls, cancelled = load.calls, load.cancelled
        after = await at_rest(gateway, load)
        for _ in range(CALLS_AFTER):
            assert (await load.stub.Run(run("emulator/echo", unique()))).output.json
    figures = (
        f"seed {seed}: {calls} calls, {cancelled} of them cancelled, in {seconds:.0f} s; "
        f"before: {before}; after: {after}; memory {after.rss_bytes / before.rss_bytes - 1:+.1%}; {gateway.codes}"
    )
    print(figures)
    assert calls / seconds >= CALLS_PER_SECOND_MIN, f"too few calls to prove anything: {figures}"
    assert cancelled / seconds >= CALLS_PER_SECOND_MIN / 3, f"too few were cancelled: {figures}"
    assert after.rss_bytes <= before.rss_bytes * (1 + GROWTH_MAX) + cancelled * GRPC_BYTES, figures
    assert abs(after.files - before.files) <= FILES_SLACK, figures
    assert after.threads <= before.threads + THREADS_SLACK, figures
    assert after.tasks == before.tasks, figures


class Load:
    """Callers that keep calling. Most cancel their calls at a random moment."""

    def __init__(self, stub: Any, fal: Fal, choice: random.Random) -> None:
        self.stub = stub
        self.calls = 0
        self.cancelled = 0
        self.fal = fal
        self._choice = choice

    async def run(self, seconds: float) -> float:
        """Calls for that long. Returns how long it took until the last call had ended."""
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._call_until(started + seconds))
        return time.monotonic() - started

    async def _call_until(self, end: float) -> None:
        while time.monotonic() < end:
            await self._call(self._choice.choice(MIXED))

    async def _call(self, way: Way) -> None:
        history = History()  # a new one each time: a soak is too long to keep it
        caller = Caller(self.stub, history, self.fal)
        _, call, reading = caller.begin(way.method, await way.ask(caller))
        if way is HANGING or self._choice.random() < CANCELLED_SHARE:
            await asyncio.wait({reading}, timeout=self._choice.uniform(*WHEN_SECONDS))
            self.cancelled += call.cancel()
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            await reading
        self.calls += len(history.calls)
        allowed = {"OK", "CANCELLED", way.code}
        assert {told.code for told in history.calls} <= allowed, history.calls


async def warmed_up(load: Load) -> None:
    """Calls until all that is kept for the next call is there."""
    started = time.monotonic()
    while load.calls < WARM_UP_CALLS:
        await load.run(WARM_UP_SECONDS)
        assert time.monotonic() - started < WARM_UP_SECONDS_MAX, f"only {load.calls} calls to warm up"


async def at_rest(gateway: Gateway, load: Load) -> Figures:
    """What the gateway holds when nobody calls."""
    figures = []
    for _ in range(MEASURES):
        await load.run(BETWEEN_SECONDS)
        await fal_is_idle(load.fal)
        await asyncio.sleep(REST_SECONDS)
        figures.append(await asyncio.to_thread(gateway.figures))
    return sorted(figures, key=lambda one: one.rss_bytes)[MEASURES // 2]

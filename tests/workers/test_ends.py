"""How several workers end: together, in good order or at once, and never as orphans."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator

import pytest
from tests.conftest import Fal
from tests.faults.calls_in_flight import CallsInFlight, marked
from tests.faults.processes import GatewayProcess, gateway_process, unix_seconds
from tests.processes.channels import own_channels
from tests.service.test_run import arrived, run
from tests.workers.running import LONG, is_running, pids

WORKERS = 3
CALLS = 24
SHORT_SECONDS = 1.5  # of calls that may finish
AT_ONCE_SECONDS_MAX = 20.0  # less than the calls would take


@contextlib.asynccontextmanager
async def under_load(
    emulator_url: str, fal: Fal, seconds: float
) -> AsyncIterator[tuple[GatewayProcess, CallsInFlight]]:
    """Workers with calls in flight, on connections of their own, that take so long."""
    async with (
        gateway_process(
            emulator_url, workers=WORKERS, drain_delay_seconds=0.5, drain_seconds=LONG
        ) as gateway,
        own_channels(gateway.address, CALLS) as channels,
    ):
        load = CallsInFlight(channels)
        for _ in range(CALLS):
            load.begin("Run", run("emulator/sleep", marked(f'"seconds":{seconds}')))
        await arrived(fal, "run", CALLS)
        yield gateway, load


def all_processes(gateway: GatewayProcess) -> list[int]:
    return [gateway.pid, *pids(gateway).values()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_all_drain_together(emulator_url: str, fal: Fal, number: signal.Signals) -> None:
    """A signal to the supervisor: all workers drain at the same time, calls in flight finish, exit code 0."""
    async with under_load(emulator_url, fal, SHORT_SECONDS) as (gateway, load):
        gateway.send(number)
        assert {call.code for call in await load.ended()} == {"OK"}
        assert await gateway.ended() == 0
    draining = [unix_seconds(line) for line in gateway.logged("server.draining")]
    assert len(draining) == WORKERS + 1
    assert max(draining) - min(draining) < SHORT_SECONDS
    assert "worker" not in gateway.logged("server.draining")[0]
    assert "worker" not in gateway.logged()[-1]
    assert gateway.logged()[-1]["event"] == "server.stopped"
    assert {line["exit_code"] for line in gateway.logged("worker.ended")} == {0}
    assert len(gateway.logged("worker.started")) == WORKERS
    assert gateway.errors() == ""


async def test_a_second_signal(emulator_url: str, fal: Fal) -> None:
    """A second SIGTERM to the supervisor stops all workers at once; paid calls in flight end UNKNOWN."""
    async with under_load(emulator_url, fal, LONG) as (gateway, load):
        gateway.send(signal.SIGTERM)
        await gateway.has_logged("server.draining", WORKERS + 1)
        begun = time.monotonic()
        gateway.send(signal.SIGTERM)
        told = await load.ended()
        assert await gateway.ended() == 0
        assert time.monotonic() - begun < AT_ONCE_SECONDS_MAX
    assert {(call.code, call.reason) for call in told} == {("UNKNOWN", "SERVER_DRAINING")}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_to_all_processes(emulator_url: str, fal: Fal, number: signal.Signals) -> None:
    """A service manager that signals every process of the service means one stop in good order, not two."""
    async with under_load(emulator_url, fal, SHORT_SECONDS) as (gateway, load):
        for pid in all_processes(gateway):
            os.kill(pid, number)
        assert {call.code for call in await load.ended()} == {"OK"}
        assert await gateway.ended() == 0
    assert len(gateway.logged("worker.started")) == WORKERS


async def test_a_terminal_reaches_the_supervisor_only(emulator_url: str, fal: Fal) -> None:
    """Each worker is in a process group of its own, so that Ctrl-C does not come to it."""
    async with gateway_process(emulator_url, workers=2, drain_delay_seconds=0) as gateway:
        workers = pids(gateway).values()
        assert {os.getpgid(pid) for pid in workers} == set(workers)
        assert os.getpgid(gateway.pid) not in workers


async def test_one_worker_is_told_to_stop(emulator_url: str, fal: Fal) -> None:
    """SIGTERM to one worker lets its calls finish, and another takes its place."""
    async with under_load(emulator_url, fal, SHORT_SECONDS) as (gateway, load):
        os.kill(pids(gateway)[2], signal.SIGTERM)
        assert {call.code for call in await load.ended()} == {"OK"}
        await gateway.has_logged("worker.serving", WORKERS + 1)
        assert [line["worker"] for line in gateway.logged("worker.started")][WORKERS:] == [2]
        gateway.send(signal.SIGTERM)
        assert await gateway.ended() == 0


async def test_the_supervisor_is_killed(emulator_url: str, fal: Fal) -> None:
    """Workers whose supervisor is gone let their calls finish and end by themselves."""
    async with under_load(emulator_url, fal, SHORT_SECONDS) as (gateway, load):
        workers = list(pids(gateway).values())
        await gateway.killed()  # waits until nobody has its output any more
        assert {call.code for call in await load.ended()} == {"OK"}
    async with asyncio.timeout(LONG):
        while any(is_running(pid) for pid in workers):
            await asyncio.sleep(0.01)
    assert len(gateway.logged("server.stopped")) == WORKERS


async def test_the_supervisor_is_killed_while_they_drain(emulator_url: str, fal: Fal) -> None:
    """The end of the supervisor is no second order: a drain that has begun goes on."""
    async with under_load(emulator_url, fal, SHORT_SECONDS) as (gateway, load):
        gateway.send(signal.SIGTERM)
        await gateway.has_logged("server.draining", WORKERS + 1)
        await gateway.killed()
        assert {call.code for call in await load.ended()} == {"OK"}

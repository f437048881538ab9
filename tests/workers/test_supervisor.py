"""What the supervisor does about workers that crash, hang, or do not start."""

import asyncio
import contextlib
import datetime
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.faults.processes import GatewayProcess, gateway_process
from tests.processes.supervised import ENDS_SECONDS, START_SECONDS
from tests.workers.running import LONG, cpu_seconds, is_running, pids
from tests.workers.test_start import environment, lines_of

NOWHERE = "http://127.0.0.1:1"
WORKERS = 2
SLACK_SECONDS = 0.2  # a start is noted a little after it was made
CPU_SECONDS_MAX = 1.0


@contextlib.asynccontextmanager
async def supervised(kind: str, diary: Path) -> AsyncIterator[GatewayProcess]:
    """The supervisor with a worker of that kind and a steady one."""
    program = ("tests.processes.supervised", kind, str(diary))
    async with gateway_process(
        NOWHERE, program=program, workers=WORKERS, drain_delay_seconds=0, drain_seconds=0
    ) as gateway:
        yield gateway


def noted(diary: Path, what: str, number: int | None = None) -> list[float]:
    """When that happened to one worker or to any, by the monotonic clock."""
    entries = [json.loads(line) for line in diary.read_text().splitlines()]
    return [at for one, event, at in entries if event == what and number in (None, one)]


async def has_noted(diary: Path, what: str, count: int) -> None:
    async with asyncio.timeout(LONG):
        while len(noted(diary, what)) < count:
            await asyncio.sleep(0.01)


async def test_a_crash_loop(tmp_path: Path) -> None:
    """A worker that ends as soon as it is started is started at once, then after 0.5, 1 and 2 s."""
    diary = tmp_path / "diary"
    async with supervised("crashing", diary) as gateway:
        before = cpu_seconds(gateway.pid)
        gateway.send(signal.SIGHUP)
        await has_noted(diary, "started", WORKERS + 5)
        assert cpu_seconds(gateway.pid) - before < CPU_SECONDS_MAX
        assert is_running(pids(gateway)[2])
        starts = noted(diary, "started", number=1)[1:]
        waits = [later - earlier for earlier, later in itertools.pairwise(starts)]
        assert all(wait > due - SLACK_SECONDS for wait, due in zip(waits, (0.5, 1.0, 2.0), strict=False)), (
            waits
        )
        ended = gateway.logged("worker.ended")
        assert {(line["worker"], line["exit_code"], line["level"]) for line in ended} == {(1, 3, "error")}
        await gateway.has_logged("worker.ended", 1 + 5)
        gateway.send(signal.SIGTERM)  # while it waits for the next start
        assert await gateway.ended() == 0
    assert noted(diary, "D", number=2) != []
    assert len(noted(diary, "started", number=2)) == 1


async def test_sighup_is_passed_on(tmp_path: Path) -> None:
    """SIGHUP to the supervisor reaches each worker, and ends nothing."""
    diary = tmp_path / "diary"
    async with supervised("steady", diary) as gateway:
        for count in range(1, 4):
            gateway.send(signal.SIGHUP)
            await has_noted(diary, "SIGHUP", count * WORKERS)
        assert len(noted(diary, "SIGHUP", number=1)) == 3
        gateway.send(signal.SIGTERM)
        assert await gateway.ended() == 0
    assert len(gateway.logged("worker.started")) == WORKERS


async def test_sighup_waits_for_a_start(tmp_path: Path) -> None:
    """A worker that is just being started gets SIGHUP when it serves: earlier, it would end by it."""
    diary = tmp_path / "diary"
    async with supervised("steady", diary) as gateway:
        os.kill(pids(gateway)[1], signal.SIGKILL)
        await gateway.has_logged("worker.started", WORKERS + 1)
        gateway.send(signal.SIGHUP)
        await has_noted(diary, "SIGHUP", WORKERS)
        assert len(noted(diary, "SIGHUP", number=1)) == 1
        assert len(gateway.logged("worker.started")) == WORKERS + 1


async def test_a_worker_that_dies_at_the_end(tmp_path: Path) -> None:
    """A worker that is killed while all end is not started anew, and the exit code tells of it."""
    diary = tmp_path / "diary"
    async with supervised("deaf", diary) as gateway:
        gateway.send(signal.SIGTERM)
        await has_noted(diary, "D", WORKERS)
        os.kill(pids(gateway)[1], signal.SIGKILL)
        assert await gateway.ended() == 1
    assert gateway.logged("worker.killed") == []
    assert len(gateway.logged("worker.started")) == WORKERS


async def test_a_worker_that_cannot_start(tmp_path: Path) -> None:
    """When a worker ends before all serve, everything stops, with its exit code."""
    code, log = await run_to_the_end("failing", tmp_path / "diary")
    assert code == 7
    [failed] = [line for line in log if line["event"] == "server.failed"]
    assert failed["cause"] == "worker 1 ended before all served"
    check_nothing_is_left(log)


async def test_a_worker_that_never_serves(tmp_path: Path) -> None:
    """A worker that does not begin to serve in time is killed, and at the beginning that stops everything."""
    code, log = await run_to_the_end("silent", tmp_path / "diary")
    assert code == 128 + signal.SIGKILL
    [killed] = [line for line in log if line["event"] == "worker.killed"]
    first, at_end = (datetime.datetime.fromisoformat(line["timestamp"]) for line in (log[0], killed))
    assert (at_end - first).total_seconds() >= START_SECONDS - SLACK_SECONDS
    check_nothing_is_left(log)


async def test_a_worker_that_does_not_end(tmp_path: Path) -> None:
    """A worker that outlives its time to end is killed, and the exit code tells that not all went well."""
    diary = tmp_path / "diary"
    async with supervised("deaf", diary) as gateway:
        gateway.send(signal.SIGTERM)
        assert await gateway.ended() == 1
    ended = {line["worker"]: line for line in gateway.logged("worker.ended")}
    assert (ended[1]["signal"], ended[1]["level"]) == ("SIGKILL", "error")
    assert ended[1]["lived_seconds"] - ended[2]["lived_seconds"] >= ENDS_SECONDS - SLACK_SECONDS
    assert (ended[2]["exit_code"], ended[2]["level"]) == (0, "info")
    assert len(gateway.logged("worker.started")) == WORKERS


async def test_orders(tmp_path: Path) -> None:
    """The first signal orders a drain, the second one a stop, and a dead supervisor is the end of the line."""
    diary = tmp_path / "diary"
    async with supervised("steady", diary) as gateway:
        gateway.send(signal.SIGINT)
        assert await gateway.ended() == 0
    assert len(noted(diary, "D")) == WORKERS
    async with supervised("steady", diary) as gateway:
        await gateway.killed()
        await has_noted(diary, "alone", WORKERS)


async def run_to_the_end(kind: str, diary: Path) -> tuple[int, list[dict[str, Any]]]:
    """Runs a supervisor that ends by itself. Returns its exit code and its log."""
    command = [sys.executable, "-m", "tests.processes.supervised", kind, str(diary)]
    variables = environment(NOWHERE, workers=WORKERS, drain_seconds="0")
    done = await asyncio.to_thread(
        subprocess.run, command, env=variables, capture_output=True, text=True, timeout=LONG
    )
    return done.returncode, lines_of(done)


def check_nothing_is_left(log: list[dict[str, Any]]) -> None:
    """Checks that it never told that it serves, and that all its workers have ended."""
    assert "server.started" not in {line["event"] for line in log}
    assert not any(is_running(line["pid"]) for line in log if line["event"] == "worker.started")

"""How several workers start: what is logged, what is loaded where, and when nothing starts at all."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from typing import Any

import pytest
from tests.conftest import KEY, Fal
from tests.faults.processes import gateway_process
from tests.processes.channels import own_channels
from tests.workers.running import LONG, children, cpu_seconds, loads, pids, rss_bytes, worker_of

from falrpc_server.cli.server_commands import WORKERS_MAX
from falrpc_server.config import Settings
from falrpc_server.workers.control import settings_line

SERVE = (sys.executable, "-m", "falrpc_server", "serve")
ROUNDS = 2  # of two that start at once
SUPERVISOR_BYTES_MAX = 64 * 1024 * 1024
SUPERVISOR_CPU_SECONDS_MAX = 0.1


async def test_what_is_logged(emulator_url: str, fal: Fal) -> None:
    """The start is told once, when all serve; what a worker logs tells which it is, and all get work."""
    async with gateway_process(emulator_url, workers=4, drain_delay_seconds=0) as gateway:
        lines = gateway.logged()
        assert lines[-1]["event"] == "server.started"
        assert (lines[-1]["workers"], "worker" in lines[-1]) == (4, False)
        serving = gateway.logged("worker.serving")
        assert sorted(line["worker"] for line in serving) == [1, 2, 3, 4]
        assert {line["address"] for line in serving} == {gateway.address}
        async with own_channels(gateway.address, 60) as channels:
            assert {await worker_of(gateway, channel) for channel in channels} == {1, 2, 3, 4}


async def test_the_supervisor_loads_little(emulator_url: str) -> None:
    """The supervisor has loaded neither grpc nor an HTTP engine nor uvloop, is small, and idles."""
    async with gateway_process(emulator_url, workers=2, drain_delay_seconds=0) as gateway:
        libraries = ("cygrpc", "aiohttp", "uvloop")
        assert [name for name in libraries if loads(gateway.pid, name)] == []
        assert all(loads(pids(gateway)[1], name) for name in libraries)
        rss = rss_bytes(gateway.pid)
        before = cpu_seconds(gateway.pid)
        await asyncio.sleep(2)
        used = cpu_seconds(gateway.pid) - before
    print(f"\nthe supervisor: {rss / 2**20:.0f} MiB, {used:.2f} s of CPU in 2 s")
    assert rss < SUPERVISOR_BYTES_MAX
    assert used < SUPERVISOR_CPU_SECONDS_MAX


def test_no_module_of_the_supervisor_is_heavy() -> None:
    """Importing the supervisor imports neither grpc nor an HTTP engine nor uvloop, in Python either."""
    heavy = ("grpc", "aiohttp", "httpx", "uvloop", "google.protobuf")
    program = f"import sys, falrpc_server.workers.supervisor; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


async def test_one_worker_is_one_process(emulator_url: str) -> None:
    """With one worker there is no supervisor, and nobody shares the port."""
    async with gateway_process(emulator_url, workers=1, drain_delay_seconds=0) as gateway:
        assert children(gateway.pid) == []
        assert "worker" not in gateway.logged("server.started")[0]
        port = int(gateway.address.rpartition(":")[2])
        with socket.socket() as rival, pytest.raises(OSError):
            rival.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            rival.bind(("127.0.0.1", port))


@pytest.mark.parametrize("first", [1, 3])
@pytest.mark.parametrize("second", [1, 3])
async def test_a_second_instance(emulator_url: str, fal: Fal, first: int, second: int) -> None:
    """A second instance on the port fails to start and says why; the first one serves on."""
    async with gateway_process(emulator_url, workers=first, drain_delay_seconds=0) as gateway:
        done = await serve(emulator_url, listen=gateway.address, workers=second)
        assert done.returncode == 1
        [failed] = [line for line in lines_of(done) if line["event"] == "server.failed"]
        assert failed["cause"].startswith(f"FALRPC_LISTEN={gateway.address}: ")
        assert "worker.started" not in {line["event"] for line in lines_of(done)}
        async with own_channels(gateway.address, 4) as channels:
            for channel in channels:
                await worker_of(gateway, channel) if first > 1 else await channel.channel_ready()


@pytest.mark.parametrize("workers", [(2, 2), (1, 2)])
async def test_two_at_once(emulator_url: str, free_port: int, workers: tuple[int, int]) -> None:
    """Of two instances that start in the same moment exactly one serves; the other ends with exit code 1."""
    listen = f"127.0.0.1:{free_port}"
    for _ in range(ROUNDS):
        ended = asyncio.Event()
        both = [started_or_ended(environment(emulator_url, listen, count), ended) for count in workers]
        assert sorted(await asyncio.gather(*both)) == [0, 1]


async def started_or_ended(variables: dict[str, str], ended: asyncio.Event) -> int:
    """The exit code of an instance. If it starts, it is told to stop when the other one has ended."""
    out = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*SERVE, stdout=out, env=variables)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(LONG):
            async for line in process.stdout:
                if json.loads(line)["event"] == "server.started":
                    await ended.wait()
                    process.terminate()
            return await process.wait()
    finally:
        ended.set()
        if process.returncode is None:
            process.kill()


@pytest.mark.parametrize("workers", ["0", "-1", str(WORKERS_MAX + 1), "many", "1.5", ""])
async def test_numbers_of_workers_that_are_none(emulator_url: str, workers: str) -> None:
    """A number of workers that is none is refused with a sentence, as an option and as a setting."""
    done = await serve(emulator_url, "--workers", workers)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--workers" in done.stderr
    if workers:  # an empty variable is none
        done = await serve(emulator_url, workers=workers)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("FALRPC_WORKERS: ")
        assert len(done.stderr.splitlines()) == 1


def test_the_option_has_the_settings_limit() -> None:
    """The option allows as many as the setting."""
    assert Settings(fal_key=KEY, workers=WORKERS_MAX).workers == WORKERS_MAX  # type: ignore[arg-type]


async def test_the_option_overrides_the_setting(emulator_url: str) -> None:
    """`--workers` counts, and not FALRPC_WORKERS."""
    program = ("falrpc_server", "serve", "--workers", "2")
    async with gateway_process(emulator_url, program=program, workers=5, drain_delay_seconds=0) as gateway:
        assert gateway.logged("server.started")[0]["workers"] == 2


async def test_bad_settings_start_no_worker(emulator_url: str) -> None:
    """What is wrong with settings is told once, before there are workers."""
    done = await serve(emulator_url, workers=3, drain_seconds="soon")
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["FALRPC_DRAIN_SECONDS"]


async def test_a_worker_that_cannot_bind(free_port: int) -> None:
    """A worker that finds its port taken says so and ends with exit code 1."""
    with socket.create_server(("127.0.0.1", free_port)):
        done = await worker(Settings(fal_key=KEY, listen=f"127.0.0.1:{free_port}"))  # type: ignore[arg-type]
    assert done.returncode == 1
    [failed] = [line for line in lines_of(done) if line["event"] == "server.failed"]
    assert (failed["worker"], failed["level"]) == (7, "error")
    assert str(free_port) in failed["cause"]


@pytest.mark.parametrize("line", [b"", b"\n", b"{}", b'{"listen": 1}\n', None])
async def test_a_worker_without_a_supervisor(line: bytes | None) -> None:
    """A worker that is started by hand says how workers are started, and ends."""
    done = await worker(line)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "a worker is started by: falrpc serve --workers N\n"


async def worker(given: Settings | bytes | None) -> "subprocess.CompletedProcess[str]":
    """Runs a worker with that on its line. None: its input is no line at all."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        if given is not None:
            ours.sendall(settings_line(given) if isinstance(given, Settings) else given)
            ours.shutdown(socket.SHUT_WR)
        stdin = subprocess.DEVNULL if given is None else theirs
        command = [sys.executable, "-m", "falrpc_server", "worker", "--number", "7"]
        return await asyncio.to_thread(
            subprocess.run,
            command,
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=LONG,
            env=environment(),
        )


async def serve(emulator_url: str, *arguments: str, **settings: Any) -> "subprocess.CompletedProcess[str]":
    """Runs an instance that is to end by itself."""
    return await asyncio.to_thread(
        subprocess.run,
        [*SERVE, *arguments],
        capture_output=True,
        text=True,
        timeout=LONG,
        env=environment(emulator_url, **settings),
    )


def environment(
    emulator_url: str = "", listen: str = "127.0.0.1:0", workers: int | str = 1, **settings: str
) -> Any:
    paths = os.pathsep.join(sys.path)
    variables = {f"FALRPC_{name.upper()}": value for name, value in settings.items()}
    common = {"PATH": "", "PYTHONPATH": paths, "GRPC_VERBOSITY": "NONE", "FAL_KEY": KEY, "TERM": "dumb"}
    if not emulator_url:
        return common
    common |= {"FALRPC_LISTEN": listen, "FALRPC_DRAIN_DELAY_SECONDS": "0", "FALRPC_WORKERS": str(workers)}
    return {**common, "FALRPC_EMULATOR_URL": emulator_url, **variables}


def lines_of(done: "subprocess.CompletedProcess[str]") -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]

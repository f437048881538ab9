"""Several workers in front of the emulator: their processes, and which of them a connection has reached."""

import os
from pathlib import Path
from typing import Any

import grpc
from tests.faults.calls_in_flight import marked
from tests.faults.history import History
from tests.faults.processes import GatewayProcess
from tests.service.test_run import run

from falrpc import v1

__all__ = ["LONG", "children", "cpu_seconds", "is_running", "loads", "pids", "rss_bytes", "worker_of"]

LONG = 60  # seconds, beyond every limit here


def pids(gateway: GatewayProcess) -> dict[int, int]:
    """The process of each worker, the newest of its number."""
    return {line["worker"]: line["pid"] for line in gateway.logged("worker.started")}


async def worker_of(gateway: GatewayProcess, channel: grpc.aio.Channel) -> int:
    """Which worker the channel is connected to: found by the line of a call."""
    history = History()
    told = await history.call(v1.FalServiceStub(channel), "Run", run("emulator/echo", marked('"n":0')), LONG)
    assert told.code == "OK", told

    def lines(event: str) -> list[dict[str, Any]]:
        return [line for line in gateway.logged(event) if line["request_id"] in told.request_ids]

    await history.finished(lines)
    [line] = lines("call.finished")
    return int(line["worker"])


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
    return "State:\tZ" not in status


def loads(pid: int, library: str) -> bool:
    """Whether a process has loaded a compiled library whose path has that word."""
    return library in Path(f"/proc/{pid}/maps").read_text()


def rss_bytes(pid: int) -> int:
    """A process's memory as the system counts it."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """What a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

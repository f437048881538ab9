"""Gateways in processes of their own: for tests that send them signals and read all that they logged."""

import asyncio
import contextlib
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Any

from tests import canary
from tests.conftest import KEY

__all__ = ["GatewayProcess", "gateway_process", "unix_seconds"]

SERVE = ("falrpc_server", "serve")
START_SECONDS_MAX = 60
END_SECONDS_MAX = 60


class GatewayProcess:
    """A running `serve`, and the log that it has written so far.

    Attributes:
        address: Where it listens.
        half_line: What stood behind the last whole line when its output ended.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", errors: IO[bytes]) -> None:
        self.address = ""
        self.half_line = b""
        self._process = process
        self._errors = errors
        self._said = ""
        self._lines: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, name="gateway log", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def logged(self, event: str | None = None) -> list[dict[str, Any]]:
        """The log lines so far, all or those of one event."""
        return [line for line in list(self._lines) if event in (None, line["event"])]

    async def has_logged(self, event: str, count: int = 1, seconds: float = START_SECONDS_MAX) -> None:
        """Waits until it has logged that many of an event."""
        until = time.monotonic() + seconds
        while len(self.logged(event)) < count:
            is_dead = self._process.poll() is not None and not self._reader.is_alive()
            assert not is_dead, f"it ended: {self.errors()}"
            assert time.monotonic() < until, f"{len(self.logged(event))} of {count} {event}"
            await asyncio.sleep(0.01)

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self._process.send_signal(number)

    async def ended(self, seconds: float = END_SECONDS_MAX) -> int:
        """Waits until it has ended and its log is read to the end. Returns its exit code."""
        code = await asyncio.to_thread(self._process.wait, seconds)
        await asyncio.to_thread(self._reader.join, seconds)
        assert not self._reader.is_alive(), "somebody else holds its standard output"
        return code

    async def killed(self) -> None:
        """Kills it and reads its log to the end."""
        self.send(signal.SIGKILL)
        assert await self.ended() == -signal.SIGKILL

    def kill_workers(self) -> None:
        """Kills those of its workers that have not ended."""
        for pid in [line["pid"] for line in self.logged("worker.started")]:
            with contextlib.suppress(OSError):  # it is gone
                if "worker" in Path(f"/proc/{pid}/cmdline").read_text():  # and not somebody else's
                    os.kill(pid, signal.SIGKILL)

    def errors(self) -> str:
        """What it wrote to standard error."""
        if not self._errors.closed:
            self._errors.seek(0)
            self._said = self._errors.read().decode(errors="replace")
        return self._said

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as out:
            for line in out:
                if line.endswith(b"\n"):
                    self._lines.append(json.loads(line))
                else:
                    self.half_line = line


@contextlib.asynccontextmanager
async def gateway_process(
    emulator_url: str, listen: str = "127.0.0.1:0", program: tuple[str, ...] = SERVE, **settings: object
) -> AsyncIterator[GatewayProcess]:
    """Runs `serve`, or another program, with these settings; what is left of it at the end is killed."""
    variables = {f"FALRPC_{name.upper()}": str(value) for name, value in settings.items()}
    with tempfile.TemporaryFile() as errors:
        process = _started(
            program, {"FALRPC_EMULATOR_URL": emulator_url, "FALRPC_LISTEN": listen, **variables}, errors
        )
        gateway = GatewayProcess(process, errors)
        try:
            await gateway.has_logged("server.started")
            gateway.address = gateway.logged("server.started")[0]["address"]
            yield gateway
        finally:
            process.kill()  # does nothing when it has ended
            gateway.kill_workers()
            await gateway.ended()
            canary.heard("a gateway's standard error", gateway.errors())
            canary.heard("a gateway's log", json.dumps(gateway.logged()) + str(gateway.half_line))


def unix_seconds(line: dict[str, Any]) -> float:
    """When a log line was written."""
    return datetime.datetime.fromisoformat(line["timestamp"]).timestamp()


def _started(
    program: tuple[str, ...], variables: dict[str, str], errors: IO[bytes]
) -> "subprocess.Popen[bytes]":
    environment = {
        "PATH": "",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "GRPC_VERBOSITY": "ERROR",
        "FAL_KEY": KEY,
        **variables,
    }
    return subprocess.Popen(
        [sys.executable, "-m", *program], env=environment, stdout=subprocess.PIPE, stderr=errors
    )

"""A gateway in a process of its own: its address, what it logs, and what it holds."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from tests import canary
from tests.conftest import KEY

__all__ = ["Figures", "Gateway", "served"]

WAIT_SECONDS_MAX = 30


@dataclass(frozen=True)
class Figures:
    """What the gateway holds at a moment, and how it has fared.

    Attributes:
        rss_bytes: Memory as the system counts it.
        peak_bytes: The most there was since it was asked the last time.
        objects: How many Python objects the collector knows, as a clue.
        native_bytes: What the C library has handed out, as a clue.
        cpu_seconds: What all its threads have used since it began.
        lag_seconds: How late the event loop was since it was asked the last time, but for the worst 1 %.
    """

    rss_bytes: int
    peak_bytes: int
    files: int
    threads: int
    tasks: int
    objects: int
    native_bytes: int
    cpu_seconds: float
    lag_seconds: float


class Gateway:
    """The process. What it logs is counted as it comes, since there is much of it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.codes: Counter[str] = Counter()
        """The codes of finished calls."""
        self.failures: list[str] = []
        """Lines of the log that no load explains, and what else the process said."""
        self._addresses: queue.Queue[str] = queue.Queue()
        self._figures: queue.Queue[Figures] = queue.Queue()
        self._readers = [
            threading.Thread(target=self._read, args=(pipe, take), daemon=True)
            for pipe, take in ((process.stdout, self._logged), (process.stderr, self._told))
        ]
        for reader in self._readers:
            reader.start()
        self.address = self._addresses.get(timeout=WAIT_SECONDS_MAX)

    def figures(self) -> Figures:
        """Asks what it holds, after a collection of garbage."""
        self.process.send_signal(signal.SIGUSR1)
        return self._figures.get(timeout=WAIT_SECONDS_MAX)

    def stop(self) -> int:
        """Ends it in good order. Returns its exit code."""
        self.process.terminate()
        code = self.process.wait(timeout=WAIT_SECONDS_MAX)
        for reader in self._readers:
            reader.join(WAIT_SECONDS_MAX)
        return code

    def _read(self, pipe: IO[str], take: Any) -> None:
        with pipe:
            for line in pipe:
                canary.heard("a gateway's output", line)
                try:
                    take(json.loads(line))
                except ValueError:
                    self.failures.append(line)

    def _logged(self, line: dict[str, Any]) -> None:
        match line["event"]:
            case "server.started":
                self._addresses.put(line["address"])
            case "call.finished":
                self.codes[line["code"]] += 1
            case "call.failed":
                self.failures.append(json.dumps(line))

    def _told(self, figures: dict[str, Any]) -> None:
        self._figures.put(Figures(**figures))


@contextmanager
def served(emulator_url: str, program: str = "tests.processes.served", **settings: str) -> Iterator[Gateway]:
    """Runs a gateway with these settings. The program is a module."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "FALRPC_LISTEN": "127.0.0.1:0",
        "FALRPC_EMULATOR_URL": emulator_url,
        "FALRPC_DRAIN_DELAY_SECONDS": "0",
        "FALRPC_DRAIN_SECONDS": "1",
        "FAL_KEY": KEY,
        "MALLOC_ARENA_MAX": "2",  # as in the image
        **{f"FALRPC_{name.upper()}": value for name, value in settings.items()},
    }
    command = [sys.executable, "-m", program]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, env=environment, text=True)
    try:
        gateway = Gateway(process)
        yield gateway
        assert gateway.stop() == 0
        assert gateway.failures == [], gateway.failures[:5]
    finally:
        process.kill()
        process.wait()

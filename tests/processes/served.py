"""A program: the gateway as `falrpc serve` runs it, which also tells of itself.

On SIGUSR1 it collects garbage, gives memory back that the C library (glibc) only keeps for later, and
writes a line of JSON to stderr: what it holds, and how it has fared since it was asked the last time.
"""

import asyncio
import ctypes
import gc
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from falrpc_server import app
from falrpc_server.cli import main

LIBC = ctypes.CDLL(None)
STATUS = Path("/proc/self/status")
FORGET_PEAK = (Path("/proc/self/clear_refs"), "5")  # proc(5)


class Mallinfo2(ctypes.Structure):
    """glibc's mallinfo2(3): ten sizes, of which the fifth and the eighth are in use."""

    _fields_ = [("sizes", ctypes.c_size_t * 10)]


LIBC.mallinfo2.restype = Mallinfo2


class Lag:
    """How late the event loop does what is due: looked at every 10 ms.

    A pause in which it did nothing hides looks: they count as if they had been made.
    """

    EVERY_SECONDS = 0.01

    def __init__(self) -> None:
        self._counts = [0] * 10_000  # by millisecond

    def forget(self) -> None:
        """Begins anew."""
        self._counts = [0] * len(self._counts)

    def seconds(self, share: float) -> float:
        """The lag that this share of all looks did not exceed, rounded up to a millisecond."""
        left = share * sum(self._counts)
        for milliseconds, count in enumerate(self._counts):
            left -= count
            if left <= 0:
                return (milliseconds + 1) / 1_000
        raise AssertionError("no share is above 1")

    async def look(self) -> None:
        """Looks for as long as it is not cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + self.EVERY_SECONDS
            await asyncio.sleep(self.EVERY_SECONDS)
            lag = max(0.0, clock() - due)
            while lag >= 0:
                self._counts[min(int(lag * 1_000), len(self._counts) - 1)] += 1
                lag -= self.EVERY_SECONDS


def looked_at(serve: Any, lag: Lag) -> Any:
    """The service, with somebody who looks at its event loop."""

    async def served(*arguments: Any) -> Any:
        looking = asyncio.create_task(lag.look())
        try:
            return await serve(*arguments)
        finally:
            looking.cancel()

    return served


def tell(lag: Lag) -> None:
    """Writes the figures."""
    lag_seconds = lag.seconds(0.99)
    peak_bytes = memory("VmHWM")
    cpu_seconds = time.process_time()
    gc.collect()
    LIBC.malloc_trim(0)
    in_use = LIBC.mallinfo2().sizes
    figures = {
        "rss_bytes": memory("VmRSS"),
        "peak_bytes": peak_bytes,
        "files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "tasks": len(asyncio.all_tasks()),
        "objects": len(gc.get_objects()),
        "native_bytes": in_use[4] + in_use[7],
        "cpu_seconds": cpu_seconds,
        "lag_seconds": lag_seconds,
    }
    print(json.dumps(figures), file=sys.stderr, flush=True)
    lag.forget()
    path, word = FORGET_PEAK
    path.write_text(word)


def memory(name: str) -> int:
    """One of the sizes that the system knows, in bytes."""
    [line] = [line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    lag = Lag()
    signal.signal(signal.SIGUSR1, lambda *_: tell(lag))
    app._serve = looked_at(app._serve, lag)
    sys.argv = ["falrpc", "serve"]
    main()

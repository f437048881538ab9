"""A program: the gateway as `falrpc serve` runs it, which also tells of itself.

On SIGUSR1 it collects garbage, gives memory back that the C library (glibc) only keeps for later, and
writes a line of JSON to stderr: what it holds.
"""

import asyncio
import ctypes
import gc
import json
import os
import signal
import sys
import threading
from pathlib import Path

from falrpc_server.cli import main

LIBC = ctypes.CDLL(None)


class Mallinfo2(ctypes.Structure):
    """glibc's mallinfo2(3): ten sizes, of which the fifth and the eighth are in use."""

    _fields_ = [("sizes", ctypes.c_size_t * 10)]


LIBC.mallinfo2.restype = Mallinfo2


def tell(*_: object) -> None:
    """Writes the figures."""
    gc.collect()
    LIBC.malloc_trim(0)
    in_use = LIBC.mallinfo2().sizes
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    figures = {
        "rss_bytes": int(status["VmRSS"].split()[0]) * 1024,
        "files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "tasks": len(asyncio.all_tasks()),
        "objects": len(gc.get_objects()),
        "native_bytes": in_use[4] + in_use[7],
    }
    print(json.dumps(figures), file=sys.stderr, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, tell)
    sys.argv = ["falrpc", "serve"]
    main()

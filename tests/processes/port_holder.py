"""A program: tries to hold port after port, each in the same moment as another such process, and tells how it went.

`python -m tests.processes.port_holder MEETING ONE PORT...`: MEETING is a file of two bytes in which each of the
two, 0 and 1, says how far it is. Ports stay held until both have tried all.
"""

import contextlib
import mmap
import os
import sys
from pathlib import Path

from falrpc_server.workers import port


def main() -> None:
    me, ports = int(sys.argv[2]), sys.argv[3:]
    with (
        Path(sys.argv[1]).open("r+b") as file,
        mmap.mmap(file.fileno(), 2) as both,
        contextlib.ExitStack() as held,
    ):

        def meet(step: int) -> None:
            both[me] = step
            while both[1 - me] < step:
                os.sched_yield()

        for step, number in enumerate(ports, start=1):
            meet(step)
            try:
                held.enter_context(port.held(f"127.0.0.1:{number}"))
                print("held")
            except port.PortUnavailable:
                print("failed")
        meet(len(ports) + 1)


if __name__ == "__main__":
    main()

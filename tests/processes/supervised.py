"""A program: the supervisor as `falrpc serve` runs it, with odd workers instead of its own.

`python -m tests.processes.supervised KIND DIARY` gives worker 1 that kind (see odd_worker.py), and the others are
steady. A worker may take START_SECONDS to start, and ENDS_SECONDS more than its settings say to end.
"""

import sys

from falrpc_server.config.sources import load
from falrpc_server.workers import supervisor

START_SECONDS = 3.0
ENDS_SECONDS = 1.0


def command(number: int) -> list[str]:
    """The command line of a worker."""
    kind = sys.argv[1] if number == 1 else "steady"
    return [sys.executable, "-m", "tests.processes.odd_worker", kind, sys.argv[2], str(number)]


if __name__ == "__main__":
    supervisor.START_SECONDS_MAX = START_SECONDS
    supervisor.CLEAN_UP_SECONDS_MAX = ENDS_SECONDS
    sys.exit(supervisor.supervise(load(), command))

"""A program: a worker that serves nothing, and fails in some way. What happens to it is in its diary.

Kinds: `steady` obeys; `crashing` ends with exit code 3 on SIGHUP, and from then on as soon as it is started;
`failing` never serves and ends with exit code 7; `silent` never serves and does not end; `deaf` serves and does
not end.
"""

import json
import signal
import socket
import sys
import time
from pathlib import Path

KIND, DIARY, NUMBER = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
FOR_EVER_SECONDS = 120  # longer than any test


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, hung_up)
    has_crashed = DIARY.exists() and f'{NUMBER}, "SIGHUP"' in DIARY.read_text()
    note("started")
    if KIND == "crashing" and has_crashed:
        sys.exit(3)
    line = socket.socket(fileno=0)
    while b"\n" not in line.recv(65_536):
        pass
    if KIND == "failing":
        sys.exit(7)
    if KIND == "silent":
        time.sleep(FOR_EVER_SECONDS)
    line.send(b"R")
    while orders := line.recv(1):
        note(orders.decode())
        if KIND == "deaf":
            time.sleep(FOR_EVER_SECONDS)
        sys.exit(0)
    note("alone")


def hung_up(*_: object) -> None:
    note("SIGHUP")
    if KIND == "crashing":
        sys.exit(3)


def note(what: str) -> None:
    """Writes a line that tests read."""
    with DIARY.open("a") as diary:
        diary.write(json.dumps([NUMBER, what, time.monotonic()]) + "\n")


if __name__ == "__main__":
    main()

"""The demo's subprocesses: an emulator and a gateway, their logs in files, always stopped."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = ["DEMO_KEY", "StartError", "emulator", "gateway", "log_tail"]

DEMO_KEY = "demo:key"

# Nobody is left to be served when the demo ends, so its gateway stops at once.
_GATEWAY_SETTINGS = {
    "FALRPC_LISTEN": "127.0.0.1:0",
    "FALRPC_DRAIN_DELAY_SECONDS": "0",
    "FALRPC_DRAIN_SECONDS": "1",
}
_START_SECONDS_MAX = 20.0
_STOP_SECONDS_MAX = 5.0
_LOOK_SECONDS = 0.05


class StartError(Exception):
    """A subprocess did not come up. The text is for the user; the log tells more."""


@contextmanager
def emulator(log: Path) -> Iterator[str]:
    """Runs the emulator on any free port and yields its URL.

    Raises:
        StartError: it did not come up.
    """
    command = ["emulator", "--port", "0", "--key", DEMO_KEY]
    with _running("the emulator", command, _own_environment(), log, _announced_url) as url:
        yield url


@contextmanager
def gateway(log: Path, settings: Mapping[str, str]) -> Iterator[str]:
    """Runs the gateway with `settings` on any free port and yields its address.

    Raises:
        StartError: it did not come up.
    """
    environment = _own_environment()
    if "FAL_KEY" in settings:  # then no other key, of whatever form
        environment = {name: value for name, value in environment.items() if not name.startswith("FAL_KEY")}
    environment |= _GATEWAY_SETTINGS | dict(settings)
    with _running("the gateway", ["serve"], environment, log, _started_address) as address:
        yield address


def log_tail(log: Path, lines: int = 12) -> list[str]:
    """The last lines of a log; none when there is no log."""
    try:
        return log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
    except OSError:
        return []


def _own_environment() -> dict[str, str]:
    # Without the user's falrpc settings: the demo has its own.
    return {name: value for name, value in os.environ.items() if not name.startswith("FALRPC_")}


@contextmanager
def _running(
    name: str,
    command: list[str],
    environment: Mapping[str, str],
    log: Path,
    find: Callable[[str], str | None],
) -> Iterator[str]:
    """Runs `falrpc COMMAND` and yields what `find` makes of the first log line that it likes."""
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  # our own command line
            [sys.executable, "-m", "falrpc_server", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**environment, "PYTHONUNBUFFERED": "1"},
        )
    try:
        yield _await_line(name, process, log, find)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS_MAX)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.kill()
            process.wait()


def _await_line(
    name: str, process: "subprocess.Popen[bytes]", log: Path, find: Callable[[str], str | None]
) -> str:
    deadline = time.monotonic() + _START_SECONDS_MAX
    while time.monotonic() < deadline:
        ended = process.poll()
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            if found := find(line):
                return found
        if ended is not None:
            raise StartError(f"{name} ended with exit code {ended}; see {log}")
        time.sleep(_LOOK_SECONDS)
    raise StartError(f"{name} was not ready after {_START_SECONDS_MAX:g} s; see {log}")


def _announced_url(line: str) -> str | None:
    return line.removeprefix("listening ").strip() if line.startswith("listening ") else None


def _started_address(line: str) -> str | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or record.get("event") != "server.started":
        return None
    return str(record["address"])

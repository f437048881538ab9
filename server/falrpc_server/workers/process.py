"""A worker as the supervisor sees it: a process that it started, and its end of the line to it."""

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable

from falrpc_server.workers.control import SERVING

__all__ = ["Command", "WorkerProcess", "worker_command"]

Command = Callable[[int], list[str]]
READ_BYTES = 64


def worker_command(number: int) -> list[str]:
    """The command line of a worker."""
    # `-m` would look for modules in the working directory first: only if this process does so, too.
    own_path = [] if {"", os.getcwd()} & set(sys.path) else ["-P"]
    return [sys.executable, *own_path, "-m", "falrpc_server", "worker", "--number", str(number)]


class WorkerProcess:
    """A new program, never a fork of this one. Raises OSError if it can't be started.

    It is in a process group of its own, so that Ctrl-C in a terminal reaches the supervisor only.

    Attributes:
        line: The supervisor's end.
        is_serving: Whether it said so.
        wants_hangup: Whether it is to get SIGHUP once it serves: earlier, that could end it.
        is_killed: Whether it was killed because it hung.
    """

    def __init__(self, command: list[str], settings_line: bytes) -> None:
        self.is_serving = False
        self.wants_hangup = False
        self.is_killed = False
        self.started_seconds = time.monotonic()
        self.line, theirs = socket.socketpair()
        with theirs:
            as_stdin = (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)
            self.pid = os.posix_spawn(command[0], command, os.environ, file_actions=[as_stdin], setpgroup=0)
        with contextlib.suppress(OSError):  # it has ended already: its exit code says more
            self.line.sendall(settings_line)
        self.line.setblocking(False)

    @property
    def lived_seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self.started_seconds

    def order(self, what: bytes) -> None:
        """Gives an order. If it has ended, nothing happens."""
        with contextlib.suppress(OSError):
            self.line.send(what)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal. It must not have been reaped."""
        os.kill(self.pid, number)

    def hang_up(self) -> None:
        """Passes SIGHUP on."""
        if self.is_serving:
            self.signal(signal.SIGHUP)
        else:
            self.wants_hangup = True

    def read(self) -> bool:
        """Reads what it said. Returns whether more can come."""
        try:
            said = self.line.recv(READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if SERVING in said:
            self.is_serving = True
            if self.wants_hangup:
                self.wants_hangup = False
                self.hang_up()
        return bool(said)

"""The line between the supervisor and a worker, and the worker's end of it. It knows no grpc.

It is a socket that a worker finds as its standard input. First the settings come through it, which the
supervisor has checked: so all workers have the same, also those that are started after a file was changed.
Then come orders, a byte each. The worker says when it serves. When the line ends, the supervisor is gone.

Orders, unlike signals, may come more than once without harm: service managers send SIGTERM to all processes
of a service at once, and a worker that counted signals would take its supervisor's for the second.
"""

import asyncio
import contextlib
import json
import signal
import socket
from collections.abc import Callable
from typing import Any

from pydantic import SecretStr

from falrpc_server.config import Settings

__all__ = ["DRAIN", "SERVING", "STOP", "NotSupervised", "Worker", "attach", "settings_line"]

DRAIN, STOP = b"D", b"S"  # orders: stop in good order; stop at once
SERVING = b"R"  # the answer

END_OF_SETTINGS = b"\n"
READ_BYTES = 64 * 1024


class NotSupervised(Exception):
    """Standard input is no line to a supervisor."""


def settings_line(settings: Settings) -> bytes:
    """What attach() reads. It has the secrets in it."""
    values = {name: getattr(settings, name) for name in Settings.model_fields}
    return json.dumps(values, default=_revealed).encode() + END_OF_SETTINGS


def attach(number: int) -> tuple["Worker", Settings]:
    """Takes the worker's end of the line. Raises NotSupervised."""
    try:
        line = socket.socket(fileno=0)
        received = bytearray()
        while END_OF_SETTINGS not in received:
            if not (data := line.recv(READ_BYTES)):
                raise NotSupervised
            received += data
        text, _, orders = received.partition(END_OF_SETTINGS)
        return Worker(number, line, bytes(orders)), Settings(**json.loads(text))
    except (OSError, ValueError) as error:
        raise NotSupervised from error


class Worker:
    """This process as one of several that serve the same port. Made by attach()."""

    def __init__(self, number: int, line: socket.socket, orders: bytes) -> None:
        self.number = number
        self._line = line
        self._orders = orders
        """Those that came with the settings."""
        self._given = 0

    def tell_serving(self) -> None:
        """Tells the supervisor."""
        with contextlib.suppress(OSError):  # it is gone: obey() notices
            self._line.send(SERVING)

    def obey(self, put: Callable[[int], None]) -> None:
        """Calls `put` once when the worker is to stop in good order, once more when it is to stop at once.

        SIGTERM, SIGINT and the end of the supervisor mean the former, however often they come.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._give, 1, put)
        self._line.setblocking(False)
        loop.add_reader(self._line, self._read, put)
        self._take(self._orders, put)

    def _read(self, put: Callable[[int], None]) -> None:
        try:
            orders = self._line.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            orders = b""
        if not orders:
            asyncio.get_running_loop().remove_reader(self._line)
        self._take(orders or DRAIN, put)

    def _take(self, orders: bytes, put: Callable[[int], None]) -> None:
        if orders:
            self._give(2 if STOP in orders else 1, put)

    def _give(self, count: int, put: Callable[[int], None]) -> None:
        """Sees to it that `put` has been called so many times."""
        while self._given < count:
            self._given += 1
            put(signal.SIGTERM)


def _revealed(value: Any) -> Any:
    assert isinstance(value, SecretStr)
    return value.get_secret_value()

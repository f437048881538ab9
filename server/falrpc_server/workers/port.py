"""The port that workers share, held so that nobody else serves it. Linux only.

Each worker binds it with SO_REUSEPORT, and the kernel spreads connections over them. That option alone would
let a second instance in, too, so the supervisor holds the port with a socket that never takes a connection:

* It is bound without SO_REUSEPORT and listens for a moment. The kernel lets only one such socket listen, and
  none beside a server that is there already. (To be bound is not enough: with SO_REUSEADDR, without which the
  port of a server that has just ended can't be had for a minute, two may be, as long as none listens.)
* Then SO_REUSEADDR is taken from it and SO_REUSEPORT given to it, and it stops to listen and stays bound.
  From then on others can bind only with SO_REUSEPORT and under the same user, as the workers do.
"""

import contextlib
import errno
import random
import socket
import sys
import time
from collections.abc import Iterator

__all__ = ["PortUnavailable", "held"]

TRIES = 5  # of two who begin to listen in the same moment both may fail
PAUSE_SECONDS_MAX = 0.02
ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # an address, or IPv6, that this machine has not
WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 # read, not bound to


class PortUnavailable(Exception):
    """The address can't be had; says why."""


@contextlib.contextmanager
def held(listen: str) -> Iterator[str]:
    """Holds the port of a `host:port`. The value is the same, with the port that was taken if it was 0.

    Raises PortUnavailable.
    """
    if sys.platform != "linux":
        raise PortUnavailable(
            "FALRPC_WORKERS: more than one needs Linux, which spreads connections over them"
        )
    host, _, port = listen.rpartition(":")
    with contextlib.ExitStack() as stack:
        try:
            taken = _taken(_addresses(host), int(port), stack)
        except OSError as error:
            raise PortUnavailable(f"FALRPC_LISTEN={listen}: {error.strerror}") from error
        yield f"{host}:{taken}"


def _addresses(host: str) -> list[tuple[socket.AddressFamily, str]]:
    """What grpc binds for a host: each of its addresses; for either wildcard both families, by one socket."""
    bare = host.removeprefix("[").removesuffix("]")
    if bare in WILDCARDS:
        return [(socket.AF_INET6, "::") if socket.has_dualstack_ipv6() else (socket.AF_INET, WILDCARDS[0])]
    found = socket.getaddrinfo(bare, None, type=socket.SOCK_STREAM)
    return [(family, str(address[0])) for family, _, _, _, address in found]


def _taken(addresses: list[tuple[socket.AddressFamily, str]], port: int, stack: contextlib.ExitStack) -> int:
    """Takes a port, any if it is 0, of all these addresses. Raises OSError."""
    for tries_left in reversed(range(TRIES)):
        with contextlib.ExitStack() as attempt:
            try:
                taken = _tried(addresses, port, attempt)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or not tries_left:
                    raise
            else:
                stack.push(attempt.pop_all())
                return taken
        time.sleep(random.uniform(0, PAUSE_SECONDS_MAX))  # noqa: S311 # chance is no secret
    raise AssertionError("the last try returns or raises")


def _tried(addresses: list[tuple[socket.AddressFamily, str]], port: int, stack: contextlib.ExitStack) -> int:
    taken, absence = 0, None
    for family, host in addresses:
        try:
            taken = stack.enter_context(_exclusive(family, host, taken or port)).getsockname()[1]
        except OSError as error:
            if error.errno not in ABSENT:
                raise
            absence = error
    if not taken and absence:
        raise absence
    return taken


def _exclusive(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    """A socket that holds the port, as this module's docstring says."""
    if not port:  # who was given a port loses it when it stops to listen, unlike who asked for it
        with _bound(family, host, 0) as given:
            return _exclusive(family, host, given.getsockname()[1])
    return _kept(_bound(family, host, port))


def _bound(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == WILDCARDS[1] else 1)
        one.bind((host, port))
    except OSError:
        one.close()
        raise
    return one


def _kept(one: socket.socket) -> socket.socket:
    """Makes it the only one that is bound there. Raises OSError, and closes it, if another one was faster."""
    try:
        one.listen(0)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.shutdown(socket.SHUT_RD)
    except OSError:
        one.close()
        raise
    return one

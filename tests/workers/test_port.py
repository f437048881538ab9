"""The held port: who may bind beside it, who may not, and what it gives to others."""

import asyncio
import contextlib
import errno
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from falrpc_server.workers import port
from falrpc_server.workers.port import PortUnavailable, held

LOOPBACK = "127.0.0.1:0"
ROUNDS = 100
ENVIRONMENT = {"PATH": "", "PYTHONPATH": os.pathsep.join(sys.path)}
NEEDS_IPV6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6")


@contextlib.contextmanager
def bound(address: str, *, shares: bool = False, listens: bool = True) -> Iterator[socket.socket]:
    """A server's socket, as grpc makes it, or a bound one that does not listen."""
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if "[" in host else socket.AF_INET
    with socket.socket(family) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shares))
        one.bind((host.strip("[]"), int(port)))
        if listens:
            one.listen()
        yield one


def same_port(address: str, host: str) -> str:
    return f"{host}:{address.rpartition(':')[2]}"


def is_refused(address: str, *, shares: bool = False, listens: bool = True) -> bool:
    """Whether nobody can bind there."""
    try:
        with bound(address, shares=shares, listens=listens):
            return False
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return True


@pytest.mark.parametrize("listens", [True, False])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_nobody_else_can_bind(host: str, listens: bool) -> None:
    """Beside the held port nobody binds without SO_REUSEPORT, at no time: before, with and after workers."""
    with held(LOOPBACK) as address:
        rival = same_port(address, host)
        assert is_refused(rival, listens=listens)
        with bound(address, shares=True):
            assert is_refused(rival, listens=listens)
        assert is_refused(rival, listens=listens)
    assert not is_refused(rival, listens=listens)


def test_a_second_holder() -> None:
    """A port that is held can't be held again, also when no worker listens."""
    with held(LOOPBACK) as address:
        for host in ("127.0.0.1", "0.0.0.0"):
            with (
                pytest.raises(PortUnavailable, match="Address already in use"),
                held(same_port(address, host)),
            ):
                pass
    with held(address):
        pass


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_server_that_is_there(host: str) -> None:
    """A port on which a server listens can't be held, and the sentence names the setting."""
    with bound(LOOPBACK) as server:
        listen = f"{host}:{server.getsockname()[1]}"
        with pytest.raises(PortUnavailable) as raised, held(listen):
            pass
    assert str(raised.value) == f"FALRPC_LISTEN={listen}: Address already in use"


def test_workers_left_by_others() -> None:
    """A port on which another supervisor's workers still listen can't be held."""
    with bound(LOOPBACK, shares=True) as worker:
        address = f"127.0.0.1:{worker.getsockname()[1]}"
        with pytest.raises(PortUnavailable), held(address):
            pass


def test_the_holder_takes_no_connection() -> None:
    """Connections are refused while there is no worker; with workers each reaches one of them."""
    with held(LOOPBACK) as address, contextlib.ExitStack() as stack:
        where = ("127.0.0.1", int(address.rpartition(":")[2]))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(where)
        workers = [stack.enter_context(bound(address, shares=True)) for _ in range(4)]
        for _ in range(200):
            stack.enter_context(socket.create_connection(where))
        accepted = [accept_all(worker, stack) for worker in workers]
    assert sum(accepted) == 200
    assert min(accepted) > 0


def accept_all(worker: socket.socket, stack: contextlib.ExitStack) -> int:
    worker.setblocking(False)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            stack.enter_context(worker.accept()[0])
            count += 1
    return count


def test_a_server_that_has_just_ended() -> None:
    """What is left of a server's connections (TIME_WAIT) keeps nobody from holding its port anew."""
    with held(LOOPBACK) as address, bound(address, shares=True) as worker:
        client = socket.create_connection(worker.getsockname())
        connection, _ = worker.accept()
        connection.close()  # the server's end first
        assert client.recv(1) == b""
        client.close()
    with pytest.raises(OSError), socket.socket() as plain:
        plain.bind(("127.0.0.1", int(address.rpartition(":")[2])))  # there is something left
    with held(address) as again:
        assert again == address


@pytest.mark.parametrize(
    ("listen", "rivals"),
    [
        pytest.param("localhost:0", ["127.0.0.1"], id="name"),
        pytest.param("0.0.0.0:0", ["127.0.0.1", "0.0.0.0", "[::1]", "[::]"], marks=NEEDS_IPV6, id="all"),
        pytest.param("[::]:0", ["127.0.0.1", "0.0.0.0", "[::1]", "[::]"], marks=NEEDS_IPV6, id="all-ipv6"),
        pytest.param("[::1]:0", ["[::1]", "[::]"], marks=NEEDS_IPV6, id="ipv6"),
    ],
)
def test_kinds_of_addresses(listen: str, rivals: list[str]) -> None:
    """Names and wildcards are held for all addresses that grpc would listen on."""
    with held(listen) as address:
        assert address.rpartition(":")[0] == listen.rpartition(":")[0]
        assert [rival for rival in rivals if not is_refused(same_port(address, rival))] == []


@pytest.mark.parametrize("listen", ["no-such-host.invalid:0", "192.0.2.1:50051"])
def test_addresses_that_this_machine_has_not(listen: str) -> None:
    """An address that is none of this machine's is told as what it is."""
    with pytest.raises(PortUnavailable) as raised, held(listen):
        pass
    assert str(raised.value).startswith(f"FALRPC_LISTEN={listen}: ")
    assert "None" not in str(raised.value)


def test_two_are_bound() -> None:
    """Of two that have bound the port before either went on only one goes on."""
    with port._bound(socket.AF_INET, "127.0.0.1", 0) as given:
        where = (socket.AF_INET, *given.getsockname())
        first, second = port._bound(*where), port._bound(*where)
    with second, port._kept(first), pytest.raises(OSError, match="Address already in use"):
        port._kept(second)


async def test_two_at_the_same_moment(tmp_path: Path) -> None:
    """Of two processes that try to hold a port at the same moment exactly one succeeds."""
    meeting = tmp_path / "meeting"
    meeting.write_bytes(bytes(2))
    ports = free_ports(ROUNDS)
    command = [sys.executable, "-m", "tests.processes.port_holder", str(meeting)]
    both = [
        await asyncio.create_subprocess_exec(
            *command, str(one), *ports, stdout=asyncio.subprocess.PIPE, cwd=tmp_path, env=ENVIRONMENT
        )
        for one in (0, 1)
    ]
    try:
        async with asyncio.timeout(60):
            told = [(await one.communicate())[0].decode().split() for one in both]
    finally:
        for one in both:
            if one.returncode is None:
                one.kill()
    assert [sorted(pair) for pair in zip(*told, strict=True)] == [["failed", "held"]] * ROUNDS


def free_ports(count: int) -> list[str]:
    """Ports that nobody listens on yet."""
    with contextlib.ExitStack() as stack:
        return [str(stack.enter_context(bound(LOOPBACK)).getsockname()[1]) for _ in range(count)]

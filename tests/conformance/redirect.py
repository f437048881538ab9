"""fal's host names, led to an emulator in this process: for clients whose hosts are hard-coded https.

It knows names, addresses and trust; nothing of what is sent.
"""

import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

__all__ = ["FAL_HOSTS", "Redirect"]

FAL_HOSTS = frozenset(
    {
        "fal.run",
        "queue.fal.run",
        "rest.fal.ai",
        "v3.fal.media",
        "v3b.fal.media",
        # The backup domains (§1).
        "falrun.com",
        "queue.falrun.com",
    }
)
LOOPBACK = "127.0.0.1"
HTTPS = 443


class Redirect:
    """What this process takes fal's hosts for. All other hosts can't be reached.

    Attributes:
        unreachable: Names among FAL_HOSTS whose connections are refused.
    """

    def __init__(self, tls_port: int) -> None:
        self.unreachable: set[str] = set()
        self._tls_port = tls_port
        self._addresses = {host: f"127.0.1.{n}" for n, host in enumerate(sorted(FAL_HOSTS), start=1)}
        self._resolve = socket.getaddrinfo

    def install(self, patch: pytest.MonkeyPatch, ca_certificate: Path) -> None:
        """Puts itself in place until `patch` is undone.

        Every host has a loopback address of its own, so that a connection to it can be told apart and
        refused; connect() then exchanges the address, since anyio and asyncio's happy eyeballs keep the
        port of the URL and not the one of getaddrinfo().

        Args:
            ca_certificate: PEM file; httpx trusts it because SSL_CERT_FILE names it, as long as it trusts
                the environment, which all of fal-client's HTTP clients do.
        """
        connect = socket.socket.connect

        def redirected(sock: socket.socket, address: Any) -> None:
            connect(sock, self._address(address) if sock.family != socket.AF_UNIX else address)

        patch.setattr(socket, "getaddrinfo", self._getaddrinfo)
        patch.setattr(socket.socket, "connect", redirected)
        patch.setenv("SSL_CERT_FILE", str(ca_certificate))
        patch.setenv("no_proxy", "*")

    def refuse(self, hosts: Iterable[str]) -> None:
        """Refuses connections to these hosts from now on."""
        self.unreachable |= set(hosts)

    def _getaddrinfo(self, host: Any, *rest: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name in self._addresses:
            return self._resolve(self._addresses[name], *rest, **options)
        if name not in ("localhost", LOOPBACK, "::1", None, *self._addresses.values()):
            raise socket.gaierror(socket.EAI_NONAME, f"{name} is outside of this test")
        return self._resolve(host, *rest, **options)

    def _address(self, address: tuple[Any, ...]) -> tuple[Any, ...]:
        host, port = address[:2]
        if host in {self._addresses[name] for name in self.unreachable}:
            raise ConnectionRefusedError(f"{host}:{port} is refused by this test")
        if host in self._addresses.values() and port == HTTPS:
            return (LOOPBACK, self._tls_port)
        if host not in (LOOPBACK, "::1"):
            raise OSError(f"{host}:{port} is outside of this test")
        return address

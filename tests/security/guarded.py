"""A gateway that asks who calls: its files, and callers with and without what they need."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc
from tests.certificates import Authority
from tests.conftest import Running, running_gateway

from falrpc import v1

__all__ = ["OWNERSHIP_KEY", "TRUST_DOMAIN", "Files", "as_caller", "guarded_gateway", "reloaded"]

TRUST_DOMAIN = "prod.example"
OWNERSHIP_KEY = "an-ownership-key-of-forty-characters-000"
OPTIONS = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]


class Files:
    """The files that settings name, in a directory of the test's own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority()

    def write(self, name: str, content: str | bytes) -> str:
        """Writes a file as a whole, and returns its path."""
        path = self.directory / name
        fresh = path.with_suffix(".new")
        fresh.write_bytes(content.encode() if isinstance(content, str) else content)
        fresh.replace(path)
        return str(path)

    def remove(self, name: str) -> None:
        """Removes a file."""
        (self.directory / name).unlink()

    def tls(self, *, mutual: bool = False) -> dict[str, Any]:
        """Settings of a listener with a new certificate; with `mutual` it wants one of its clients, too."""
        settings: dict[str, Any] = self.certificate()
        if mutual:
            settings["tls_client_ca_file"] = self.write("clients.pem", self.authority.pem)
        return settings

    def certificate(self) -> dict[str, Any]:
        """Writes a new certificate for the listener."""
        key, certificate = self.authority.issue(dns=["localhost"], ips=["127.0.0.1"])
        return {
            "tls_key_file": self.write("server.key", key),
            "tls_certificate_file": self.write("server.pem", certificate),
        }

    def tokens(self, tokens: Mapping[str, str]) -> str:
        """A file of static tokens, by identity."""
        entries = [
            f'[[tokens]]\nidentity = "{identity}"\nsha256 = "{hashlib.sha256(token.encode()).hexdigest()}"\n'
            for identity, token in tokens.items()
        ]
        return self.write("tokens.toml", "\n".join(entries))

    def policy(self, text: str) -> str:
        """A policy file."""
        return self.write("policy.toml", text)

    def ownership_keys(self, *keys: str) -> str:
        """A file of keys that sign handles."""
        return self.write("ownership.keys", "\n".join(keys or [OWNERSHIP_KEY]))


@contextlib.asynccontextmanager
async def guarded_gateway(emulator_url: str, **settings: Any) -> AsyncIterator[Running]:
    """Runs a gateway in front of the emulator with these settings."""
    async with running_gateway(emulator_url=emulator_url, reload_seconds=3_600.0, **settings) as gateway:
        yield gateway


async def reloaded(gateway: Running, event: str = "reload.done", count: int = 1) -> list[dict[str, Any]]:
    """Has the gateway look at its files until so many lines of its log say what came of it."""
    async with asyncio.timeout(20):
        while len(lines := gateway.logged(event)) < count:
            gateway.gateway.reloader.look_now()
            await asyncio.sleep(0.02)
    return lines


@contextlib.asynccontextmanager
async def as_caller(
    gateway: Running, files: Files | None = None, certificate: tuple[bytes, bytes] | None = None
) -> AsyncIterator[Any]:
    """A stub with a connection of its own: over TLS with files, with a key and certificate if they are given."""
    if files is None:
        channel = grpc.aio.insecure_channel(gateway.address, options=OPTIONS)
    else:
        key, chain = certificate or (None, None)
        credentials = grpc.ssl_channel_credentials(files.authority.pem, key, chain)
        channel = grpc.aio.secure_channel(gateway.address, credentials, options=OPTIONS)
    async with channel:
        yield v1.FalServiceStub(channel)

"""Servers on loopback that break what a gateway asks of them before or beside HTTP, and names of none."""

import asyncio
import contextlib
import hashlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trustme

__all__ = ["Relay", "forget_hosts", "full_listener", "relaying", "untrusted_tls"]

BACKLOG_CONNECTIONS = 16
EOF_SECONDS_MAX = 20.0


def forget_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes name resolution fail for hosts under `.invalid`, whatever the machine's resolver would say."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *rest: Any, **options: Any) -> Any:
        if str(host).endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@contextlib.contextmanager
def full_listener() -> Iterator[str]:
    """A listener that lets nobody in, because those who wait to be let in fill its backlog; gives its URL."""
    with contextlib.ExitStack() as open_sockets:
        listener = open_sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(BACKLOG_CONNECTIONS):
            waiting = open_sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.asynccontextmanager
async def untrusted_tls() -> AsyncIterator[str]:
    """A TLS server whose certificate is signed by an authority that nobody trusts; gives its URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost", "127.0.0.1").configure_cert(context)

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}"


class Relay:
    """Passes on requests to another server, and spoils connections when they are used again.

    Attributes:
        closes_idle: Whether it closes the first connection behind its first answer, and only that one. Else
            it reads the second request of each connection whole, and closes then.
        connections: How many there were.
        swallowed: The requests that it read and did not pass on, like records of the emulator's evidence.
        idle_closed: How many connections were closed while idle, by the other side then, too.
        after_close: What the other side still wrote on them.
    """

    def __init__(self, host: str, port: int, *, closes_idle: bool) -> None:
        self.closes_idle = closes_idle
        self.url = ""
        self.swallowed: list[dict[str, Any]] = []
        self.connections = 0
        self.idle_closed = 0
        self.after_close = b""
        self._upstream = (host, port)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection."""
        self.connections += 1
        is_first, answered = self.connections == 1, 0
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while not (self.closes_idle and is_first and answered):
                head, body = await _read(reader)
                if answered and not self.closes_idle:
                    self.swallowed.append(_record(head, body))
                    break
                writer.write(await self._passed_on(head + body))
                await writer.drain()
                answered += 1
            else:
                writer.write_eof()
                async with asyncio.timeout(EOF_SECONDS_MAX):
                    self.after_close += await reader.read()
                self.idle_closed += 1
        writer.close()

    async def _passed_on(self, request: bytes) -> bytes:
        """The other server's answer to its end: it closes the connection behind it."""
        head, separator, body = request.partition(b"\r\n\r\n")
        reader, writer = await asyncio.open_connection(*self._upstream)
        writer.write(head + b"\r\nConnection: close" + separator + body)
        answer = await reader.read()
        writer.close()
        answer_head, separator, answer_body = answer.partition(b"\r\n\r\n")
        kept = [line for line in answer_head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
        return b"\r\n".join(kept) + separator + answer_body


@contextlib.asynccontextmanager
async def relaying(url: str, *, closes_idle: bool) -> AsyncIterator[Relay]:
    """Runs a relay to the server of a URL, `http://host:port`."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    relay = Relay(host, int(port), closes_idle=closes_idle)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    async with server:
        relay.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield relay


async def _read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """A request's head and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return head, await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)


def _record(head: bytes, body: bytes) -> dict[str, Any]:
    method, path = head.split(b"\r\n")[0].decode().split(" ")[:2]
    if method == "POST":
        is_run = path.startswith("/run/")
        operation = "submit" if not is_run else "stream" if path.endswith("/stream") else "run"
    else:
        operation = {"status": "status", "stream": "status_stream", "cancel": "cancel"}.get(
            path.partition("?")[0].rpartition("/")[2], "result"
        )
    return {
        "operation": operation,
        "method": method,
        "path": path,
        "body_sha256": hashlib.sha256(body).hexdigest(),
        "status": None,
    }

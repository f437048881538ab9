"""The transport on real sockets, against a server that misbehaves (docs/decisions/0002)."""

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from falrpc_server.fal_http.transport import Limits, Progress, Transport

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BRIEF = 0.3  # seconds, where the end of a wait is what is tested

Behaviour = Callable[["Connection"], Awaitable[None]]


class Connection:
    """One connection at the server: reads requests, writes whatever it is told."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, arrivals: asyncio.Semaphore
    ) -> None:
        self.reader, self.writer = reader, writer
        self._arrivals = arrivals
        self.requests: list[bytes] = []
        self.is_closed = asyncio.Event()

    async def request(self) -> bytes:
        """Reads one request, body included. Raises IncompleteReadError when the client leaves."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        body = await self.reader.readexactly(int(fields.get(b"content-length", 0)))
        if fields.get(b"transfer-encoding") == b"chunked":
            body = await self.reader.readuntil(b"0\r\n\r\n")
        self.requests.append(head + body)
        self._arrivals.release()
        return head + body

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def until_closed(self) -> None:
        while await self.reader.read(65_536):
            pass
        self.is_closed.set()


class Server:
    """A server on a free port of 127.0.0.1 that handles each connection in the same way."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.connections: list[Connection] = []
        self.url = ""
        self._arrivals = asyncio.Semaphore(0)

    async def got(self, count: int) -> None:
        """Waits until that many more requests have come."""
        for _ in range(count):
            await self._arrivals.acquire()

    @property
    def requests(self) -> list[bytes]:
        return [request for connection in self.connections for request in connection.requests]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer, self._arrivals)
        self.connections.append(connection)
        try:
            await self.behaviour(connection)
        except (asyncio.IncompleteReadError, ConnectionError):
            connection.is_closed.set()
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def serving(behaviour: Behaviour) -> AsyncIterator[Server]:
    server = Server(behaviour)
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0, limit=2**20)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        for connection in server.connections:
            connection.writer.transport.abort()


def answer(*pieces: bytes, hold: bool = False) -> Behaviour:
    """Answers every request with the pieces; then closes, or holds the connection until the client leaves."""

    async def behave(connection: Connection) -> None:
        await connection.request()
        for piece in pieces:
            await connection.write(piece)
        if hold:
            await connection.until_closed()

    return behave


async def keep_answering(connection: Connection) -> None:
    while True:
        await connection.request()
        await connection.write(OK)


async def one_answer_then_death(connection: Connection) -> None:
    """Answers once, keeps the connection, reads one more request and closes without a word."""
    await connection.request()
    await connection.write(OK)
    await connection.request()


async def send(
    transport: Transport, method: str, url: str, *, content: Any = None, read: float = 30.0, **timeout: float
) -> tuple[httpx.Response, bytes]:
    request = httpx.Request(method, url, content=content, extensions={"timeout": {"read": read, **timeout}})
    return await exchange(transport, request)


async def exchange(transport: Transport, request: httpx.Request) -> tuple[httpx.Response, bytes]:
    response = await transport.handle_async_request(request)
    try:
        return response, await response.aread()
    finally:
        await response.aclose()


async def failure(
    url: str, *, method: str = "POST", limits: Limits | None = None, read: float = 10.0
) -> tuple[type, bool]:
    """The exception that a request ends with, and whether a byte of it may have left."""
    progress = Progress()
    extensions = {"progress": progress, "timeout": {"read": read}}
    async with Transport(limits) as transport:
        request = httpx.Request(method, url, content=b"{}", extensions=extensions)
        with pytest.raises(httpx.TransportError) as caught:
            await exchange(transport, request)
    return type(caught.value), progress.connected


# The exact exception


async def test_refused(unused_port: int) -> None:
    """A refused connection is ConnectError, and nothing left."""
    assert await failure(f"http://127.0.0.1:{unused_port}/") == (httpx.ConnectError, False)


async def test_a_name_that_does_not_resolve() -> None:
    """A name without an address is ConnectError, and nothing left."""
    assert await failure("http://does-not-exist.invalid/") == (httpx.ConnectError, False)


async def test_tls_to_a_plain_port() -> None:
    """A failed TLS handshake is ConnectError, and nothing of the request left."""

    async def plain(connection: Connection) -> None:
        await connection.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await connection.until_closed()

    async with serving(plain) as server:
        url = server.url.replace("http", "https")
        assert await failure(url) == (httpx.ConnectError, False)


async def test_a_handshake_that_hangs() -> None:
    """A peer that never answers the TLS greeting is ConnectTimeout, and nothing of the request left."""

    async def silent(connection: Connection) -> None:
        await connection.until_closed()

    async with serving(silent) as server:
        url = server.url.replace("http", "https")
        limits = Limits(connect_seconds=BRIEF)
        assert await failure(url, limits=limits) == (httpx.ConnectTimeout, False)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
async def test_accepted_then_closed(method: str) -> None:
    """A server that reads the request and closes is RemoteProtocolError; it saw one request."""
    async with serving(answer()) as server:
        assert await failure(server.url, method=method) == (httpx.RemoteProtocolError, True)
        assert len(server.requests) == 1


async def test_accepted_then_reset() -> None:
    """A reset after the request was read is a read or protocol error, and bytes left."""

    async def reset(connection: Connection) -> None:
        await connection.request()
        connection.writer.transport.abort()

    async with serving(reset) as server:
        kind, left = await failure(server.url)
        assert kind in (httpx.ReadError, httpx.RemoteProtocolError)
        assert left


async def test_silence_before_the_head() -> None:
    """A server that reads the request and says nothing is ReadTimeout, and bytes left."""
    async with serving(answer(hold=True)) as server:
        assert await failure(server.url, read=BRIEF) == (httpx.ReadTimeout, True)


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", b"{"], id="length"),
        pytest.param(
            [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\n{"], id="inside-a-chunk"
        ),
        pytest.param(
            [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n{\r\n"], id="between-chunks"
        ),
        pytest.param(
            [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"x\r\n"], id="bad-chunk-size"
        ),
    ],
)
async def test_truncated_bodies(pieces: list[bytes]) -> None:
    """A body that its framing proves incomplete is RemoteProtocolError."""
    async with serving(answer(*pieces)) as server:
        assert await failure(server.url) == (httpx.RemoteProtocolError, True)


async def test_silence_within_the_body() -> None:
    """Silence in the middle of a body is ReadTimeout."""
    async with serving(answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{", hold=True)) as server:
        assert await failure(server.url, read=BRIEF) == (httpx.ReadTimeout, True)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"SSH-2.0-OpenSSH\r\n\r\n", id="not-http"),
        pytest.param(b"HTTP/1.1 abc OK\r\n\r\n", id="status-of-letters"),
        pytest.param(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", id="header-without-colon"),
        pytest.param(b"\x00\x01\x02\r\n\r\n", id="bytes"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", id="negative-length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", id="endless-header"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: y", id="cut-head"),
    ],
)
async def test_garbage_heads(head: bytes) -> None:
    """An answer that is no HTTP is RemoteProtocolError, and bytes left."""
    async with serving(answer(head)) as server:
        assert await failure(server.url) == (httpx.RemoteProtocolError, True)


async def test_waiting_for_a_free_connection() -> None:
    """When every connection is taken for too long it is PoolTimeout, and nothing left."""
    limits = Limits(connections=1, connect_seconds=0.1, pool_seconds=0.1)
    async with serving(answer(hold=True)) as server, Transport(limits) as transport:
        first = asyncio.create_task(send(transport, "POST", server.url))
        await server.got(1)
        progress = Progress()
        request = httpx.Request("POST", server.url, content=b"{}", extensions={"progress": progress})
        with pytest.raises(httpx.PoolTimeout):
            await transport.handle_async_request(request)
        assert not progress.connected
        first.cancel()
        await asyncio.wait([first])


@pytest.mark.parametrize("limits", [Limits(connections=1, connect_seconds=60.0, pool_seconds=0.1)])
async def test_the_pools_limit_is_its_own(limits: Limits) -> None:
    """Waiting for a free connection ends after pool_seconds, however long connecting may take."""
    async with serving(answer(hold=True)) as server, Transport(limits) as transport:
        first = asyncio.create_task(send(transport, "POST", server.url))
        await server.got(1)
        with pytest.raises(httpx.PoolTimeout):
            async with asyncio.timeout(20):
                await transport.handle_async_request(httpx.Request("POST", server.url, content=b"{}"))
        first.cancel()
        await asyncio.wait([first])


# What it does not do


async def test_large_response_headers() -> None:
    """Header lines of up to 16 KB are read, as fal allows them."""
    value = b"x" * 16_000
    head = b"HTTP/1.1 200 OK\r\nX-Fal-Runner-Hints: " + value + b"\r\nContent-Length: 2\r\n\r\nok"
    async with serving(answer(head)) as server, Transport() as transport:
        response, body = await send(transport, "GET", server.url)
    assert response.headers["x-fal-runner-hints"] == value.decode()
    assert body == b"ok"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    """A redirect is an answer, and its target never hears of us."""
    async with serving(keep_answering) as target:
        head = f"HTTP/1.1 {status} Elsewhere\r\nLocation: {target.url}/x\r\nContent-Length: 0\r\n\r\n"
        async with serving(answer(head.encode())) as server, Transport() as transport:
            response, _ = await send(transport, "POST", server.url, content=b"{}")
        assert response.status_code == status
        assert target.connections == []


async def test_cookies_are_not_kept() -> None:
    """A cookie that one answer sets is not sent with the next request."""

    async def set_cookie(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.write(OK.replace(b"\r\n", b"\r\nSet-Cookie: a=b; Path=/\r\n", 1))

    async with serving(set_cookie) as server, Transport() as transport:
        for _ in range(2):
            await send(transport, "GET", server.url.replace("127.0.0.1", "localhost"))
        assert len(server.requests) == 2
        assert all(b"cookie" not in request.lower() for request in server.requests)


async def test_the_environments_proxies_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxy variables do not make the key go elsewhere."""
    async with serving(keep_answering) as proxy, serving(keep_answering) as server:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with Transport() as transport:
            await send(transport, "GET", server.url)
        assert (len(server.requests), proxy.connections) == (1, [])


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
async def test_nothing_is_repeated_on_a_dead_connection(method: str) -> None:
    """A request that meets a dying kept-alive connection fails, and is not sent a second time."""
    async with serving(one_answer_then_death) as server, Transport() as transport:
        await send(transport, "GET", server.url)
        progress = Progress()
        request = httpx.Request(method, server.url, content=b"{}", extensions={"progress": progress})
        with pytest.raises(httpx.RemoteProtocolError):
            await transport.handle_async_request(request)
        await asyncio.sleep(0.05)
        assert len(server.requests) == 2
        assert progress.connected


async def test_gzip_is_not_decoded() -> None:
    """Compressed bytes come out as they came in, so that no bomb goes off here."""
    body = gzip.compress(b"x" * 10_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with serving(answer(head + body)) as server, Transport() as transport:
        request = httpx.Request("GET", server.url)
        response = await transport.handle_async_request(request)
        async with contextlib.aclosing(response):
            pieces = [piece async for piece in response.stream]
    assert b"".join(pieces) == body


async def test_headers_and_body_arrive_as_given() -> None:
    """The server gets exactly our headers and bytes: nothing of the engine's own is added."""
    async with serving(keep_answering) as server, Transport() as transport:
        request = httpx.Request(
            "POST", f"{server.url}/a/b?c=d%2Fe", headers=[("X-One", "1")], content=b'{"a":1e3}'
        )
        async with contextlib.aclosing(await transport.handle_async_request(request)) as response:
            await response.aread()
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /a/b?c=d%2Fe HTTP/1.1"
    names = {line.split(b":")[0].lower() for line in lines[1:]}
    assert names <= {
        b"host",
        b"x-one",
        b"content-length",
        b"accept",
        b"accept-encoding",
        b"connection",
        b"user-agent",
    }
    assert body == b'{"a":1e3}'


async def test_an_empty_put_declares_its_length() -> None:
    """A PUT without body says Content-Length: 0 (§7.7)."""
    async with serving(keep_answering) as server, Transport() as transport:
        await send(transport, "PUT", server.url, content=b"")
        assert b"content-length: 0" in server.requests[0].lower()


async def test_a_streamed_body_of_known_length_is_not_chunked() -> None:
    """Signed PUTs refuse chunks: a declared length is kept for a body that comes in pieces."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b"abc"
        yield b"de"

    async with serving(keep_answering) as server, Transport() as transport:
        request = httpx.Request("PUT", server.url, headers={"Content-Length": "5"}, content=chunks())
        async with contextlib.aclosing(await transport.handle_async_request(request)) as response:
            await response.aread()
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert body == b"abcde"


# Connections


async def test_connections_are_reused() -> None:
    """Answers that were read to their end give their connection back."""
    async with serving(keep_answering) as server, Transport() as transport:
        for _ in range(3):
            await send(transport, "GET", server.url)
        assert len(server.connections) == 1


async def test_closing_a_response_closes_its_connection() -> None:
    """A response that is closed half-way is cut, so that fal sees at once that nobody listens."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
    async with serving(answer(head, hold=True)) as server, Transport() as transport:
        response = await transport.handle_async_request(httpx.Request("GET", server.url))
        pieces = response.stream.__aiter__()
        assert await anext(pieces) == b"x"
        await pieces.aclose()
        await response.aclose()
        async with asyncio.timeout(20):
            await server.connections[0].is_closed.wait()


@pytest.mark.parametrize("rounds", [1, 2])
async def test_cancelled_requests_give_their_slots_back(rounds: int) -> None:
    """Twenty requests cancelled at once, once or twice, hold no connection afterwards."""
    limits = Limits(connections=5, connect_seconds=10.0, pool_seconds=10.0)
    async with (
        serving(answer(hold=True)) as hanging,
        serving(keep_answering) as server,
        Transport(limits) as transport,
    ):
        tasks = [asyncio.create_task(send(transport, "POST", hanging.url, content=b"{}")) for _ in range(20)]
        await hanging.got(5)
        for _ in range(rounds):
            for task in tasks:
                task.cancel()
            await asyncio.sleep(0)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        async with asyncio.timeout(20):
            answers = await asyncio.gather(*(send(transport, "GET", server.url) for _ in range(20)))
        assert [response.status_code for response, _ in answers] == [200] * 20
        async with asyncio.timeout(20):
            for connection in hanging.connections:
                await connection.is_closed.wait()


async def test_a_closed_transport_refuses() -> None:
    """Outside of its context the transport sends nothing."""
    with pytest.raises(RuntimeError):
        await Transport().handle_async_request(httpx.Request("GET", "http://127.0.0.1/"))

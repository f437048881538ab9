"""The one way to fal: an httpx transport with aiohttp's engine.

It gives httpx's requests, responses and exceptions over aiohttp's connection pool, because httpx's own
pool slows down with every connection and loses slots to cancelled calls, and because every ready-made
bridge calls "accepted, then closed" a connect timeout (docs/decisions/0002-http-engine.md). It knows
nothing of fal's API.

Each failure carries the one fact that decides about paid work: whether a byte of the request may have
left. A request that brings a `Progress` in `extensions["progress"]` finds it there.
"""

import asyncio
import errno
import io
import ssl
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from types import SimpleNamespace, TracebackType
from typing import Any

import aiohttp
import httpx
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from falrpc_server.fal_http.connector import Connector
from falrpc_server.fal_http.resolver import Resolver

__all__ = ["Limits", "Progress", "Transport"]

# This machine has no connection to give: like a pool that is empty, and no failure of the other side's.
_OWN_SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})

READ_CHUNK_BYTES = 256 * 1024
LARGE_BODY_BYTES = 256 * 1024
HEADER_LINE_BYTES_MAX = 16 * 1024  # fal's own limit for an app's response headers, §5


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the connection pool.

    Attributes:
        connections, connections_per_host: Open at once, in all and to one host.
        connect_seconds: For name resolution, connecting and TLS together.
        pool_seconds: For the wait until a connection may be opened or used again.
        keepalive_seconds: How long an idle connection is kept: shorter than any load balancer does, since
            one that closes just as a request arrives leaves a paid request in doubt.
    """

    connections: int = 16_384
    connections_per_host: int = 8_192
    connect_seconds: float = 5.0
    pool_seconds: float = 10.0
    keepalive_seconds: float = 15.0


@dataclass(slots=True)
class Progress:
    """How far a request came.

    Attributes:
        connecting: A connection was being made, so the request was not waiting for a free one.
        connected: The request had a connection. From here on a byte may have left.
    """

    connecting: bool = False
    connected: bool = False


@dataclass(slots=True)
class _Way:
    """A request's way to its connection: how long each part may take."""

    progress: Progress
    connect_seconds: float
    timeout: asyncio.Timeout


class Transport(httpx.AsyncBaseTransport):
    """httpx requests over aiohttp's connections.

    No redirects, cookies, decompression, environment proxies or repeats of its own. Must be entered
    (`async with`) on the event loop that uses it.
    """

    def __init__(
        self, limits: Limits | None = None, tls: ssl.SSLContext | None = None, proxy_url: str = ""
    ) -> None:
        """Goes through the HTTP proxy at `proxy_url` when there is one."""
        self._limits = limits or Limits()
        self._tls = tls
        self._proxy_url = proxy_url or None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Transport":
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_start.append(_connecting)
        trace.on_connection_create_end.append(_connected)
        trace.on_connection_reuseconn.append(_connected)
        session = aiohttp.ClientSession(
            connector=Connector(
                resolver=Resolver(patience_seconds=min(2.0, self._limits.connect_seconds / 2)),
                limit=self._limits.connections,
                limit_per_host=self._limits.connections_per_host,
                keepalive_timeout=self._limits.keepalive_seconds,
                ssl=self._tls or True,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            trace_configs=[trace],
            max_line_size=HEADER_LINE_BYTES_MAX,
            max_field_size=HEADER_LINE_BYTES_MAX,
            read_bufsize=READ_CHUNK_BYTES,
            skip_auto_headers=("User-Agent", "Accept-Encoding", "Accept", "Content-Type"),
        )
        # aiohttp repeats a GET or PUT by itself when a kept-alive connection turns out dead. What is
        # sent again is decided in one place (retry.py). There is no public switch.
        session._retry_connection = False
        self._session = session
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes all connections."""
        if self._session:
            await self._session.close()
            self._session = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends a request and returns the response with its head read.

        Raises an httpx.TransportError; when `extensions["progress"].connected` is still false then,
        no byte of the request left. `extensions["timeout"]["read"]` bounds each silence.
        """
        if self._session is None:
            raise RuntimeError("the transport is not open")
        progress: Progress = request.extensions.setdefault("progress", Progress())
        timeout = request.extensions.get("timeout", {})
        connect = timeout.get("connect", self._limits.connect_seconds)
        pool = timeout.get("pool", self._limits.pool_seconds)
        try:
            # aiohttp has one limit for waiting and connecting together; we have one for each.
            async with asyncio.timeout(pool) as waiting:
                response = await self._session.request(
                    request.method,
                    URL(str(request.url), encoded=True),
                    headers=request.headers.multi_items(),
                    data=_body(request),
                    allow_redirects=False,
                    proxy=self._proxy_url,
                    timeout=aiohttp.ClientTimeout(total=None, sock_read=timeout.get("read")),
                    trace_request_ctx=_Way(progress, connect, waiting),
                )
        except Exception as error:
            if kind := _kind(error, progress):
                raise kind(_name(error), request=request) from error
            raise
        return httpx.Response(
            response.status,
            headers=list(response.raw_headers),
            stream=_Body(response, progress, request),
            request=request,
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": (response.reason or "").encode()},
        )


class _Body(httpx.AsyncByteStream):
    """A response's body as it comes in."""

    def __init__(self, response: aiohttp.ClientResponse, progress: Progress, request: httpx.Request) -> None:
        self._response = response
        self._progress = progress
        self._request = request

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        try:
            while chunk := await self._response.content.readany():
                yield chunk
        except Exception as error:
            # What came before the connection broke is handed on first; aiohttp would drop it. There is
            # no public way to read on past its exception.
            if rest := self._response.content._read_nowait(-1):
                yield rest
            if kind := _kind(error, self._progress):
                # The reader keeps the error, and with its traceback all that its frames name: a ring that
                # only a full garbage collection would find.
                raise kind(_name(error), request=self._request) from error.with_traceback(None)
            raise

    async def aclose(self) -> None:
        # A response that was read to its end has given its connection back; any other one is cut, so
        # that fal sees at once that nobody listens.
        self._response.close()


def _body(request: httpx.Request) -> Any:
    """The body as aiohttp takes it: bytes, a file when they are many, or an asynchronous iterator."""
    try:
        content = request.content
    except httpx.RequestNotRead:
        return request.stream
    # A file is written piece by piece, so that a large body does not hold up the event loop.
    return io.BytesIO(content) if len(content) > LARGE_BODY_BYTES else content or None


async def _connecting(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    way: _Way = context.trace_request_ctx
    way.progress.connecting = True
    way.timeout.reschedule(asyncio.get_running_loop().time() + way.connect_seconds)


async def _connected(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    way: _Way = context.trace_request_ctx
    way.progress.connected = True
    way.timeout.reschedule(None)


def _name(error: Exception) -> str:
    """What an error may say in a log: the engine's own words repeat URLs and header bytes."""
    reason = error.strerror if isinstance(error, OSError) else None
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__


def _kind(error: Exception, progress: Progress) -> type[httpx.TransportError] | None:
    """The httpx exception that says the same; None for what is not the engine's."""
    if not progress.connected:
        if isinstance(error, aiohttp.InvalidURL):
            return httpx.UnsupportedProtocol
        if isinstance(error, asyncio.TimeoutError):
            return httpx.ConnectTimeout if progress.connecting else httpx.PoolTimeout
        if isinstance(error, OSError) and error.errno in _OWN_SHORTAGE:
            return httpx.PoolTimeout
        if isinstance(error, aiohttp.ClientError | OSError):
            return httpx.ConnectError
        return None
    if isinstance(error, asyncio.TimeoutError):
        return httpx.ReadTimeout
    if isinstance(error, aiohttp.ClientConnectionResetError):  # raised by writes only
        return httpx.WriteError
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError):
        return httpx.RemoteProtocolError
    if isinstance(error, aiohttp.ClientResponseError | HttpProcessingError):
        return httpx.RemoteProtocolError
    if isinstance(error, aiohttp.ClientError | OSError):
        return httpx.ReadError
    return None

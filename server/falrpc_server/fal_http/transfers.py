"""Bytes of files on their way to fal's file storage, through the funnel (exchange.py).

It knows how long a body may take and what of it can be sent again, and nothing of where it goes.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from falrpc_server.fal_http import answers
from falrpc_server.fal_http.client import ENVELOPE_BYTES_MAX, Bounds
from falrpc_server.fal_http.error_bodies import Failure, FalError
from falrpc_server.fal_http.exchange import Exchanges
from falrpc_server.fal_http.incoming import About, Answer
from falrpc_server.fal_http.models import Scope
from falrpc_server.fal_http.wire import Request

__all__ = ["Piece", "Transfers", "read", "taken_once"]

SLICE_BYTES = 256 * 1024

Piece = bytes | bytearray
"""Some bytes of a file, in order with others."""

_T = TypeVar("_T")


class Transfers:
    """Requests with and without files' bytes. Every method raises FalError."""

    def __init__(self, exchanges: Exchanges, bounds: Bounds) -> None:
        self._exchanges = exchanges
        self._bounds = bounds

    async def brief(self, request: Request, about: About, scope: Scope) -> Answer:
        """Sends a request without a file's bytes."""
        return await self._fetch(request, about, scope, None, self._bounds.exchange_seconds_max)

    async def pieces(self, request: Request, about: About, pieces: Iterable[Piece], scope: Scope) -> Answer:
        """Sends bytes that are at hand, and sends them again when that may help."""
        body = partial(_slices, pieces)
        return await self._fetch(request, about, scope, body, self._bounds.exchange_seconds_max)

    async def as_they_come(
        self, request: Request, about: About, chunks: AsyncIterator[bytes], scope: Scope
    ) -> Answer:
        """Sends bytes as they come. They are read once, so nothing is sent again."""
        idle = self._bounds.read_idle_seconds
        try:
            async with asyncio.timeout(None) as unread:
                return await self._fetch(request, about, scope, _watched(chunks, unread, idle), None)
        except TimeoutError as error:
            if not unread.expired():
                raise
            raise about.failed(Failure.INTERRUPTED, f"bytes left unread for {idle:g} s") from error

    async def _fetch(
        self,
        request: Request,
        about: About,
        scope: Scope,
        chunks: AsyncIterator[bytes] | Callable[[], AsyncIterator[bytes]] | None,
        total_seconds: float | None,
    ) -> Answer:
        return await self._exchanges.fetch(
            request,
            about,
            scope,
            idle_seconds=self._bounds.read_idle_seconds,
            bytes_max=ENVELOPE_BYTES_MAX,
            total_seconds=total_seconds,
            chunks=chunks,
        )


@contextmanager
def taken_once(about: About) -> Iterator[None]:
    """For what fal takes once: refused when it was sent again, it may have been taken the first time."""
    try:
        yield
    except FalError as error:
        if about.resends and 400 <= error.http_status < 500:
            cause = f"sent again, then HTTP {error.http_status}"
            raise about.failed(Failure.INTERRUPTED, cause) from error
        raise


def read(reader: Callable[[], _T], answer: Answer, about: About) -> _T:
    """What an answer says. Raises FalError when it breaks the envelope."""
    try:
        return reader()
    except answers.Malformed as error:
        raise about.failed(Failure.MALFORMED, str(error), answer.status) from error


async def _slices(pieces: Iterable[Piece]) -> AsyncGenerator[bytes]:
    for piece in pieces:
        for part in _cut(piece):
            yield part


def _cut(piece: Piece) -> Iterator[bytes]:
    """Slices of bounded size, none of them copied: the transport takes whatever has bytes."""
    view = memoryview(piece)
    for start in range(0, len(view), SLICE_BYTES):
        yield view[start : start + SLICE_BYTES]  # type: ignore[misc]


async def _watched(
    chunks: AsyncIterator[bytes], unread: asyncio.Timeout, seconds: float
) -> AsyncGenerator[bytes]:
    """Slices of the chunks; time runs while one is not taken. (aiohttp's own limit begins after the body.)"""
    clock = asyncio.get_running_loop().time
    async for chunk in chunks:
        for part in _cut(chunk):
            unread.reschedule(clock() + seconds)
            yield part
            unread.reschedule(None)

"""An upstream whose answers end where the request says: after as many bytes as the last number in its path."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.unit.test_transport import Connection, Server, serving

__all__ = ["FRAMINGS", "at", "cutting", "framed"]

FRAMINGS = ("content-length", "chunked", "neither")

_CUT = re.compile(rb"at-(\d+)")


def framed(body: bytes, framing: str) -> bytes:
    """A 200 with that body: with its length, in two chunks, or ended by the end of the connection."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    if framing == "content-length":
        return head + b"content-length: %d\r\n\r\n" % len(body) + body
    if framing == "chunked":
        half = len(body) // 2
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:]))
        return head + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    return head + b"connection: close\r\n\r\n" + body


def at(place: int) -> str:
    """What an endpoint id or request id holds so that its answer is cut there."""
    return f"at-{place}"


@asynccontextmanager
async def cutting(answer: bytes) -> AsyncIterator[Server]:
    """Runs the upstream: it reads each request, sends the answer up to the cut, and closes."""

    async def behave(connection: Connection) -> None:
        request = await connection.request()
        place = _CUT.search(request.partition(b"\r\n")[0])
        await connection.write(answer[: int(place[1])] if place else answer)

    async with serving(behave) as server:
        yield server

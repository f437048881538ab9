"""A receiver of webhooks on a real socket, and what tests ask of deliveries (fal-http-api.md §11)."""

import asyncio
import contextlib
import traceback
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from falrpc_server.emulator.answers import Answer
from falrpc_server.emulator.clock import Clock
from falrpc_server.emulator.ids import Ids
from falrpc_server.emulator.signing import Signer
from falrpc_server.emulator.webhooks import Delivery, Webhooks

HOUR = 3600.0
STANDING = 0.0001  # a clock so slow that only advance() moves it


def reply(status: int, headers: str = "") -> bytes:
    """A receiver's answer without a body."""
    return f"HTTP/1.1 {status} X\r\n{headers}content-length: 0\r\n\r\n".encode()


@dataclass(frozen=True)
class Received:
    """A request as it arrived."""

    line: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """An HTTP server that answers with the bytes of its script, the last ones again and again.

    Where there are no bytes it closes the connection.

    Attributes:
        delay_seconds: How long each answer takes, at most until `answer_now`.
        open_max: How many requests were unanswered at once.
    """

    def __init__(self, *script: bytes, delay_seconds: float = 0.0) -> None:
        self.received: list[Received] = []
        self.url = ""
        self.open_max = 0
        self._open = 0
        self._script = list(script)
        self._delay_seconds = delay_seconds
        self._ends = asyncio.Event()
        self._handlers: set[asyncio.Task[Any]] = set()

    @contextlib.asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator["Receiver"]:
        """Listens on loopback."""
        server = await asyncio.start_server(self._handle, "127.0.0.1", port)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook?a=%20b"
        try:
            yield self
        finally:
            server.close()
            self.answer_now()
            await asyncio.gather(*self._handlers)

    def answer_now(self) -> None:
        """Ends all delays, those to come too."""
        self._ends.set()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.split(": ", 1) for line in head[1:-2])
            body = await reader.readexactly(int(headers["Content-Length"]))
            self._open += 1
            self.open_max = max(self.open_max, self._open)
            self.received.append(Received(head[0], headers, body))
            answer = self._script.pop(0) if len(self._script) > 1 else self._script[0]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._delay_seconds):
                    await self._ends.wait()
            self._open -= 1
            writer.write(answer)
            await writer.drain()
            if answer:
                await reader.read()  # until the other side closes
        self._handlers.discard(task)
        writer.close()


@contextlib.asynccontextmanager
async def webhooks(
    clock: Clock, *, allow_loopback: bool = True, signer: Signer | None = None
) -> AsyncIterator[Webhooks]:
    """Webhooks that are closed at the end and made no mistake of their own until then."""
    mistakes: list[str] = []
    one = opened(clock, mistakes, allow_loopback=allow_loopback, signer=signer)
    try:
        yield one
    finally:
        await one.close()
    assert mistakes == []


def opened(
    clock: Clock, mistakes: list[str], *, allow_loopback: bool = True, signer: Signer | None = None
) -> Webhooks:
    """Webhooks that note their own mistakes in a list; whoever asks for them closes them."""
    return Webhooks(
        clock,
        signer or Signer(Ids()),
        allow_loopback=allow_loopback,
        mistake=lambda: mistakes.append(traceback.format_exc()),
    )


def news(body: bytes = b'{"seed":1}', status: int = 200, expires_after_seconds: float = HOUR) -> Delivery:
    """The news of a request that ended so."""
    return Delivery("request-1", "attempt-2", "user-3", Answer(status, body), expires_after_seconds)


async def until(is_so: Callable[[], Any]) -> None:
    """Waits until something is so."""
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.002)


async def ended(one: Webhooks) -> dict[str, Any]:
    """The report of the only delivery, once it is over."""
    await until(lambda: one.report()[0]["outcome"] != "pending")
    (record,) = one.report()
    return record


async def attempts(one: Webhooks, count: int) -> None:
    """Waits until so many attempts have ended, or the delivery has."""
    await until(lambda: len(one.report()[0]["attempts"]) >= count or one.report()[0]["outcome"] != "pending")

"""A file storage on loopback that does with each request what it is told.

It answers like fal's (docs/fal-http-api.md §10.6, §10.7) unless told otherwise, and knows what it has stored.
"""

import asyncio
import contextlib
import hashlib
import json
import socket
import struct
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["MIB", "WAIT_SECONDS_MAX", "Act", "Asked", "Store", "eventually", "stored", "storing"]

MIB = 1024 * 1024
PIECE_BYTES = 64 * 1024
WAIT_SECONDS_MAX = 30.0  # for what comes at once, or never


@dataclass(frozen=True, slots=True)
class Act:
    """What the storage does with a request.

    Attributes:
        status: What it answers. Only what is answered 2xx, or not answered at all, takes effect.
        reads_bytes: How much of the body it reads; None for all of it.
        ending: Whether it answers, resets or closes the connection instead, or does neither until it is over.
        when: What it waits for before its ending, with the whole body read.
        has_effect: Whether a request that it has read whole is done although it is not answered.
        answers: What it answers an initiation with, instead of its own URL.
    """

    status: int = 200
    reads_bytes: int | None = None
    ending: Literal["answer", "reset", "close", "hang"] = "answer"
    when: Callable[[], Awaitable[Any]] | None = None
    has_effect: bool = False
    answers: str | None = None


@dataclass(slots=True)
class Asked:
    """A request that came.

    Attributes:
        what: `initiate`, `initiate-multipart`, `put`, `part 1` and so on, `complete`.
        file: The number of the file.
        body_bytes: How much of its body was read.
        is_whole: Whether that was all of it.
        is_cut: Whether the other side closed the connection before it was answered.
    """

    what: str
    file: str
    length: int
    body: bytearray = field(default_factory=bytearray)
    is_whole: bool = False
    is_cut: bool = False


class Store:
    """The storage.

    Attributes:
        url: Its base URL, that of an emulator for a gateway.
        asked: All requests, oldest first.
        files: The SHA-256 of each completed file.
        connections: How many were made.
        open_requests: How many requests are not over.
    """

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self.files: list[bytes] = []
        self.connections = 0
        self.open_requests = 0
        self._over = asyncio.Event()
        self._named = 0
        self._acts: dict[str, list[Act]] = defaultdict(list)
        self._always: dict[str, Act] = {}
        self._parts: dict[str, dict[int, bytes]] = defaultdict(dict)
        self._completed: set[str] = set()

    def will(self, what: str, *acts: Act) -> None:
        """Does so with the next requests of a kind, one after the other."""
        self._acts[what] += acts

    def always(self, what: str, act: Act) -> None:
        """Does so with all requests of a kind."""
        self._always[what] = act

    def behaves(self) -> None:
        """Ends all that hangs, and does as it should from now on."""
        self._acts.clear()
        self._always.clear()
        self._over.set()

    def forget(self) -> None:
        """Forgets what was asked and stored."""
        self.asked.clear()
        self.files.clear()

    def all(self, what: str) -> list[Asked]:
        """The requests of a kind."""
        return [one for one in self.asked if one.what == what]

    async def came(self, what: str, count: int = 1, *, whole: bool = True) -> None:
        """Waits until so many requests of a kind have come, whole or just begun."""
        await eventually(lambda: sum(one.is_whole or not whole for one in self.all(what)) >= count)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection."""
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                asked = _asked(await reader.readuntil(b"\r\n\r\n"))
                self.asked.append(asked)
                self.open_requests += 1
                try:
                    if not await self._do(asked, reader, writer):
                        break
                except ConnectionError:
                    asked.is_cut = True
                    break
                finally:
                    self.open_requests -= 1
        writer.close()

    async def _do(self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Does with a request what it is told. Returns whether the connection may be used again."""
        acts = self._acts[asked.what]
        act = acts.pop(0) if acts else self._always.get(asked.what, Act())
        wanted = asked.length if act.reads_bytes is None else min(act.reads_bytes, asked.length)
        while len(asked.body) < wanted:
            piece = await reader.read(min(PIECE_BYTES, wanted - len(asked.body)))
            if not piece:
                raise ConnectionError
            asked.body += piece
        asked.is_whole = len(asked.body) == asked.length
        if act.when:
            await _unless_closed(act.when(), reader)
        status, body, headers = act.status, b"", ""
        if asked.is_whole and (act.has_effect or (act.ending == "answer" and act.status < 300)):
            status, body, headers = self._done(asked, act)
        if act.ending == "hang":
            if asked.is_whole:
                await _unless_closed(self._over.wait(), reader)
            await self._over.wait()  # who does not read does not notice either
            while await reader.read(PIECE_BYTES):
                pass
            return False
        if act.ending == "reset":
            _reset(writer)
            return False
        if act.ending == "close":
            return False
        head = f"HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\n{headers}"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        await reader.readexactly(asked.length - len(asked.body))
        return True

    def _done(self, asked: Asked, act: Act) -> tuple[int, bytes, str]:
        """Does what was asked for. Returns status, body and more headers."""
        kind, _, number = asked.what.partition(" ")
        match kind:
            case "initiate" | "initiate-multipart":
                self._named += 1
                name = str(self._named)
                own = f"{self.url}/files/{name}?signature=s"
                target = own if act.answers is None else act.answers
                said = {"upload_url": target, "file_url": f"https://v3.fal.media/files/{name}"}
                return act.status, json.dumps(said).encode(), ""
            case "put":
                self.files.append(hashlib.sha256(asked.body).digest())
            case "part":
                self._parts[asked.file][int(number)] = bytes(asked.body)
                return act.status, b"", f'ETag: "part-{number}"\r\n'
            case "complete":
                if asked.file in self._completed:
                    return act.status, b"{}", ""
                self._completed.add(asked.file)
                parts = self._parts.pop(asked.file)
                listed = [(one["partNumber"], one["etag"]) for one in json.loads(asked.body)["parts"]]
                assert listed == [(one, f'"part-{one}"') for one in sorted(parts)]
                self.files.append(hashlib.sha256(b"".join(parts[one] for one in sorted(parts))).digest())
        return act.status, b"{}", ""


@contextlib.asynccontextmanager
async def storing() -> AsyncIterator[Store]:
    """Runs a storage on a free port."""
    store = Store()
    with socket.socket() as listener:
        # A small window, so that bytes that are not read are soon not sent either.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE_BYTES)
        listener.bind(("127.0.0.1", 0))
        server = await asyncio.start_server(store.serve, sock=listener, limit=PIECE_BYTES)
        async with server:
            store.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            try:
                yield store
            finally:
                store.behaves()


def stored(store: Store) -> bool:
    """Whether anything became a file, or was asked to become one of parts."""
    return bool(store.files or store.all("complete"))


async def eventually(is_so: Callable[[], Any], what: Any = "it did not come") -> None:
    """Waits until it is so."""
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS_MAX
    while not is_so():
        assert asyncio.get_running_loop().time() < deadline, what() if callable(what) else what
        await asyncio.sleep(0.005)


def _asked(head: bytes) -> Asked:
    first, *lines = head.decode().split("\r\n")
    method, target, _ = first.split(" ")
    path = target.partition("?")[0]
    lengths = [line for line in lines if line.lower().startswith("content-length:")]
    length = int(lengths[0].split(":")[1]) if lengths else 0
    if "/storage/upload/" in path:
        return Asked(path.rpartition("/")[2], "", length)
    _, _, file, *rest = path.split("/")
    if not rest:
        return Asked("put", file, length)
    return Asked("complete" if method == "POST" else f"part {rest[0]}", file, length)


async def _unless_closed(waiting: Awaitable[Any], reader: asyncio.StreamReader) -> None:
    """Waits; raises ConnectionError when the other side closes meanwhile."""
    task = asyncio.ensure_future(waiting)
    closed = asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait({task, closed}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ConnectionError
        await task
    finally:
        for one in (task, closed):
            one.cancel()
        await asyncio.gather(task, closed, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Ends a connection with a reset."""
    now = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
    writer.transport.abort()

"""A file's chunks, checked against what their sender declared, and cut into parts of bounded memory.

It knows sizes, hashes and the memory that all uploads share, and nothing of where parts go.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from falrpc_server.fal_http.byte_budget import ByteBudget
from falrpc_server.fal_http.transfers import Piece
from falrpc_server.fal_http.upload_errors import UploadMismatch, UploadStalled, UploadTooLarge

__all__ = ["CheckedChunks", "Part", "Parts"]

HEAD_BYTES = 256 * 1024  # a file that is no larger needs no grant of a whole part
SMALL_BYTES_MAX = 64 * 1024

OTHER_BYTES = "is not the SHA-256 of the bytes that came"


class CheckedChunks:
    """Passes a file's chunks on. Raises UploadMismatch where they are not what was declared, UploadTooLarge.

    The last chunk is passed on only when the whole is right, so that a file that is not what its sender said
    is never whole elsewhere.
    """

    def __init__(
        self, chunks: AsyncIterator[bytes], *, size: int | None, sha256: bytes, bytes_max: int
    ) -> None:
        """
        Args:
            chunks: The bytes.
            size: How many there should be; None: not declared.
            sha256: Their digest; empty: not declared.
            bytes_max: How many there may be.
        """
        self._chunks = chunks
        self._size = size
        self._sha256 = sha256
        self._bytes_max = bytes_max
        self._hash = hashlib.sha256()
        self.is_whole = False
        """Whether all of it was checked, and the last of it is being handed on."""
        self.received = 0
        self.failure: Exception | None = None
        """Why the chunks ended before their end: whoever sends them on may only see that they did."""

    @property
    def digest(self) -> bytes:
        """The SHA-256 of what has come."""
        return self._hash.digest()

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        try:
            async with aclosing(self._checked()) as chunks:
                async for chunk in chunks:
                    yield chunk
        except Exception as error:
            self.failure = error
            raise

    async def _checked(self) -> AsyncGenerator[bytes]:
        held = b""
        async for chunk in self._chunks:
            if not chunk:
                continue  # it would push the real last one out before the whole is checked
            self.received += len(chunk)
            self._check_size(is_all=False)
            self._hash.update(chunk)
            if held:
                yield held
            held = chunk
        self._check_size(is_all=True)
        if self._sha256 and self._sha256 != self.digest:
            raise UploadMismatch("header.sha256", OTHER_BYTES)
        if not held:
            raise UploadMismatch("chunk", "is required: an empty file is none")
        self.is_whole = True
        yield held

    def _check_size(self, *, is_all: bool) -> None:
        if self._size is not None:
            if self.received > self._size:
                raise UploadMismatch("header.size", f"says {self._size} bytes and more came")
            if is_all and self.received < self._size:
                raise UploadMismatch("header.size", f"says {self._size} bytes and {self.received} came")
        elif self.received > self._bytes_max:
            raise UploadTooLarge(self._bytes_max, is_declared=False)


@dataclass(slots=True)
class Part:
    """A part of a file in memory.

    Attributes:
        number: From 1 on.
        pieces: Its bytes, as they came: they are not copied into one.
        size: How many.
        is_last: Whether the file ends with it.
    """

    number: int
    pieces: list[Piece] = field(default_factory=list)
    size: int = 0
    is_last: bool = False

    def add(self, piece: memoryview) -> None:
        """Takes bytes. Small pieces are joined: a million of single bytes would be a lot of memory."""
        self.size += len(piece)
        last = self.pieces[-1] if self.pieces else None
        if isinstance(last, bytearray) and len(last) + len(piece) <= SMALL_BYTES_MAX:
            last += piece
        elif len(piece) < SMALL_BYTES_MAX:
            self.pieces.append(bytearray(piece))
        else:
            whole = piece.obj
            is_whole = isinstance(whole, bytes) and len(whole) == len(piece)
            self.pieces.append(whole if is_whole else bytes(piece))  # type: ignore[arg-type] # is_whole says so


class Parts:
    """Cuts chunks into parts, each in memory that the budget has granted before its bytes are read.

    So a sender is read no faster than parts are done with, and whoever has begun a part can end it. Only the
    first bytes of a file are read without a grant.
    """

    def __init__(
        self, chunks: AsyncIterator[bytes], part_bytes: int, part_seconds_max: float, budget: ByteBudget
    ) -> None:
        self._chunks = aiter(chunks)
        self._part_bytes = part_bytes
        self._part_seconds_max = part_seconds_max
        self._budget = budget
        self._rest = memoryview(b"")  # of the chunk that was read last
        self._count = 0
        self._held: dict[int, Part] = {}

    async def head(self) -> tuple[bytes, bool]:
        """Reads the first bytes, which the first part will have, too, and says whether they are all.

        Raises UploadStalled when their sender takes too long for them.
        """
        read = bytearray()
        is_all = False
        async with self._in_time():
            while not is_all and len(read) < HEAD_BYTES:
                chunk = await anext(self._chunks, None)
                is_all = chunk is None
                read += chunk or b""
        head = bytes(read)
        self._rest = memoryview(head)
        return head, is_all

    async def next(self) -> Part:
        """Reads the next part. Raises UploadStalled when its sender takes too long for it."""
        await self._budget.take(self._part_bytes)
        self._count += 1
        part = self._held[self._count] = Part(self._count)
        async with self._in_time():
            await self._fill(part)
        return part

    async def all_from(self, part: Part) -> AsyncGenerator[Part]:
        """Yields a part and those behind it."""
        yield part
        while not part.is_last:
            part = await self.next()
            yield part

    def done_with(self, part: Part) -> None:
        """Gives a part's memory back."""
        if self._held.pop(part.number, None):
            part.pieces.clear()  # and not a new list: frames of errors know this one
            self._budget.give_back(self._part_bytes)

    def close(self) -> None:
        """Gives all memory back."""
        self._rest = memoryview(b"")
        for part in list(self._held.values()):
            self.done_with(part)

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._part_seconds_max) as limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise UploadStalled from None

    async def _fill(self, part: Part) -> None:
        while True:
            room = self._part_bytes - part.size
            if room and self._rest:
                part.add(self._rest[:room])
                self._rest = self._rest[room:]
            if self._rest:
                return
            self._rest = memoryview(await anext(self._chunks, b""))
            if not self._rest:
                part.is_last = True
                return

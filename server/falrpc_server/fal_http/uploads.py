"""Stores files at fal: chooses the way, sends parts at once, and takes no more memory than is granted.

Up to a size a file goes with one request, as its chunks come when the size is declared; larger ones go in
parts (docs/fal-http-api.md §10). Size and SHA-256 are verified before fal has the whole, so that a
file that is not what its sender said never becomes a URL. Parts that are never completed are no file: fal
documents no way to withdraw them.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TypeVar

from falrpc_server.fal_http.byte_budget import ByteBudget
from falrpc_server.fal_http.content_types import typed
from falrpc_server.fal_http.error_bodies import Failure, FalError
from falrpc_server.fal_http.incoming import About
from falrpc_server.fal_http.models import Operation, Scope, StoredFile, Upload
from falrpc_server.fal_http.storage import PartsTarget, Storage
from falrpc_server.fal_http.transfers import Piece
from falrpc_server.fal_http.upload_errors import UploadMismatch, UploadStalled, UploadTooLarge
from falrpc_server.fal_http.upload_parts import CheckedChunks, Part, Parts

__all__ = ["UploadBounds", "Uploads"]


@dataclass(frozen=True, slots=True)
class UploadBounds:
    """How large files may be, and how they go.

    Attributes:
        single_bytes_max: Largest file that goes with one PUT; fal's own clients use parts beyond 90 MiB
            (§10.1).
        part_bytes: The size of parts, but for the last one.
        part_seconds_max: How long a sender may take for a part: it holds memory that others wait for.
        parts_at_once: How many parts of one file are under way at once.
        buffer_bytes_max: Memory for parts, for all uploads together.
    """

    single_bytes_max: int = 90 * 1024 * 1024
    part_bytes: int = 10 * 1024 * 1024
    part_seconds_max: float = 120.0
    parts_at_once: int = 4
    buffer_bytes_max: int = 128 * 1024 * 1024


class Uploads:
    """Stores files, all within one budget of memory."""

    def __init__(self, storage: Storage, bounds: UploadBounds) -> None:
        self._storage = storage
        self._bounds = bounds
        self._budget = ByteBudget(bounds.buffer_bytes_max)

    async def store(
        self,
        upload: Upload,
        chunks: AsyncIterator[bytes],
        scope: Scope,
        *,
        size: int | None,
        sha256: bytes,
        bytes_max: int,
        progress: Callable[[int], None],
    ) -> StoredFile:
        """Stores a file.

        Args:
            upload: The file's name and type.
            chunks: Its bytes.
            scope: The caller's call.
            size: Its declared size in bytes. None: not declared.
            sha256: Its declared SHA-256, empty: not declared.
            bytes_max: How large it may be.
            progress: Told how many bytes have gone to fal, now and then.

        Raises:
            UploadMismatch, UploadTooLarge: The bytes are not what was declared, or too many. No URL was made.
            UploadStalled: The sender took too long.
            FalError: fal did not take it.
        """
        checked = CheckedChunks(chunks, size=size, sha256=sha256, bytes_max=bytes_max)
        if size is not None and size <= self._bounds.single_bytes_max:
            return await self._as_they_come(upload, checked, size, scope, progress)
        async with aclosing(aiter(checked)) as verified:
            bounds = self._bounds
            parts = Parts(verified, bounds.part_bytes, bounds.part_seconds_max, self._budget)
            try:
                head, is_all = await parts.head()
                upload = typed(upload, head)
                if is_all:
                    return await self._at_hand(upload, [head], checked, scope)
                del head  # the first part has it, too
                first = await parts.next()
                if first.is_last:
                    return await self._at_hand(upload, first.pieces, checked, scope)
                return await self._in_parts(upload, first, parts, checked, scope, progress)
            finally:
                parts.close()
                checked.failure = None

    async def store_bytes(self, upload: Upload, data: bytes, scope: Scope) -> str:
        """Stores bytes that are at hand and returns their URL. Raises FalError."""
        url, _ = await self._storage.put_pieces(typed(upload, data), [data], scope)
        return url

    async def _as_they_come(
        self,
        upload: Upload,
        checked: CheckedChunks,
        size: int,
        scope: Scope,
        progress: Callable[[int], None],
    ) -> StoredFile:
        """One request, whose bytes nobody has when it fails."""
        stream = aiter(checked)
        failure: Exception | None = None
        try:
            begun = [await anext(stream)]
            upload = typed(upload, begun[0])
            url = await self._storage.put(upload, size, _passing(begun, stream, progress), scope)
        except FalError as error:
            # Where the sender broke it off, that counts, and not how the request saw it.
            failure = checked.failure or error
        finally:
            checked.failure = None
            with suppress(RuntimeError):  # the transport is still in it, and will close it
                await stream.aclose()
        if failure:
            try:
                raise _bare(failure)
            finally:
                del failure
        if not checked.is_whole:
            about = About(Operation.UPLOAD_PUT)
            raise about.failed(Failure.INTERRUPTED, "answered before the whole file was read")
        return StoredFile(url, size, checked.digest, upload.content_type)

    async def _at_hand(
        self, upload: Upload, pieces: Sequence[Piece], checked: CheckedChunks, scope: Scope
    ) -> StoredFile:
        """One request with bytes that are all here."""
        url, resends = await self._storage.put_pieces(upload, pieces, scope)
        return StoredFile(url, checked.received, checked.digest, upload.content_type, resends=resends)

    async def _in_parts(
        self,
        upload: Upload,
        first: Part,
        parts: Parts,
        checked: CheckedChunks,
        scope: Scope,
        progress: Callable[[int], None],
    ) -> StoredFile:
        target = await self._storage.begin(upload, scope)
        sending = _Sending(
            self._storage, target, scope, self._bounds.parts_at_once, parts.done_with, progress
        )
        failure: Exception | None = None
        task = asyncio.current_task()
        assert task
        cancelling = task.cancelling()
        try:
            async with asyncio.TaskGroup() as group, aclosing(parts.all_from(first)) as following:
                async for part in following:
                    await sending.has_room()
                    group.create_task(sending.send(part))
        except ExceptionGroup as failed:
            failure = _cause(failed)
            _bare(failed)
            while task.cancelling() > cancelling:  # the group's own wish, which Python 3.11 leaves standing
                task.uncancel()  # or somebody's who came in the same moment: the failure ends the call, too
        if failure:
            try:
                raise _bare(failure)
            finally:
                del failure
        await self._storage.complete(target, sending.etags(checked.received), scope)
        return StoredFile(
            target.file_url,
            checked.received,
            checked.digest,
            upload.content_type,
            parts=sending.count,
            resends=sending.resends,
        )


class _Sending:
    """The parts of one file on their way, several at once."""

    def __init__(
        self,
        storage: Storage,
        target: PartsTarget,
        scope: Scope,
        at_once: int,
        done_with: Callable[[Part], None],
        progress: Callable[[int], None],
    ) -> None:
        self._storage = storage
        self._target = target
        self._scope = scope
        self._room = asyncio.Semaphore(at_once)
        self._done_with = done_with
        self._progress = progress
        self._etags: dict[int, str] = {}
        self._stored_bytes = 0
        self.resends = 0

    @property
    def count(self) -> int:
        """How many parts fal has."""
        return len(self._etags)

    async def has_room(self) -> None:
        """Waits until another part may be sent."""
        await self._room.acquire()

    async def send(self, part: Part) -> None:
        """Sends a part. Raises FalError."""
        try:
            etag, resends = await self._storage.put_part(self._target, part.number, part.pieces, self._scope)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task and task.cancelling():
                raise
            # A TaskGroup would pass over it.
            raise RuntimeError("a part was cancelled from elsewhere") from None
        finally:
            self._room.release()
        self._etags[part.number] = etag
        self._stored_bytes += part.size
        self.resends += resends
        self._done_with(part)
        self._progress(self._stored_bytes)

    def etags(self, file_bytes: int) -> list[str]:
        """The ETags of all parts, in order. They must be the whole file."""
        if self._stored_bytes != file_bytes:
            raise RuntimeError("a part is missing")
        return [self._etags[number] for number in range(1, len(self._etags) + 1)]


def _cause(failed: ExceptionGroup[Exception]) -> Exception:
    """What went wrong: rather what the sender did than what fal said of the parts that were cut for it."""
    errors = list(failed.exceptions)
    return next((error for error in errors if not isinstance(error, FalError)), errors[0])


_Raised = TypeVar("_Raised", bound=Exception)


def _bare(error: _Raised) -> _Raised:
    """An error that is expected, without the frames that it came through: they have the file's bytes."""
    if isinstance(error, FalError | UploadMismatch | UploadStalled | UploadTooLarge | ExceptionGroup):
        error.__traceback__ = None
    return error


async def _passing(
    begun: list[bytes], others: AsyncIterator[bytes], progress: Callable[[int], None]
) -> AsyncGenerator[bytes]:
    """All chunks, counted when the next one is wanted. Takes the first one out of `begun`."""
    passed = len(begun[0])
    yield begun.pop()
    async for chunk in others:
        progress(passed)
        yield chunk
        passed += len(chunk)
    progress(passed)

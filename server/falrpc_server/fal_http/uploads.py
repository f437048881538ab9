"""Stores a file at fal: asks where to put it, then puts it there (docs/fal-http-api.md §10.6).

The size and the SHA-256 are verified before the last bytes are sent on, so that a file that is not what
its sender said never becomes a URL.
"""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from falrpc_server.fal_http.client import FalClient
from falrpc_server.fal_http.error_bodies import FalError, UploadMismatch
from falrpc_server.fal_http.models import Scope, StoredFile, Upload

__all__ = ["UploadBounds", "store", "store_bytes"]

OTHER_BYTES = "is not the SHA-256 of the bytes that came"


@dataclass(frozen=True, slots=True)
class UploadBounds:
    """How large files may be.

    Attributes:
        file_bytes_max: Largest file; fal's own clients use other ways beyond 90 MiB (§10.1).
        collect_bytes_max: Largest file of undeclared size: it must be collected, since signed PUTs want
            a Content-Length.
    """

    file_bytes_max: int = 90 * 1024 * 1024
    collect_bytes_max: int = 32 * 1024 * 1024


async def store(
    fal: FalClient,
    upload: Upload,
    chunks: AsyncIterator[bytes],
    scope: Scope,
    *,
    size: int | None,
    sha256: bytes,
    bounds: UploadBounds,
) -> StoredFile:
    """Stores a file.

    Args:
        fal: The client.
        upload: The file's name and type.
        chunks: Its bytes.
        scope: The caller's call.
        size: Its declared size in bytes; then chunks are sent on as they come. None: not declared.
        sha256: Its declared SHA-256, empty: not declared.
        bounds: How large it may be.

    Raises:
        UploadMismatch: The bytes are not what was declared, or too many. No URL was made.
        FalError: fal did not take it.
    """
    if size is None:
        data = await _collected(chunks, bounds)
        if sha256 and sha256 != hashlib.sha256(data).digest():
            raise UploadMismatch("header.sha256", OTHER_BYTES)
        size, chunks = len(data), _once(data)
    verified = _Verified(chunks, size, sha256)
    target = await fal.initiate_upload(upload, scope)
    try:
        await fal.put_upload(target, upload, size, verified.chunks(), scope)
    except FalError:
        if verified.failure:  # the cut was ours: the reason counts, not how the PUT saw it
            raise verified.failure from None
        raise
    return StoredFile(target.file_url, size, verified.digest(), upload.content_type)


async def store_bytes(fal: FalClient, upload: Upload, data: bytes, scope: Scope) -> str:
    """Stores bytes that are at hand and returns their URL. Raises FalError."""
    target = await fal.initiate_upload(upload, scope)
    await fal.put_upload(target, upload, len(data), _once(data), scope)
    return target.file_url


class _Verified:
    """Passes chunks on, one behind: the last one leaves only when the whole is right."""

    def __init__(self, chunks: AsyncIterator[bytes], size: int, sha256: bytes) -> None:
        self._chunks = chunks
        self._size = size
        self._sha256 = sha256
        self._hash = hashlib.sha256()
        self.failure: Exception | None = None

    def digest(self) -> bytes:
        return self._hash.digest()

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            held, received = b"", 0
            async for chunk in self._chunks:
                if not chunk:
                    continue  # it would push the real last one out before the whole is checked
                received += len(chunk)
                if received > self._size:
                    raise UploadMismatch("header.size", f"says {self._size} bytes and more came")
                self._hash.update(chunk)
                if held:
                    yield held
                held = chunk
            if received < self._size:
                raise UploadMismatch("header.size", f"says {self._size} bytes and {received} came")
            if self._sha256 and self._sha256 != self.digest():
                raise UploadMismatch("header.sha256", OTHER_BYTES)
            if held:
                yield held
        except Exception as error:
            self.failure = error
            raise


async def _collected(chunks: AsyncIterator[bytes], bounds: UploadBounds) -> bytes:
    pieces, size = [], 0
    async for chunk in chunks:
        size += len(chunk)
        if size > bounds.collect_bytes_max:
            description = f"is required for files of more than {bounds.collect_bytes_max} bytes"
            raise UploadMismatch("header.size", description)
        pieces.append(chunk)
    return b"".join(pieces)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    if data:
        yield data

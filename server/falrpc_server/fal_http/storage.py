"""fal's file storage as methods, one for each exchange, and the way with signed URLs (§10.6, §10.7).

One exchange with our key asks where a file goes; the bytes go to the signed URL that fal names, without any
credential. cdn_storage.py has the other way. (§ is of docs/fal-http-api.md.)
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from falrpc_server.fal_http import storage_answers, storage_wire, wire
from falrpc_server.fal_http.error_bodies import Failure
from falrpc_server.fal_http.incoming import About
from falrpc_server.fal_http.models import Operation, Scope, Upload
from falrpc_server.fal_http.transfers import Piece, Transfers, read, taken_once

__all__ = ["PartsTarget", "SignedUrlStorage", "Storage"]


@dataclass(frozen=True, slots=True)
class PartsTarget:
    """Where the parts of a file go, and where the file can be read then.

    Attributes:
        parts_url: The parts' URLs are beside or below it.
        file_url: The file's own.
        content_type: The file's.
    """

    parts_url: str
    file_url: str
    content_type: str


class Storage(Protocol):
    """One account's access to fal's file storage. Every method raises FalError."""

    async def put(self, upload: Upload, size: int, chunks: AsyncIterator[bytes], scope: Scope) -> str:
        """Stores a file's bytes as they come, once. Returns its URL."""
        ...

    async def put_pieces(self, upload: Upload, pieces: Sequence[Piece], scope: Scope) -> tuple[str, int]:
        """Stores a file whose bytes are at hand. Returns its URL, and how often they were sent again."""
        ...

    async def begin(self, upload: Upload, scope: Scope) -> PartsTarget:
        """Begins a file in parts."""
        ...

    async def put_part(
        self, target: PartsTarget, number: int, pieces: Sequence[Piece], scope: Scope
    ) -> tuple[str, int]:
        """Stores a part. Returns its ETag, and how often it was sent again."""
        ...

    async def complete(self, target: PartsTarget, etags: Sequence[str], scope: Scope) -> None:
        """Makes a file of the parts. Before this nobody can read any of them."""
        ...


class SignedUrlStorage:
    """The storage by way of signed URLs."""

    def __init__(self, transfers: Transfers, hosts: wire.Hosts) -> None:
        self._transfers = transfers
        self._hosts = hosts

    async def put(self, upload: Upload, size: int, chunks: AsyncIterator[bytes], scope: Scope) -> str:
        target = await self._initiate(upload, scope)
        request = storage_wire.put(target.upload_url, upload, size)
        await self._transfers.as_they_come(request, About(Operation.UPLOAD_PUT), chunks, scope)
        return target.file_url

    async def put_pieces(self, upload: Upload, pieces: Sequence[Piece], scope: Scope) -> tuple[str, int]:
        target = await self._initiate(upload, scope)
        about = About(Operation.UPLOAD_PUT)
        request = storage_wire.put(target.upload_url, upload, sum(map(len, pieces)))
        await self._transfers.pieces(request, about, pieces, scope)
        return target.file_url, about.resends

    async def begin(self, upload: Upload, scope: Scope) -> PartsTarget:
        target = await self._initiate(upload, scope, in_parts=True)
        return PartsTarget(target.upload_url, target.file_url, upload.content_type)

    async def put_part(
        self, target: PartsTarget, number: int, pieces: Sequence[Piece], scope: Scope
    ) -> tuple[str, int]:
        about = About(Operation.UPLOAD_PART)
        request = storage_wire.put_part(target.parts_url, number, sum(map(len, pieces)))
        answer = await self._transfers.pieces(request, about, pieces, scope)
        return read(
            lambda: storage_answers.read_part(answer.body, answer.headers), answer, about
        ), about.resends

    async def complete(self, target: PartsTarget, etags: Sequence[str], scope: Scope) -> None:
        request = storage_wire.complete_parts(target.parts_url, etags)
        about = About(Operation.UPLOAD_COMPLETE)
        with taken_once(about):
            await self._transfers.brief(request, about, scope)

    async def _initiate(
        self, upload: Upload, scope: Scope, *, in_parts: bool = False
    ) -> storage_answers.UploadTarget:
        """Asks where to put a file, or its parts."""
        about = About(Operation.UPLOAD_INITIATE)
        request = storage_wire.initiate(self._hosts, upload, in_parts=in_parts)
        answer = await self._transfers.brief(request, about, scope)
        target = read(lambda: storage_answers.read_upload_target(answer.body), answer, about)
        if not storage_answers.is_upload_url(target.upload_url, self._hosts):
            raise about.failed(Failure.HOST_REFUSED, "upload_url is not on the list", answer.status)
        return target

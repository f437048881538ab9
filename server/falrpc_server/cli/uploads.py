"""Sending a file, or what a URL leads to, through FalService.Upload."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from falrpc import v1
from falrpc_server.cli.downloads import Progress, fetch
from falrpc_server.cli.session import CommandFailed, Session

__all__ = ["Source", "is_url", "opened", "send"]

_CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True)
class Source:
    """A file to upload and what the service is told about it."""

    path: Path
    file_name: str
    content_type: str = ""


def is_url(source: str) -> bool:
    """Whether `source` is fetched instead of opened."""
    return source.startswith(("https://", "http://"))


@contextmanager
def opened(name: str, *, fetched_bytes_max: int, progress: Progress | None = None) -> Iterator[Source]:
    """The file `name`, or what the URL `name` leads to, fetched into a temporary file.

    Raises:
        CommandFailed: it can't be fetched, or is larger than `fetched_bytes_max`.
    """
    if not is_url(name):
        yield Source(Path(name), Path(name).name)
        return
    with tempfile.NamedTemporaryFile(prefix="falrpc-") as file:
        content_type = fetch(name, file, bytes_max=fetched_bytes_max, progress=progress)
        file.flush()
        file_name = unquote(urlsplit(name).path).rpartition("/")[2]
        yield Source(Path(file.name), file_name or "file", content_type.partition(";")[0].strip())


def send(session: Session, source: Source, progress: Progress | None = None) -> v1.UploadResponse:
    """Uploads a file, with its size and SHA-256, so that a broken transfer yields no URL.

    Raises:
        CommandFailed: the file can't be read.
        grpc.RpcError: the call failed.
    """
    try:
        with source.path.open("rb") as file:
            size, digest = source.path.stat().st_size, hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise CommandFailed(f"can't read {source.path}: {error.strerror}") from error
    header = v1.UploadHeader(
        file_name=source.file_name, content_type=source.content_type, size=size, sha256=digest
    )

    def parts() -> Iterator[v1.UploadRequest]:
        yield v1.UploadRequest(header=header)
        with source.path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield v1.UploadRequest(chunk=chunk)
                if progress:
                    progress(file.tell(), size)

    return session.stub.Upload(parts(), **session.call)

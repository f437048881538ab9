"""Bytes of files: many are kept on disk, in files without a name, so that gigabytes can be stored."""

import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from typing import BinaryIO

__all__ = ["Blob"]

MEMORY_BYTES_MAX = 1024 * 1024  # of one piece
PIECE_BYTES = 1024 * 1024


class Blob:
    """Bytes that don't change, in memory or on disk."""

    def __init__(self, data: bytes = b"") -> None:
        self._segments: list[_Segment] = [_Segment(data)] if data else []

    @classmethod
    def joined(cls, blobs: Iterable["Blob"]) -> "Blob":
        """Several as one. Nothing is copied."""
        blob = cls()
        blob._segments = [segment for one in blobs for segment in one._segments]
        return blob

    def __len__(self) -> int:
        return sum(segment.size for segment in self._segments)

    def __bytes__(self) -> bytes:
        return b"".join(self.pieces())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blob) and len(self) == len(other) and bytes(self) == bytes(other)

    __hash__ = None  # type: ignore[assignment] # as of bytes that are compared one by one

    def pieces(self) -> Iterator[bytes]:
        """The bytes in pieces of bounded size."""
        for segment in self._segments:
            yield from segment.pieces()


class _Segment:
    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._data = data
        self._file: BinaryIO | None = None
        if self.size > MEMORY_BYTES_MAX:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 # gone with the last reference
            weakref.finalize(self, self._file.close)
            self._file.write(data)
            self._file.flush()
            self._data = b""

    def pieces(self) -> Iterator[bytes]:
        if self._file is None:
            yield self._data
            return
        for start in range(0, self.size, PIECE_BYTES):
            yield os.pread(self._file.fileno(), PIECE_BYTES, start)

"""Bytes of stored files, in memory or on disk."""

import pytest

from falrpc_server.emulator.files.blobs import MEMORY_BYTES_MAX, Blob

SMALL, LARGE = b"abc", bytes(range(256)) * (MEMORY_BYTES_MAX // 128)


@pytest.mark.parametrize("parts", [[], [SMALL], [LARGE], [LARGE, SMALL, b"", LARGE]], ids=len)
def test_joined(parts: list[bytes]) -> None:
    """What went in comes out, however much and wherever it is kept."""
    blob = Blob.joined(map(Blob, parts))
    whole = b"".join(parts)
    assert (bytes(blob), len(blob)) == (whole, len(whole))
    assert blob == Blob(whole)
    assert max(map(len, blob.pieces()), default=0) <= MEMORY_BYTES_MAX


def test_different() -> None:
    """Blobs of the same length differ where their bytes do."""
    assert Blob(LARGE) != Blob(LARGE[:-1] + b"!")
    assert Blob(SMALL) != SMALL

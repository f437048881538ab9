"""The content type of a file for which none was declared."""

import pytest

from falrpc_server.fal_http.content_types import typed
from falrpc_server.fal_http.models import Upload

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(40)


@pytest.mark.parametrize(
    ("declared", "file_name", "head", "content_type"),
    [
        pytest.param("image/webp", "a.png", PNG, "image/webp", id="declared"),
        pytest.param("", "a.jpg", PNG, "image/jpeg", id="by name"),
        pytest.param("", "a", PNG, "image/png", id="by bytes"),
        pytest.param("", "a.unknown", PNG, "image/png", id="an extension that nobody knows"),
        pytest.param("", "a", b"\0\0\0\x18ftypisom\0\0\2\0isomiso2", "video/mp4", id="a film"),
        pytest.param("", "a", b"RIFF\x24\0\0\0WAVEfmt ", "audio/x-wav", id="a sound"),
        pytest.param("", "a.csv.gz", b"\x1f\x8b\x08", "application/gzip", id="not what is inside"),
        pytest.param("", "a", b"hello", "application/octet-stream", id="text says nothing"),
        pytest.param("", "a", b"", "application/octet-stream", id="no bytes"),
        pytest.param("", "a", b"\0" * 100_000, "application/octet-stream", id="many"),
    ],
)
def test_the_content_type(declared: str, file_name: str, head: bytes, content_type: str) -> None:
    """The declared type, else that of the name's extension, else that of the first bytes."""
    assert typed(Upload(file_name, declared), head).content_type == content_type

"""fal's Python client and the storage (§10)."""

import gc
import hashlib
import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fal_client
import httpx
import pytest
from PIL import Image
from tests.conformance.clients import Calling
from tests.emulator.running import Emulator

MEBIBYTE = 1024 * 1024
PART_BYTES = 10 * MEBIBYTE
LARGE_BYTES = 10 * PART_BYTES + 12_345  # over the 100 MiB from which the client uploads in parts (§10.4)

FORBIDDEN = fal_client.StorageACL(default="forbid")
HIDDEN = fal_client.StorageACL(default="hide")
SHARED = fal_client.StorageACL(default="hide", rules=[fal_client.StorageACLRule("friend-id", "allow")])


# SyncClient never closes the connections that it opens to the CDN.
pytestmark = pytest.mark.filterwarnings(r"ignore:unclosed <ssl\.SSLSocket:ResourceWarning")


@pytest.fixture(autouse=True)
def nothing_left(client: Calling) -> Iterator[None]:
    """Collects what the client left open while nobody minds."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def large() -> bytes:
    """Bytes no two parts of which are the same."""
    return random.Random(0).randbytes(LARGE_BYTES)


def test_bytes(client: Calling, emulator: Emulator) -> None:
    """upload() of bytes gets a CDN token, posts the bytes to the CDN once, and the URL gives them back (§10.3)."""
    url = client.upload(b"\x00\xff cat", "image/png", "cat.png")
    assert url.startswith("https://v3.fal.media/files/b/")
    assert url.endswith("/cat.png")
    answer = httpx.get(url)
    assert (answer.status_code, answer.content) == (200, b"\x00\xff cat")
    assert answer.headers["content-type"] == "image/png"
    assert _operations(emulator) == ["upload_token", "cdn_upload", "download"]
    (token,) = emulator.ended(operation="upload_token")
    assert token["headers"]["host"] == "rest.fal.ai"
    (upload,) = emulator.ended(operation="cdn_upload")
    assert upload["headers"]["host"] == "v3.fal.media"
    assert upload["headers"]["x-fal-file-name"] == "cat.png"


def test_the_token_is_kept(client: Calling, emulator: Emulator) -> None:
    """One CDN token does for several uploads until it expires (§10.2)."""
    urls = [client.upload(f"cat {number}", "text/plain") for number in range(3)]
    assert [httpx.get(url).text for url in urls] == ["cat 0", "cat 1", "cat 2"]
    assert len(emulator.ended(operation="upload_token")) == 1


def test_file(client: Calling, tmp_path: Path) -> None:
    """upload_file() keeps the name and the type that goes with it."""
    path = tmp_path / "hello.txt"
    path.write_text("hello")
    url = client.upload_file(path)
    assert url.endswith("/hello.txt")
    answer = httpx.get(url)
    assert (answer.text, answer.headers["content-type"]) == ("hello", "text/plain")


def test_image(client: Calling) -> None:
    """upload_image() uploads a picture that a model then reads from its URL."""
    url = client.upload_image(Image.new("RGB", (64, 48), "red"), format="png")
    picture = Image.open(io.BytesIO(httpx.get(url).content))
    assert (picture.format, picture.size) == ("PNG", (64, 48))
    assert client.run("fal-ai/imageutils/rembg", {"image_url": url})["image"]["width"] == 64


@pytest.mark.parametrize("from_file", [False, True], ids=["bytes", "file"])
def test_large(client: Calling, emulator: Emulator, large: bytes, from_file: bool, tmp_path: Path) -> None:
    """More than 100 MiB go up in parts, and the file is whole though they are not told in order (§10.4)."""
    emulator.will("slow", operation="cdn_part", seconds=1)
    lifecycle = fal_client.StorageSettings(expires_in="1h")
    if from_file:
        path = tmp_path / "large.bin"
        path.write_bytes(large)
        url = client.upload_file(path, lifecycle=lifecycle)
    else:
        url = client.upload(large, "application/octet-stream", lifecycle=lifecycle)
    operations = _operations(emulator)
    assert operations == ["upload_token", "cdn_multipart", *["cdn_part"] * 11, "cdn_complete"]
    parts = emulator.ended(operation="cdn_part")
    assert sorted(record["body_bytes"] for record in parts) == [12_345, *[PART_BYTES] * 10]
    ended = [_part_number(record) for record in sorted(parts, key=lambda record: record["closed_at"])]
    assert sorted(ended) == list(range(1, 12))
    assert ended != sorted(ended)
    digest = hashlib.sha256()
    with httpx.stream("GET", url) as answer:
        for piece in answer.iter_bytes():
            digest.update(piece)
    assert digest.digest() == hashlib.sha256(large).digest()
    _advance(emulator, 3_600)
    assert httpx.get(url).status_code == 404


def test_name_that_no_header_holds(client: Calling, emulator: Emulator) -> None:
    """With a name outside of ASCII the client falls back to the older upload, which keeps the name (§10.3, §10.5)."""
    url = client.upload(b"meow", "image/png", "kočka.png")
    assert httpx.get(url).content == b"meow"
    assert httpx.URL(url).path.endswith("/kočka.png")
    assert _operations(emulator) == ["upload_token", "upload_initiate", "upload_put", "download"]
    (put,) = emulator.ended(operation="upload_put")
    assert "authorization" in put["headers"]  # the client sends its key here, too (§10.5)


def test_older_upload(client: Calling, emulator: Emulator) -> None:
    """The older upload can be chosen, and has the lifecycle, too."""
    lifecycle = fal_client.StorageSettings(initial_acl=FORBIDDEN)
    url = client.upload(b"meow", "image/png", "cat.png", repository="fal", lifecycle=lifecycle)
    assert httpx.get(url).status_code == 403
    assert _operations(emulator)[:2] == ["upload_initiate", "upload_put"]


def test_fallback_after_an_error(client: Calling, emulator: Emulator) -> None:
    """When the CDN refuses an upload the client falls back to the older one."""
    emulator.will("fail", operation="cdn_upload", kind="forbidden")
    assert httpx.get(client.upload(b"meow", "image/png")).content == b"meow"
    assert _operations(emulator)[:4] == ["upload_token", "cdn_upload", "upload_initiate", "upload_put"]


@pytest.mark.parametrize(
    ("acl", "anonymous", "friend"),
    [
        pytest.param(FORBIDDEN, 403, 403, id="forbid"),
        pytest.param(HIDDEN, 404, 404, id="hide"),
        pytest.param(SHARED, 404, 200, id="rule"),
        pytest.param(fal_client.StorageACL(default="allow"), 200, 200, id="allow"),
    ],
)
def test_acl(
    client: Calling, emulator: Emulator, acl: fal_client.StorageACL, anonymous: int, friend: int
) -> None:
    """The initial ACL decides who may read; the owner always may (§10.8)."""
    url = client.upload(b"meow", "image/png", lifecycle=fal_client.StorageSettings(initial_acl=acl))
    assert httpx.get(url).status_code == anonymous
    assert httpx.get(url, headers=_cdn_token("friend-id")).status_code == friend
    owner = httpx.get(url, headers=_cdn_token("test-id"))
    assert (owner.status_code, owner.content) == (200, b"meow")


@pytest.mark.parametrize(("expires_in", "seconds"), [("immediate", 60), ("1h", 3_600), (90_000, 90_000)])
def test_expiry(client: Calling, emulator: Emulator, expires_in: Any, seconds: int) -> None:
    """The expiry arrives under both of its names and takes effect (§10.3, §10.8)."""
    lifecycle = fal_client.StorageSettings(expires_in=expires_in)
    url = client.upload(b"meow", "image/png", lifecycle=lifecycle)
    (upload,) = emulator.ended(operation="cdn_upload")
    for name in ("x-fal-object-lifecycle", "x-fal-object-lifecycle-preference"):
        assert json.loads(upload["headers"][name]) == {"expiration_duration_seconds": seconds}
    _advance(emulator, seconds / 2)
    assert httpx.get(url).status_code == 200
    _advance(emulator, seconds / 2)
    assert httpx.get(url).status_code == 404


def _operations(emulator: Emulator) -> list[str]:
    return [record["operation"] for record in emulator.ended()]


def _part_number(record: dict[str, Any]) -> int:
    return int(record["path"].rpartition("/")[2])


def _cdn_token(user: str) -> dict[str, str]:
    """The authorization of another reader (§10.8)."""
    url = "https://rest.fal.ai/storage/auth/token?storage_type=fal-cdn-v3"
    answer = httpx.post(url, headers={"authorization": f"Key {user}:secret"}, json={})
    return {"authorization": f"Bearer {answer.raise_for_status().json()['token']}"}


def _advance(emulator: Emulator, seconds: float) -> None:
    emulator.http.post("/_emulator/clock", json={"advance_seconds": seconds}).raise_for_status()

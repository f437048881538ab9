"""Upload, end to end."""

import hashlib
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from tests.conftest import Fal, Running, running_gateway
from tests.failures import failure_of_upload
from tests.service.test_run import arrived, closed

from falrpc import v1

DATA = bytes(range(256)) * 4_000
SHA256 = hashlib.sha256(DATA).digest()
CHUNK_BYTES = 200_000


async def messages(header: v1.UploadHeader | None, data: bytes = DATA) -> AsyncIterator[v1.UploadRequest]:
    if header is not None:
        yield v1.UploadRequest(header=header)
    for start in range(0, len(data), CHUNK_BYTES):
        yield v1.UploadRequest(chunk=data[start : start + CHUNK_BYTES])


@pytest.mark.parametrize("size", [len(DATA), None], ids=["size declared", "size unknown"])
async def test_a_file(gateway: Running, fal: Fal, size: int | None) -> None:
    """The bytes arrive at fal as they are, and the URL gives them back."""
    header = v1.UploadHeader(file_name="Bild ü.png", size=size, sha256=SHA256)
    header.lifecycle.expiration.FromSeconds(3600)
    response = await gateway.stub.Upload(messages(header))
    assert (response.size, response.sha256) == (len(DATA), SHA256)
    assert (response.content_type, response.parts, response.retries) == ("image/png", 1, 0)
    downloaded = httpx.get(response.url, trust_env=False)
    assert downloaded.content == DATA
    assert downloaded.headers["content-type"] == "image/png"
    [initiated], [put] = fal.received(operation="upload_initiate"), fal.received(operation="upload_put")
    assert json.loads(initiated["headers"]["x-fal-object-lifecycle"]) == {"expiration_duration_seconds": 3600}
    assert put["headers"]["content-length"] == str(len(DATA))
    assert "authorization" not in put["headers"]


@pytest.mark.parametrize(
    ("size", "field"), [(0, "header.size"), (None, "chunk")], ids=["declared", "unknown"]
)
async def test_an_empty_file(gateway: Running, fal: Fal, size: int | None, field: str) -> None:
    """A file without a byte is INVALID_ARGUMENT, and fal is asked for nothing."""
    failed = await failure_of_upload(
        gateway.address, messages(v1.UploadHeader(file_name="f", size=size), b"")
    )
    assert (failed.code, failed.fields) == ("INVALID_ARGUMENT", [field])
    assert fal.received() == []


@pytest.mark.parametrize(
    ("header", "field"),
    [
        pytest.param(v1.UploadHeader(file_name="f", size=len(DATA) + 1), "header.size", id="too few bytes"),
        pytest.param(v1.UploadHeader(file_name="f", size=len(DATA) - 1), "header.size", id="too many bytes"),
        pytest.param(
            v1.UploadHeader(file_name="f", size=len(DATA), sha256=b"x" * 32),
            "header.sha256",
            id="other bytes",
        ),
    ],
)
async def test_bytes_that_are_not_what_was_declared(
    gateway: Running, fal: Fal, header: v1.UploadHeader, field: str
) -> None:
    """A mismatch is INVALID_ARGUMENT, UPLOAD_MISMATCH; fal never gets the whole file."""
    failed = await failure_of_upload(gateway.address, messages(header))
    assert (failed.code, failed.info.reason, failed.fields) == (
        "INVALID_ARGUMENT",
        "UPLOAD_MISMATCH",
        [field],
    )
    await arrived(fal, "upload_put")
    assert (await closed(fal, "upload_put"))["outcome"] == "client_closed"


async def test_collected_bytes_that_are_not_what_was_declared(gateway: Running, fal: Fal) -> None:
    """A file of unknown size is checked before fal is asked for anything."""
    header = v1.UploadHeader(file_name="f", sha256=b"x" * 32)
    failed = await failure_of_upload(gateway.address, messages(header))
    assert (failed.code, failed.info.reason, failed.fields) == (
        "INVALID_ARGUMENT",
        "UPLOAD_MISMATCH",
        ["header.sha256"],
    )
    assert fal.received() == []


@pytest.mark.parametrize(
    ("header", "fields"),
    [
        pytest.param(None, ["header"], id="no header"),
        pytest.param(v1.UploadHeader(), ["header.file_name"], id="no name"),
        pytest.param(
            v1.UploadHeader(file_name="a/b", content_type="image", size=-1, sha256=b"1"),
            ["header.file_name", "header.content_type", "header.size", "header.sha256"],
            id="everything",
        ),
    ],
)
async def test_a_bad_header(
    gateway: Running, fal: Fal, header: v1.UploadHeader | None, fields: list[str]
) -> None:
    """A bad header is refused with every field, and nothing is sent."""
    failed = await failure_of_upload(gateway.address, messages(header))
    assert (failed.code, failed.fields) == ("INVALID_ARGUMENT", fields)
    assert fal.received() == []


async def test_a_second_header(gateway: Running) -> None:
    """A header after the first message is refused."""

    async def twice() -> AsyncIterator[v1.UploadRequest]:
        for _ in range(2):
            yield v1.UploadRequest(header=v1.UploadHeader(file_name="f"))

    failed = await failure_of_upload(gateway.address, twice())
    assert (failed.code, failed.fields) == ("INVALID_ARGUMENT", ["chunk"])


@pytest.mark.parametrize("size", [1_001, None], ids=["size declared", "size unknown"])
async def test_too_large(emulator_url: str, fal: Fal, size: int | None) -> None:
    """Files past FALRPC_UPLOAD_BYTES_MAX are RESOURCE_EXHAUSTED, UPLOAD_TOO_LARGE; fal is asked for nothing."""
    async with running_gateway(emulator_url=emulator_url, upload_bytes_max=1_000) as gateway:
        at_limit = v1.UploadHeader(file_name="f")
        assert (await gateway.stub.Upload(messages(at_limit, DATA[:1_000]))).size == 1_000
        fal.reset()
        beyond = v1.UploadHeader(file_name="f", size=size)
        failed = await failure_of_upload(gateway.address, messages(beyond, DATA[:1_001]))
    assert (failed.code, failed.info.reason) == ("RESOURCE_EXHAUSTED", "UPLOAD_TOO_LARGE")
    assert failed.info.metadata["limit_bytes"] == "1000"
    assert fal.received() == []


async def test_a_host_that_is_not_on_the_list(gateway: Running, fal: Fal) -> None:
    """Bytes go to listed hosts only: INTERNAL, UPLOAD_HOST_REFUSED."""
    body = '{"upload_url":"https://evil.example/x","file_url":"https://v3.fal.media/x"}'
    fal.will("answer", operation="upload_initiate", status=200, body=body)
    failed = await failure_of_upload(
        gateway.address, messages(v1.UploadHeader(file_name="f", size=len(DATA)))
    )
    assert (failed.code, failed.info.reason) == ("INTERNAL", "UPLOAD_HOST_REFUSED")


async def test_a_cut_put(gateway: Running, fal: Fal) -> None:
    """An upload that fal cuts is UNAVAILABLE: storing a file again costs nothing."""
    fal.will("reset_before_body", operation="upload_put")
    failed = await failure_of_upload(
        gateway.address, messages(v1.UploadHeader(file_name="f", size=len(DATA)))
    )
    assert (failed.code, failed.info.reason) == ("UNAVAILABLE", "UPSTREAM_INTERRUPTED")


async def test_cancelling_an_upload(gateway: Running, fal: Fal) -> None:
    """fal sees the connection closed when the caller cancels in the middle."""

    async def endless() -> AsyncIterator[v1.UploadRequest]:
        yield v1.UploadRequest(header=v1.UploadHeader(file_name="f", size=50_000_000))
        for _ in range(3):
            yield v1.UploadRequest(chunk=DATA)
        await arrived(fal, "upload_put")
        call.cancel()

    call = gateway.stub.Upload(endless())
    await arrived(fal, "upload_put")
    assert (await closed(fal, "upload_put"))["outcome"] == "client_closed"

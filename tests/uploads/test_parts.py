"""Upload of files that go to fal in parts."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.conftest import Fal, Running, running_gateway
from tests.failures import failure_of, failure_of_upload
from tests.service.test_leaving import is_idle
from tests.uploads.stores import Act, Store, eventually, storing

from falrpc import v1

MIB = 1024 * 1024
PART_BYTES = 5 * MIB
DATA = hashlib.sha256(b"falrpc").digest() * (12 * MIB // 32) + b"tail"
SHA256 = hashlib.sha256(DATA).digest()
PARTS = 3
SETTINGS = {"upload_part_bytes": PART_BYTES, "upload_single_bytes_max": PART_BYTES}


@pytest.fixture
async def gateway(emulator_url: str, fal: Fal) -> AsyncIterator[Running]:
    async with running_gateway(emulator_url=emulator_url, **SETTINGS) as one:
        yield one


async def messages(
    header: v1.UploadHeader, data: bytes = DATA, chunk_bytes: int = 300_000
) -> AsyncIterator[v1.UploadRequest]:
    yield v1.UploadRequest(header=header)
    for start in range(0, len(data), chunk_bytes):
        yield v1.UploadRequest(chunk=data[start : start + chunk_bytes])


def header(size: int | None = len(DATA), sha256: bytes = SHA256) -> v1.UploadHeader:
    return v1.UploadHeader(file_name="film.mp4", size=size, sha256=sha256)


@pytest.mark.parametrize("size", [len(DATA), None], ids=["size declared", "size unknown"])
@pytest.mark.parametrize("chunk_bytes", [300_000, PART_BYTES, 12 * MIB], ids=str)
async def test_a_file(gateway: Running, fal: Fal, size: int | None, chunk_bytes: int) -> None:
    """The parts arrive as one file, however the caller cut it."""
    response = await gateway.stub.Upload(messages(header(size), chunk_bytes=chunk_bytes))
    assert (response.size, response.sha256) == (len(DATA), SHA256)
    assert (response.content_type, response.parts, response.retries) == ("video/mp4", PARTS, 0)
    downloaded = httpx.get(response.url, trust_env=False)
    assert downloaded.content == DATA
    assert downloaded.headers["content-type"] == "video/mp4"
    assert len(fal.received(operation="upload_part")) == PARTS
    for operation in ("upload_part", "upload_complete"):
        for record in fal.received(operation=operation):
            assert "authorization" not in record["headers"]


@pytest.mark.parametrize(
    ("length", "parts"),
    [(PART_BYTES, 1), (PART_BYTES + 1, 2), (2 * PART_BYTES, 2)],
    ids=["one part", "a byte more", "two parts"],
)
async def test_sizes_at_the_border(gateway: Running, length: int, parts: int) -> None:
    """A file whose size is not declared goes in as many parts as it needs; one that fits goes whole."""
    response = await gateway.stub.Upload(messages(header(None, b""), DATA[:length]))
    assert (response.size, response.parts) == (length, parts)
    assert httpx.get(response.url, trust_env=False).content == DATA[:length]


async def test_a_part_that_fails_twice(gateway: Running, fal: Fal) -> None:
    """A part is sent again, and the answer says how often."""
    fal.will("edge_page", operation="upload_part", times=2)
    response = await gateway.stub.Upload(messages(header()))
    assert (response.parts, response.retries) == (PARTS, 2)
    assert httpx.get(response.url, trust_env=False).content == DATA


async def test_a_part_that_keeps_failing(gateway: Running, fal: Fal) -> None:
    """The upload ends with the part's failure; no file is made, and nothing is under way any more."""
    fal.will("edge_page", operation="upload_part", times=None)
    failed = await failure_of_upload(gateway.address, messages(header()))
    assert failed.code == "UNAVAILABLE"
    await is_idle(fal)
    assert fal.received(operation="upload_complete") == []


@pytest.mark.parametrize(
    ("declared", "field"),
    [
        pytest.param(header(len(DATA) + 1), "header.size", id="too few bytes"),
        pytest.param(header(len(DATA) - 1), "header.size", id="too many bytes"),
        pytest.param(header(None, b"x" * 32), "header.sha256", id="other bytes"),
    ],
)
async def test_bytes_that_are_not_what_was_declared(
    gateway: Running, fal: Fal, declared: v1.UploadHeader, field: str
) -> None:
    """A mismatch is INVALID_ARGUMENT, UPLOAD_MISMATCH, and no file is made."""
    failed = await failure_of_upload(gateway.address, messages(declared))
    assert (failed.code, failed.info.reason, failed.fields) == (
        "INVALID_ARGUMENT",
        "UPLOAD_MISMATCH",
        [field],
    )
    await is_idle(fal)
    assert fal.received(operation="upload_complete") == []


async def test_a_caller_who_stops(emulator_url: str, fal: Fal) -> None:
    """A caller who sends nothing for too long is ABORTED, UPLOAD_STALLED, and no file is made."""

    async def stopping() -> AsyncIterator[v1.UploadRequest]:
        async for message in messages(header(), DATA[: 2 * PART_BYTES]):
            yield message
        await asyncio.sleep(30)

    async with running_gateway(emulator_url=emulator_url, upload_idle_seconds=0.5, **SETTINGS) as gateway:
        failed = await failure_of(gateway.stub.Upload(stopping()))
        assert (failed.code, failed.info.reason) == ("ABORTED", "UPLOAD_STALLED")
        await is_idle(fal)
        assert fal.received(operation="upload_complete") == []


async def test_a_caller_who_leaves(gateway: Running, fal: Fal) -> None:
    """A caller who cancels leaves no file and no request behind."""
    fal.will("slow", operation="upload_part", seconds=20, times=None)
    call: Any = gateway.stub.Upload(messages(header()))
    async with asyncio.timeout(20):
        while len(await fal.seen(operation="upload_part")) < 2:
            await asyncio.sleep(0.01)
    call.cancel()
    await is_idle(fal)
    assert fal.received(operation="upload_complete") == []


async def test_they_share_memory() -> None:
    """Uploads at once hold no more parts than there is memory for; late ones wait, and all end well."""
    async with (
        storing() as store,
        running_gateway(
            emulator_url=store.url, upload_buffer_bytes_max=2 * PART_BYTES, **SETTINGS
        ) as gateway,
    ):
        may_end = asyncio.Event()
        for number in range(1, PARTS + 1):
            store.always(f"part {number}", Act(when=may_end.wait))
        uploads = asyncio.gather(*(gateway.stub.Upload(messages(header())) for _ in range(6)))
        await eventually(lambda: parts_under_way(store) == 2)
        await asyncio.sleep(0.3)
        assert parts_under_way(store) == 2
        may_end.set()
        assert {answer.sha256 for answer in await uploads} == {SHA256}
        assert store.files == [SHA256] * 6


def parts_under_way(store: Store) -> int:
    return sum(one.what.startswith("part") for one in store.asked)

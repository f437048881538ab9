"""Uploads that are none: what is told of them early, while their stream is open, and that nothing is stored."""

import asyncio
import itertools
from typing import Any

import grpc
import pytest
from tests.conftest import running_gateway
from tests.failures import unpacked
from tests.uploads.standing import (
    DATA,
    PART_BYTES,
    SETTINGS,
    SMALL,
    Caller,
    chunks,
    failure,
    header,
    standing,
)
from tests.uploads.stores import Store, eventually, stored, storing

from falrpc import v1

LONG = 60  # seconds, beyond every limit here
HALF = DATA[: 2 * PART_BYTES + 2_000_000]
SMALL_CHUNK = v1.UploadRequest(chunk=SMALL)
ENDLESS_BYTES_MAX = 64 * 1024 * 1024  # what buffers on the way may take; an endless file has 1 GiB
INVALID = ("INVALID_ARGUMENT", "INVALID_REQUEST", "NOT_SENT")
MISMATCH = ("INVALID_ARGUMENT", "UPLOAD_MISMATCH", "UNKNOWN")
TOO_LARGE = ("RESOURCE_EXHAUSTED", "UPLOAD_TOO_LARGE", "UNKNOWN")
DECLARED_TOO_LARGE = (*TOO_LARGE[:2], "NOT_SENT")


@pytest.mark.parametrize("is_endless", [False, True], ids=["then silent", "then endless"])
@pytest.mark.parametrize(
    ("messages", "expected", "fields"),
    [
        pytest.param([SMALL_CHUNK], INVALID, ["header"], id="chunk first"),
        pytest.param([v1.UploadRequest()], INVALID, ["header"], id="nothing first"),
        pytest.param([header(None), header(None)], MISMATCH, ["chunk"], id="second header"),
        pytest.param([header(None), v1.UploadRequest()], MISMATCH, ["chunk"], id="nothing second"),
        pytest.param([header(0)], INVALID, ["header.size"], id="empty file"),
        pytest.param([header(-1)], INVALID, ["header.size"], id="negative size"),
        pytest.param([header(2**40)], DECLARED_TOO_LARGE, [], id="too large"),
        pytest.param([header(None, b"x" * 31)], INVALID, ["header.sha256"], id="short digest"),
        pytest.param([header(None, b"x" * 64)], INVALID, ["header.sha256"], id="long digest"),
        *(
            pytest.param([header(None, content_type=one)], INVALID, ["header.content_type"], id=repr(one))
            for one in (
                "image",
                "image/",
                "/png",
                "image/png\r\nX: y",
                "image/\x00png",
                "im age/png",
                "é/png",
            )
        ),
        *(
            pytest.param([header(None, file_name=one)], INVALID, ["header.file_name"], id=repr(one[:9]))
            for one in ("", "a/b", "a\\b", "..", "a\nb", "a\x00b", "a\u202eb", "n" * 256)
        ),
    ],
)
async def test_bad_input(
    shared: tuple[Store, Any],
    messages: list[v1.UploadRequest],
    expected: tuple[str, str, str],
    fields: list[str],
    is_endless: bool,
) -> None:
    """Bad input is told while the stream is open, and the rest of it is not read; nothing is sent."""
    store, gateway = shared
    store.forget()
    endless = itertools.repeat(v1.UploadRequest(chunk=SMALL), 1024)
    caller = Caller([*messages, *endless] if is_endless else messages)
    failed = await failure(gateway.address, caller)
    assert (failed.code, failed.info.reason, failed.delivery) == expected
    assert failed.fields == fields
    assert caller.sent_bytes < ENDLESS_BYTES_MAX
    assert store.asked == []


@pytest.fixture(scope="module")
async def shared() -> Any:
    """A gateway for many calls."""
    async with storing() as store, running_gateway(emulator_url=store.url, **SETTINGS) as gateway:
        yield store, gateway


@pytest.mark.parametrize("limit_bytes", [1000, PART_BYTES - 1, PART_BYTES + 1, 2 * PART_BYTES + 1])
async def test_a_file_that_grows_too_large(limit_bytes: int) -> None:
    """A file of unknown size is refused as soon as it passes the limit; no file is made."""
    async with (
        storing() as store,
        running_gateway(emulator_url=store.url, **SETTINGS, upload_bytes_max=limit_bytes) as gateway,
    ):
        caller = Caller([header(None), *itertools.repeat(SMALL_CHUNK, 1024)])
        failed = await failure(gateway.address, caller)
        assert (failed.code, failed.info.reason, failed.delivery) == TOO_LARGE
        assert failed.info.metadata["limit_bytes"] == str(limit_bytes)
        assert caller.sent_bytes < limit_bytes + ENDLESS_BYTES_MAX
        await eventually(lambda: not store.open_requests)
        assert not stored(store)
        budget = gateway.gateway._uploads._budget
        assert budget.free_bytes == SETTINGS["upload_buffer_bytes_max"]


async def test_a_second_header_behind_parts() -> None:
    """A message that is none ends the upload, and nobody is told that nothing was sent."""
    async with standing() as (store, gateway):
        failed = await failure(gateway.address, Caller([*chunks(header(None), HALF), header(None)]))
        assert (failed.code, failed.fields) == ("INVALID_ARGUMENT", ["chunk"])
        assert store.all("part 1")
        assert not stored(store)
        assert failed.delivery == "UNKNOWN"


@pytest.mark.parametrize(
    ("before", "is_declared", "times"),
    [
        pytest.param(b"abc", False, 20, id="tiny"),
        pytest.param(SMALL, False, 5, id="small"),
        pytest.param(SMALL, True, 2, id="small, size declared"),
        pytest.param(HALF, False, 2, id="in parts"),
        pytest.param(HALF, True, 1, id="in parts, size declared"),
    ],
)
async def test_a_message_that_is_too_large(before: bytes, is_declared: bool, times: int) -> None:
    """A message beyond grpc's limit ends the upload; what came before it is never taken for the whole."""
    limits = {"receive_bytes_max": 2 * 1024 * 1024, "input_bytes_max": 1024}
    async with standing(**limits) as (store, gateway):
        large = v1.UploadRequest(chunk=bytes(3_000_000))
        size = len(before) + len(large.chunk) if is_declared else None

        def call() -> str:
            with grpc.insecure_channel(gateway.address) as channel, pytest.raises(grpc.RpcError) as caught:
                messages = [*chunks(header(size), before), large]
                v1.FalServiceStub(channel).Upload(iter(messages), timeout=LONG)
            return unpacked(caught.value).code  # type: ignore[arg-type] # it has the same methods

        codes = await asyncio.gather(*(asyncio.to_thread(call) for _ in range(times)))
        assert set(codes) == {"RESOURCE_EXHAUSTED"}
        await eventually(lambda: not store.open_requests)
        assert not stored(store)

"""Upload when fal's storage fails, is slow or refuses, and when the bytes are not what was declared."""

import asyncio
import hashlib
from collections.abc import Awaitable
from typing import Any

import pytest
from tests.failures import Failure
from tests.uploads.standing import (
    DATA,
    FULL_PARTS,
    PART_BYTES,
    SHA256,
    SMALL,
    chunks,
    failure,
    header,
    standing,
)
from tests.uploads.stores import Act, eventually, stored

from falrpc import v1

PARTS = FULL_PARTS + 1
HALF = PART_BYTES // 2
CLOSED = Act(ending="close", has_effect=True)
PASSING = {
    "503": Act(status=503),
    "503 before the body": Act(status=503, reads_bytes=0),
    "500": Act(status=500),
    "408": Act(status=408),
    "429": Act(status=429),
    "reset in the body": Act(reads_bytes=HALF, ending="reset"),
    "reset behind the body": Act(ending="reset"),
    "closed in the body": Act(reads_bytes=HALF, ending="close"),
    "stored and not answered": CLOSED,
}
"""What a storage does that may go better the next time."""

TOLD = {
    "503": ("UNAVAILABLE", "UPSTREAM_INTERRUPTED", "UNKNOWN"),
    "500": ("INTERNAL", "HTTP_500", "UNKNOWN"),
    "408": ("UNAVAILABLE", "HTTP_408", "UNKNOWN"),
    "reset in the body": ("UNAVAILABLE", "UPSTREAM_INTERRUPTED", "UNKNOWN"),
    "unread": ("UNAVAILABLE", "UPSTREAM_INTERRUPTED", "UNKNOWN"),
    "unanswered": ("UNAVAILABLE", "UPSTREAM_INTERRUPTED", "UNKNOWN"),
}
ALWAYS: dict[str, tuple[Act, dict[str, Any]]] = {
    "503": (Act(status=503), {}),
    "500": (Act(status=500), {}),
    "408": (Act(status=408), {}),
    "reset in the body": (Act(reads_bytes=HALF, ending="reset"), {}),
    "unread": (Act(reads_bytes=0, ending="hang"), {"exchange_seconds_max": 0.5}),
    "unanswered": (Act(ending="hang"), {"read_idle_seconds": 0.5}),
}
"""What it may keep doing to a part, and the settings that bound it."""

REFUSED = ("ABORTED", "UPLOAD_URL_REFUSED", "REJECTED")
MISMATCH = ("INVALID_ARGUMENT", "UPLOAD_MISMATCH", "UNKNOWN")


def told(failed: Failure) -> tuple[str, str, str]:
    """Code, reason and delivery."""
    return failed.code, failed.info.reason, failed.delivery


@pytest.mark.parametrize("fault", PASSING)
async def test_parts_that_fail_twice(fault: str) -> None:
    """A full and the last part are sent again, from their first byte on; the answer says how often."""
    async with standing() as (store, gateway):
        for part in (2, PARTS):
            store.will(f"part {part}", PASSING[fault], PASSING[fault])
        response = await gateway.stub.Upload(chunks(header(sha256=SHA256)))
        assert (response.size, response.sha256) == (len(DATA), SHA256)
        assert (response.parts, response.retries) == (PARTS, 4)
        assert store.files == [SHA256]
        counts = [len(store.all(f"part {part}")) for part in range(1, PARTS + 1)]
        assert counts == [1, 3, 1, 3]


@pytest.mark.parametrize("fault", ["503", "408", "reset behind the body", "stored and not answered"])
async def test_a_small_file_that_fails_twice(fault: str) -> None:
    """A file of unknown size that goes whole is sent again, too."""
    async with standing() as (store, gateway):
        store.will("put", PASSING[fault], PASSING[fault])
        response = await gateway.stub.Upload(chunks(header(None), SMALL))
        assert (response.parts, response.retries, len(store.all("put"))) == (1, 2, 3)
        assert store.files[-1] == hashlib.sha256(SMALL).digest()


async def test_a_part_that_keeps_failing() -> None:
    """The caller is told how a part failed at last; the parts beside it are cut, and no file is made."""

    async def failing(fault: str, act: Act, settings: dict[str, Any]) -> None:
        async with standing(**settings) as (store, gateway):
            store.always("part 2", act)
            if not settings:
                store.will("part 3", Act(ending="hang"))
            failed = await failure(gateway.address, chunks(header()))
            assert told(failed) == TOLD[fault], fault
            assert len(store.all("part 2")) == 6, fault
            if not settings:
                await eventually(lambda: store.all("part 3")[0].is_cut, fault)
            assert not stored(store), fault

    await together(*(failing(fault, act, settings) for fault, (act, settings) in ALWAYS.items()))


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        pytest.param(Act(status=503), TOLD["503"], id="503"),
        pytest.param(Act(status=500), TOLD["500"], id="500"),
        pytest.param(Act(status=408), TOLD["408"], id="408"),
        pytest.param(Act(ending="reset", reads_bytes=1), TOLD["503"], id="reset"),
        pytest.param(Act(ending="hang", reads_bytes=1), TOLD["503"], id="unread"),
        pytest.param(Act(ending="hang"), TOLD["503"], id="unanswered"),
    ],
)
async def test_a_file_that_goes_as_it_comes(act: Act, expected: tuple[str, str, str]) -> None:
    """A file whose bytes nobody has any more is sent once, and its caller is told that the storage failed."""
    limits = {"read_idle_seconds": 1.0, "upload_single_bytes_max": len(DATA)}
    async with standing(**limits) as (store, gateway):
        store.will("put", act)
        failed = await failure(gateway.address, chunks(header()))
        assert told(failed) == expected
        assert len(store.all("put")) == 1
        assert not stored(store)


async def test_a_slow_part() -> None:
    """While a part waits for its answer the other ones go on, all but what there is no memory for."""
    async with standing() as (store, gateway):

        async def others() -> None:
            for part in range(2, PARTS + 1):
                await store.came(f"part {part}")
            assert not store.all("complete")

        store.will("part 1", Act(when=others))
        response = await gateway.stub.Upload(chunks(header()))
        assert (response.parts, response.retries) == (PARTS, 0)
        assert store.files == [SHA256]


async def test_a_part_that_is_not_read_at_first() -> None:
    """A part that nobody reads is given up after the time for an exchange, and sent again."""
    async with standing(exchange_seconds_max=2.0) as (store, gateway):
        store.will("part 2", Act(reads_bytes=0, ending="hang"))
        response = await gateway.stub.Upload(chunks(header()))
        assert response.retries >= 1
        assert store.files == [SHA256]


@pytest.mark.parametrize("reads_bytes", [None, 1000], ids=["whole", "in the body"])
@pytest.mark.parametrize("what", ["put", "put at hand", "part 2", "complete"])
async def test_an_expired_upload_url(what: str, reads_bytes: int | None) -> None:
    """A signed URL that is refused is ABORTED, UPLOAD_URL_REFUSED, at once; no file is made."""
    if what == "complete":
        reads_bytes = None if reads_bytes is None else 10
    is_at_hand, what = what == "put at hand", what.removesuffix(" at hand")
    data, size = (SMALL, None) if is_at_hand else (DATA, len(DATA))
    single_bytes_max = len(DATA) if what == "put" else PART_BYTES
    async with standing(upload_single_bytes_max=single_bytes_max) as (store, gateway):
        for status in (400, 403, 404, 410):
            store.forget()
            store.will(what, Act(status=status, reads_bytes=reads_bytes))
            failed = await failure(gateway.address, chunks(header(size), data))
            assert told(failed) == REFUSED, status
            assert failed.info.metadata["http_status"] == str(status)
            assert len(store.all(what)) == 1
            assert what == "complete" or not store.all("complete")
            assert store.files == []


async def test_an_answer_before_the_file() -> None:
    """A storage that says OK without having read the file has not stored it."""
    async with standing(upload_single_bytes_max=len(DATA)) as (store, gateway):
        store.will("put", Act(status=200, reads_bytes=1000))
        failed = await failure(gateway.address, chunks(header()))
        assert (failed.code, failed.info.reason) == ("UNAVAILABLE", "UPSTREAM_INTERRUPTED")


WAYS = {"put": (SMALL, True), "small": (SMALL, False), "parts": (DATA, True)}
"""A file with one PUT as it comes, one that is read whole before, and one in parts."""


@pytest.mark.parametrize("way", WAYS)
async def test_other_bytes(way: str) -> None:
    """A SHA-256 that is not that of the bytes is told, and no file is made."""
    data, is_declared = WAYS[way]
    async with standing() as (store, gateway):
        first = header(len(data) if is_declared else None, hashlib.sha256(b"other").digest())
        failed = await failure(gateway.address, chunks(first, data))
        assert (*told(failed), *failed.fields) == (*MISMATCH, "header.sha256")
        assert not stored(store)
        assert not any(one.is_whole for one in store.all("put"))


@pytest.mark.parametrize("more", [-1, 1, -100_000, 100_000])
@pytest.mark.parametrize("way", ["put", "parts"])
async def test_another_size(way: str, more: int) -> None:
    """A declared size that is not that of the bytes is told, and no file is made."""
    data, _ = WAYS[way]
    async with standing() as (store, gateway):
        digest = hashlib.sha256(data).digest()
        failed = await failure(gateway.address, chunks(header(len(data) + more, digest), data))
        assert (*told(failed), *failed.fields) == (*MISMATCH, "header.size")
        assert not stored(store)
        assert not any(one.is_whole for one in store.all("put"))


@pytest.mark.parametrize(
    ("lost", "then"),
    [
        pytest.param(CLOSED, [Act(status=404)], id="closed, not found"),
        pytest.param(CLOSED, [Act(status=400)], id="closed, refused"),
        pytest.param(CLOSED, [Act(ending="close"), Act(status=403)], id="closed twice, refused"),
        pytest.param(Act(ending="reset", has_effect=True), [Act(status=404)], id="reset, not found"),
        pytest.param(Act(status=503, has_effect=True), [Act(status=404)], id="503, not found"),
    ],
)
async def test_a_completion_whose_answer_is_lost(lost: Act, then: list[Act]) -> None:
    """A storage that knows no upload any more after a lost answer is no mistake of the caller's."""
    async with standing() as (store, gateway):
        store.will("complete", lost, *then)
        failed = await failure(gateway.address, chunks(header()))
        assert told(failed) == ("UNAVAILABLE", "UPSTREAM_INTERRUPTED", "UNKNOWN")
        assert len(store.all("complete")) == 1 + len(then)
        assert store.files == [SHA256]


async def test_a_completion_that_is_answered_the_second_time() -> None:
    """A lost answer is asked for again: the caller gets the URL of the one file that was made."""
    async with standing() as (store, gateway):
        store.will("complete", CLOSED)
        response: v1.UploadResponse = await gateway.stub.Upload(chunks(header()))
        assert (response.sha256, response.parts) == (SHA256, PARTS)
        assert store.files == [SHA256]
        assert len(store.all("complete")) == 2


async def together(*cases: Awaitable[None]) -> None:
    """Runs cases at once: most of their time is pauses between attempts."""
    async with asyncio.TaskGroup() as group:
        for case in cases:
            group.create_task(one(case))


async def one(case: Awaitable[None]) -> None:
    await case

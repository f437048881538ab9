"""Gateways in front of a storage that do not outlive their uploads' traces, and the callers of them."""

import asyncio
import contextlib
import hashlib
import random
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

from tests.conftest import Running, running_gateway
from tests.failures import Failure, failure_of_upload
from tests.faults.leaks import all_heard
from tests.service.test_leaving import tasks
from tests.uploads.stores import MIB, WAIT_SECONDS_MAX, Act, Store, eventually, storing

from falrpc import v1

__all__ = [
    "DATA",
    "FULL_PARTS",
    "PART_BYTES",
    "SETTINGS",
    "SHA256",
    "SMALL",
    "Caller",
    "chunks",
    "failure",
    "header",
    "own_tasks",
    "standing",
]

PART_BYTES = 5 * MIB
FULL_PARTS = 3
DATA = random.Random(7).randbytes(FULL_PARTS * PART_BYTES + 5)
SHA256 = hashlib.sha256(DATA).digest()
SMALL = DATA[: MIB + 3]
SETTINGS: dict[str, Any] = {
    "upload_part_bytes": PART_BYTES,
    "upload_single_bytes_max": PART_BYTES,
    "upload_buffer_bytes_max": FULL_PARTS * PART_BYTES,
    "upload_parts_at_once": FULL_PARTS,
}


@contextlib.asynccontextmanager
async def standing(**settings: Any) -> AsyncIterator[tuple[Store, Running]]:
    """A gateway in front of a storage. At the end nothing of the uploads that were made may be left."""
    async with (
        storing() as store,
        running_gateway(**{"emulator_url": store.url, **SETTINGS, **settings}) as gateway,
    ):
        await gateway.channel.channel_ready()
        before = tasks()
        with all_heard():
            yield store, gateway
            store.behaves()
            await left_nothing(store, gateway, before)


async def left_nothing(store: Store, gateway: Running, before: "Counter[str]") -> None:
    """Fails unless no task, no connection in use and no byte of memory is held."""
    await eventually(lambda: not store.open_requests, "open requests")
    await eventually(
        lambda: not own_tasks(tasks()) - own_tasks(before), lambda: own_tasks(tasks()) - own_tasks(before)
    )
    whole, full = asyncio.Event(), set()

    async def all_there(number: int) -> None:
        full.add(number)
        if len(full) == FULL_PARTS:
            whole.set()
        await whole.wait()

    # Parts that fill the memory of all uploads must be there at once before one of them is answered.
    for number in range(1, FULL_PARTS + 1):
        store.always(f"part {number}", Act(when=lambda number=number: all_there(number)))
    response = await gateway.stub.Upload(chunks(header()), timeout=WAIT_SECONDS_MAX)
    assert (response.size, response.sha256) == (len(DATA), SHA256)
    assert store.files[-1] == SHA256


def header(size: int | None = len(DATA), sha256: bytes = b"", **rest: Any) -> v1.UploadRequest:
    """The first message."""
    values = {"file_name": "film.mp4", "size": size, "sha256": sha256, **rest}
    return v1.UploadRequest(header=v1.UploadHeader(**values))


def chunks(first: v1.UploadRequest, data: bytes = DATA, chunk_bytes: int = MIB) -> Iterator[v1.UploadRequest]:
    """A whole file."""
    yield first
    for start in range(0, len(data), chunk_bytes):
        yield v1.UploadRequest(chunk=data[start : start + chunk_bytes])


class Caller:
    """A caller who sends some messages and then none; the stream stays open until it is over.

    Attributes:
        sent_bytes: How much of the file was taken from it.
        has_sent_all: Whether all of the messages were taken.
        over: Ends the stream.
    """

    def __init__(self, messages: Iterable[v1.UploadRequest]) -> None:
        self.sent_bytes = 0
        self.has_sent_all = False
        self.over = threading.Event()
        self._messages = messages

    def __iter__(self) -> Iterator[v1.UploadRequest]:
        for message in self._messages:
            if self.over.is_set():
                return
            self.sent_bytes += len(message.chunk)
            yield message
        self.has_sent_all = True
        self.over.wait(2 * WAIT_SECONDS_MAX)


async def failure(
    address: str, messages: Iterable[v1.UploadRequest], seconds: float = 2 * WAIT_SECONDS_MAX
) -> Failure:
    """How an upload fails. A caller's stream is still open until then."""
    try:
        return await failure_of_upload(address, messages, timeout=seconds)
    finally:
        if isinstance(messages, Caller):
            assert not messages.over.is_set()
            messages.over.set()


def own_tasks(found: "Counter[str]") -> "Counter[str]":
    """The tasks that are not this storage's."""
    return Counter({name: count for name, count in found.items() if not name.startswith("Store.")})

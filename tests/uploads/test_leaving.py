"""Uploads whose caller stops, leaves or sends what is none, and uploads that the server's end meets."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from tests.conftest import running_gateway
from tests.faults.leaks import all_heard
from tests.faults.processes import gateway_process
from tests.service.test_leaving import tasks
from tests.uploads.standing import (
    DATA,
    PART_BYTES,
    SETTINGS,
    SHA256,
    SMALL,
    Caller,
    chunks,
    failure,
    header,
    own_tasks,
    standing,
)
from tests.uploads.stores import Act, Store, eventually, stored, storing

from falrpc import v1

LONG = 60  # seconds, beyond every limit here
HALF = DATA[: 2 * PART_BYTES + 2_000_000]  # the last chunk waits for what follows it
SMALL_CHUNK = v1.UploadRequest(chunk=SMALL)
STALLED = ("ABORTED", "UPLOAD_STALLED", "UNKNOWN")


@dataclass(frozen=True)
class Moment:
    """How far an upload has come.

    Attributes:
        messages: What its caller has sent; nothing follows, and the stream stays open.
        came: What the storage has begun to get then.
        acts: What the storage does.
    """

    messages: tuple[v1.UploadRequest, ...]
    came: str = ""
    acts: tuple[tuple[str, Act], ...] = ()

    async def is_reached(self, store: Store, caller: Caller) -> None:
        await eventually(lambda: caller.has_sent_all, "the caller has not sent all")
        if self.came:
            await store.came(self.came, whole=False)


HANG = Act(ending="hang")
MOMENTS = {
    "before the header": Moment(()),
    "before a chunk": Moment((header(None),)),
    "before a chunk, size declared": Moment((header(len(SMALL)),)),
    "in a small file": Moment((header(None), SMALL_CHUNK)),
    "in a file that goes as it comes": Moment((header(3 * len(SMALL)), SMALL_CHUNK, SMALL_CHUNK), "put"),
    "between parts": Moment(tuple(chunks(header(), HALF)), "part 2"),
    "between parts, size unknown": Moment(tuple(chunks(header(None), HALF)), "part 2"),
    "with parts on their way": Moment(
        tuple(chunks(header(), HALF)), "part 2", (("part 1", HANG), ("part 2", HANG))
    ),
}
"""Where a caller may stop."""


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_caller_who_is_silent(moment: str) -> None:
    """A caller who sends nothing for too long is ABORTED, UPLOAD_STALLED."""
    async with standing(upload_idle_seconds=0.5) as (store, gateway):
        for what, act in MOMENTS[moment].acts:
            store.will(what, act)
        failed = await failure(gateway.address, Caller(MOMENTS[moment].messages))
        assert (failed.code, failed.info.reason, failed.delivery) == STALLED
        await eventually(lambda: not store.open_requests)
        assert not stored(store)


def trickle(one: bytes, first: v1.UploadRequest, *before: bytes) -> Iterator[v1.UploadRequest]:
    yield first
    for data in before:
        yield v1.UploadRequest(chunk=data)
    pause = threading.Event()
    while True:
        yield v1.UploadRequest(chunk=one)
        pause.wait(0.01)


@pytest.mark.parametrize("one", [b"x", b""], ids=["byte by byte", "empty chunks"])
async def test_callers_who_trickle(one: bytes) -> None:
    """A caller who takes too long for a part is ABORTED, UPLOAD_STALLED, however often a chunk comes."""
    async with standing(upload_idle_seconds=LONG, upload_part_seconds_max=1.0) as (store, gateway):
        for failed in await asyncio.gather(
            failure(gateway.address, Caller(trickle(one, header(None)))),
            failure(gateway.address, Caller(trickle(one, header(len(DATA))))),
            failure(gateway.address, Caller(trickle(one, header(None), DATA[:PART_BYTES], b"x"))),
        ):
            assert (failed.code, failed.info.reason, failed.delivery) == STALLED
        assert len(store.all("part 1")) <= 1
        assert not stored(store)


async def test_empty_chunks_of_a_file_that_goes_as_it_comes() -> None:
    """Chunks without a byte do not keep an upload alive."""
    async with standing(upload_idle_seconds=0.5) as (store, gateway):
        messages = trickle(b"", header(len(SMALL)), SMALL[:1000])
        failed = await failure(gateway.address, Caller(messages), seconds=5.0)
        assert (failed.code, failed.info.reason, failed.delivery) == STALLED
        assert not stored(store)


@pytest.mark.parametrize("way", ["cancel", "deadline"])
@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_caller_who_leaves(moment: str, way: str) -> None:
    """A caller who cancels, or whose deadline passes, leaves no file: not of what had come until then either."""
    at = MOMENTS[moment]
    count = 1 if at.came else 20  # that many, each at another moment
    async with standing() as (store, gateway):
        for what, act in at.acts:
            store.will(what, act)
        callers = [Caller(at.messages) for _ in range(count)]
        with grpc.insecure_channel(gateway.address) as channel:
            stub = v1.FalServiceStub(channel)
            seconds = LONG if way == "cancel" else 0.7
            calls: list[Any] = [stub.Upload.future(iter(caller), timeout=seconds) for caller in callers]
            for number, (call, caller) in enumerate(zip(calls, callers, strict=True)):
                if way == "cancel":
                    await at.is_reached(store, caller)
                    await asyncio.sleep(number / 1000)
                    call.cancel()
            codes = {
                code.name for code in await asyncio.gather(*(asyncio.to_thread(call.code) for call in calls))
            }
            assert codes == {"CANCELLED" if way == "cancel" else "DEADLINE_EXCEEDED"}
            for caller in callers:
                caller.over.set()
        await gateway.finished(len(calls))
        await eventually(lambda: not store.open_requests)
        told = {line["code"] for line in gateway.logged("call.finished")}
        # Whoever leaves looks like the end of the file for a moment; nobody is told what is made of that.
        assert told <= {"CANCELLED", "DEADLINE_EXCEEDED", "INVALID_ARGUMENT"}, told
        assert not stored(store)
        assert not any(one.is_whole for one in store.all("put"))


async def test_a_caller_who_leaves_while_parts_are_joined() -> None:
    """A completion whose caller has left is cut, and not sent again."""
    async with standing() as (store, gateway):
        store.will("complete", HANG)
        with grpc.insecure_channel(gateway.address) as channel:
            call: Any = v1.FalServiceStub(channel).Upload.future(chunks(header()))
            await store.came("complete")
            call.cancel()
        await gateway.finished()
        await eventually(lambda: store.all("complete")[0].is_cut)
        assert (len(store.all("complete")), store.files) == (1, [])


@pytest.mark.parametrize("moment", [*MOMENTS, "while parts are joined"])
async def test_a_gateway_that_stops(moment: str) -> None:
    """A gateway that stops tells the caller so, and leaves no file, no task and no request behind."""
    is_joined = moment == "while parts are joined"
    at = Moment((), "complete", (("complete", HANG),)) if is_joined else MOMENTS[moment]
    async with storing() as store:
        for what, act in at.acts:
            store.will(what, act)
        caller = Caller(at.messages)
        before = tasks()
        with all_heard():
            async with running_gateway(emulator_url=store.url, **SETTINGS) as gateway:
                messages = chunks(header()) if is_joined else caller
                failing = asyncio.create_task(failure(gateway.address, messages))
                if is_joined:
                    await store.came(at.came)
                else:
                    await at.is_reached(store, caller)
                await eventually(lambda: len(gateway.gateway._calls) == 1)
            failed = await failing
            await eventually(lambda: not store.open_requests)
            await eventually(lambda: not own_tasks(tasks()) - own_tasks(before))
        assert (failed.code, failed.info.reason) == ("UNAVAILABLE", "SERVER_DRAINING")
        assert failed.delivery == ("UNKNOWN" if at.came else "NOT_SENT")
        assert store.files == []
        assert is_joined or not store.all("complete")


async def test_sigterm() -> None:
    """On SIGTERM an upload that ends in time ends well, the other ones are told, and nothing of them is stored."""
    limits = {"drain_delay_seconds": 0, "drain_seconds": 2.0, **SETTINGS}
    async with storing() as store, gateway_process(store.url, **limits) as gateway:
        slow = MOMENTS["between parts, size unknown"]
        caller = Caller(slow.messages)
        failing = asyncio.create_task(failure(gateway.address, caller))
        await slow.is_reached(store, caller)
        ending = asyncio.Event()
        store.will("complete", Act(when=ending.wait))
        with grpc.insecure_channel(gateway.address) as channel:
            good: Any = v1.FalServiceStub(channel).Upload.future(chunks(header()))
            await store.came("complete")
            gateway.send(signal.SIGTERM)
            await gateway.has_logged("server.draining")
            assert not failing.done()
            ending.set()
            response = await asyncio.to_thread(good.result)
        failed = await failing
        assert (failed.code, failed.info.reason) == ("UNAVAILABLE", "SERVER_DRAINING")
        assert await gateway.ended() == 0
        assert "Traceback" not in gateway.errors()
        await eventually(lambda: not store.open_requests)
        assert response.size == len(DATA)
        assert (store.files, len(store.all("complete"))) == ([SHA256], 1)

"""What is left behind when callers leave, many at once or just before the end: nothing."""

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tests.conftest import Fal, Running, running_gateway
from tests.service.test_queue_calls import request, submitted
from tests.service.test_run import WAIT_SECONDS_MAX, arrived, run
from tests.service.test_stream_calls import replayed, stream

from falrpc import v1

CALLS = 50
LONG = 60  # seconds, after which a test that waits in vain ends
OPERATIONS = {
    "Run": "run",
    "Run, in the body": "stream",
    "Stream": "stream",
    "StreamWorkflow": "stream",
    "StreamStatus": "status_stream",
    "Subscribe": "status_stream",
}


@pytest.fixture
async def narrow(emulator_url: str, fal: Fal) -> AsyncIterator[Running]:
    """A gateway with just enough connections to fal, so that one that is lost is missed.

    Its heartbeats are so slow that one which is left behind is still there when it is looked for.
    """
    limits = {"connections_max": CALLS, "heartbeat_seconds": 3_600}
    async with running_gateway(emulator_url=emulator_url, **limits) as gateway:
        yield gateway


@pytest.mark.parametrize("method", OPERATIONS)
async def test_many_that_leave(narrow: Running, fal: Fal, method: str) -> None:
    """50 calls that are cancelled leave no task, no open request and no connection in use behind."""
    stub = narrow.stub
    handle = await submitted(narrow, "emulator/cancellable")
    subscribe = v1.SubscribeRequest(submit=request("emulator/cancellable"))
    hanging = '{"events":[1],"end":"hang"}'
    asked: dict[str, Callable[[], Any]] = {
        "Run": lambda: stub.Run(run("emulator/sleep", '{"seconds":30}'), timeout=LONG),
        # the stream of another model: an answer whose body takes for ever
        "Run, in the body": lambda: stub.Run(run("emulator/events/stream", hanging), timeout=LONG),
        "Stream": lambda: stub.Stream(stream("emulator/events", hanging), timeout=LONG),
        "StreamWorkflow": lambda: stub.StreamWorkflow(replayed("1", end="hang"), timeout=LONG),
        "StreamStatus": lambda: stub.StreamStatus(v1.StreamStatusRequest(handle=handle), timeout=LONG),
        "Subscribe": lambda: stub.Subscribe(subscribe, timeout=LONG),
    }
    before = tasks()
    calls = [asked[method]() for _ in range(CALLS)]
    await arrived(fal, OPERATIONS[method], 1 if method == "StreamStatus" else CALLS)  # one request, one flow
    if method == "Run, in the body":
        await logged(narrow, "request.accepted", CALLS)
    elif method != "Run":
        readers = calls if method == "StreamStatus" else calls[: CALLS // 2]
        await asyncio.gather(*(call.read() for call in readers))
    for call in calls:
        call.cancel()
    del calls, call
    await are_gone(before)
    await is_idle(fal)
    answers = await asyncio.gather(*(in_order(stub.Run(run("emulator/echo"))) for _ in range(CALLS)))
    assert [answer.output.json for answer in answers] == ["{}"] * CALLS
    codes = Counter(line["code"] for line in narrow.logged("call.finished"))
    assert codes["CANCELLED"] == CALLS
    await stub.Cancel(v1.CancelRequest(handle=handle))


@pytest.mark.parametrize("seconds", [0.05, 3_600])
@pytest.mark.parametrize("method", ["Stream", "StreamWorkflow", "StreamStatus", "Subscribe"])
async def test_heartbeats_end_with_their_stream(
    emulator_url: str, fal: Fal, method: str, seconds: float
) -> None:
    """A stream that ended well leaves no heartbeat behind, neither one that waits nor one that fails later."""
    async with running_gateway(emulator_url=emulator_url, heartbeat_seconds=seconds) as gateway:
        before = tasks()
        submit = request("emulator/sleep", '{"seconds":0.15}')
        asked: Any = v1.SubscribeRequest(submit=submit)
        if method == "StreamStatus":
            asked = v1.StreamStatusRequest(handle=(await gateway.stub.Submit(submit)).handle)
        elif method == "Stream":
            asked = stream("emulator/events", '{"events":[1],"delay":0.15}')
        elif method == "StreamWorkflow":
            asked = replayed()
            asked.input.json = '{"events":[{"type":"output","output":{}}],"delay":0.15}'
        kinds = [
            message.WhichOneof("kind") async for message in getattr(gateway.stub, method)(asked, timeout=LONG)
        ]
        assert ("heartbeat" in kinds) == (seconds < 1)
        await are_gone(before)


async def test_a_heartbeat_that_meets_the_end(emulator_url: str, fal: Fal) -> None:
    """Streams that are left while heartbeats go out end CANCELLED, and nothing is said of the heartbeats."""
    unheard: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: unheard.append(context))
    try:
        async with running_gateway(emulator_url=emulator_url, heartbeat_seconds=0.002) as gateway:
            handle = await submitted(gateway, "emulator/cancellable")
            before = tasks()
            asked = v1.StreamStatusRequest(handle=handle)
            calls = [gateway.stub.StreamStatus(asked, timeout=LONG) for _ in range(CALLS)]
            await asyncio.gather(*map(first_heartbeat, calls))
            for call in calls:
                call.cancel()
            del calls, call
            await are_gone(before)
            gc.collect()
            codes = Counter(line["code"] for line in gateway.logged("call.finished"))
            assert codes == {"OK": 1, "CANCELLED": CALLS}
    finally:
        loop.set_exception_handler(None)
    assert unheard == []


async def test_leaving_just_before_the_end(emulator_url: str, fal: Fal) -> None:
    """A Subscribe that is abandoned just before the gateway stops is still cancelled at fal."""
    fal.will("slow", operation="cancel", seconds=0.5)
    async with running_gateway(emulator_url=emulator_url) as gateway:
        call = gateway.stub.Subscribe(v1.SubscribeRequest(submit=request("emulator/cancellable")))
        await arrived(fal, "status_stream")
        call.cancel()
        await logged(gateway, "call.finished")
    [record] = fal.received(operation="cancel")
    assert (record["outcome"], record["status"]) == ("answered", 202)
    [line] = gateway.logged("request.cancelled")
    assert line["outcome"] == "CANCELLATION_REQUESTED"


async def test_a_stopped_gateway(emulator_url: str, fal: Fal) -> None:
    """A gateway that stops with calls in flight leaves no task and no open request behind."""
    before = tasks()
    async with running_gateway(emulator_url=emulator_url, heartbeat_seconds=0.05) as gateway:
        asked = stream("emulator/events", '{"events":[1],"end":"hang"}')
        streaming = gateway.stub.Stream(asked, timeout=LONG)
        await first_heartbeat(streaming)
        running = gateway.stub.Run(run("emulator/sleep", '{"seconds":30}'))
        await arrived(fal, "run")
    del streaming, running
    await are_gone(before)
    await is_idle(fal)


def tasks() -> Counter[str]:
    """The tasks of this event loop, by what they run."""
    return Counter(getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks())


async def are_gone(before: Counter[str]) -> None:
    """Waits until no task is left that was not there before."""
    try:
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while tasks() - before:
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"left: {tasks() - before}") from None


async def logged(gateway: Running, event: str, count: int = 1) -> None:
    """Waits until the gateway has logged that many of an event."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while len(gateway.logged(event)) < count:
            await asyncio.sleep(0.001)


async def is_idle(fal: Fal) -> None:
    """Waits until fal has no open request."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while await fal.open_requests():
            await asyncio.sleep(0.01)


async def first_heartbeat(call: Any) -> None:
    async for message in call:
        if message.HasField("heartbeat"):
            return


async def in_order(call: Any) -> Any:
    return await call

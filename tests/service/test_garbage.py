"""What calls leave behind: nothing of ours that only a garbage collection finds."""

import asyncio
import contextlib
import gc
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import httpx
import pytest
from tests.conftest import Fal, Running
from tests.service.test_queue_calls import request
from tests.service.test_run import run
from tests.service.test_stream_calls import replayed, stream, workflow

from falrpc import v1

CALLS = 10
COMPLETED = '{"type":"completion","node_id":"a","app_id":"x/y","output":{}}'
OUTPUT = '{"type":"output","output":{}}'


async def read(call: Any) -> None:
    async for _ in call:
        pass


async def cancelled(stub: Any) -> None:
    call = stub.Stream(stream("emulator/events", '{"events":[1],"end":"hang"}'))
    await call.read()
    await call.read()
    call.cancel()


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda stub: stub.Run(run("emulator/echo")), id="Run"),
        pytest.param(lambda stub: read(stub.Stream(stream("emulator/ticks", '{"seconds":0}'))), id="Stream"),
        pytest.param(
            lambda stub: read(stub.StreamWorkflow(replayed(COMPLETED, OUTPUT))), id="StreamWorkflow"
        ),
        pytest.param(
            lambda stub: read(stub.Subscribe(v1.SubscribeRequest(submit=request("emulator/echo")))),
            id="Subscribe",
        ),
        pytest.param(cancelled, id="cancelled"),
    ],
)
async def test_garbage(gateway: Running, fal: Fal, call: Callable[[Any], Awaitable[Any]]) -> None:
    """A call that ended well or was cancelled is gone without a collection, which takes long when much is open.

    Errors refer to themselves through their tracebacks; they are young, and collections of the young are brief.
    """

    async def calls(so_far: int) -> None:
        for _ in range(CALLS):
            with contextlib.suppress(grpc.aio.AioRpcError):
                await call(gateway.stub)
        await gateway.finished(so_far + CALLS)
        await asyncio.sleep(0.2)  # the last call's own task ends

    await calls(0)
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        await calls(CALLS)
        gc.collect()
        left = Counter(
            f"{type(one).__module__}.{type(one).__qualname__}"
            for one in gc.garbage
            if type(one).__module__.startswith("falrpc")
        )
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    # Fewer are left of something else that ended meanwhile, a gateway of the test before perhaps.
    assert not {name: count for name, count in left.items() if count >= CALLS}


async def test_cut_streams(gateway: Running, fal: Fal) -> None:
    """The request of a stream that was open for long, and then cut, is gone without a full collection."""
    asked = workflow(
        "workflows/emulator/replay", f'{{"events":[{COMPLETED},{COMPLETED}],"delay":0.3,"end":"cut"}}'
    )
    calls = [gateway.stub.StreamWorkflow(asked) for _ in range(CALLS)]
    for call in calls:
        await call.read()
        await call.read()
    assert requests_alive() >= CALLS
    gc.collect()  # what is open is old now
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError):
            while (await call.read()) is not grpc.aio.EOF:
                pass
    await gateway.finished(CALLS)
    await asyncio.sleep(0.2)
    gc.collect(1)
    assert requests_alive() == 0


def requests_alive() -> int:
    """How many requests to models are still in memory."""
    found = [one for one in gc.get_objects() if isinstance(one, httpx.Request)]
    return sum("/run/" in str(one.url) for one in found)

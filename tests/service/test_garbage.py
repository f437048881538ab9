"""What calls leave behind: nothing of ours that only a garbage collection finds."""

import asyncio
import contextlib
import gc
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from tests.conftest import Fal, Running
from tests.service.test_queue_calls import request
from tests.service.test_run import run
from tests.service.test_stream_calls import replayed, stream

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

    async def calls() -> None:
        for _ in range(CALLS):
            with contextlib.suppress(grpc.aio.AioRpcError):
                await call(gateway.stub)
        await gateway.finished()
        await asyncio.sleep(0.2)  # the last call's own task ends

    await calls()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        await calls()
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
    assert not left

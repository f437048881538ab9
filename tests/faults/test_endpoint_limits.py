"""FALRPC_ENDPOINT_LIMITS, through a running gateway."""

import asyncio

import grpc
import pytest
from google.rpc import error_details_pb2
from tests.conftest import Fal, Running, running_gateway
from tests.failures import failure_of, messages_and_failure
from tests.service.test_leaving import logged
from tests.service.test_queue_calls import submitted
from tests.service.test_run import arrived, run
from tests.service.test_stream_calls import stream

LONG_RUN = '{"seconds":30}'
LIMITS = {"endpoint_limits": "emulator/sleep=2,emulator/events=1", "pool_seconds": 0.2}


async def full(gateway: Running, fal: Fal) -> list[asyncio.Future[object]]:
    """Takes all places of emulator/sleep."""
    calls = [gateway.stub.Run(run("emulator/sleep", LONG_RUN)) for _ in range(2)]
    await arrived(fal, "run", 2)
    return calls


async def test_no_place(emulator_url: str, fal: Fal) -> None:
    """A call too many waits FALRPC_POOL_SECONDS, then ends RESOURCE_EXHAUSTED with nothing sent."""
    async with running_gateway(emulator_url=emulator_url, **LIMITS) as gateway:
        calls = await full(gateway, fal)
        failed = await failure_of(gateway.stub.Run(run("emulator/sleep", LONG_RUN), timeout=30))
        assert (failed.code, failed.info.reason, failed.delivery) == (
            "RESOURCE_EXHAUSTED",
            "UPSTREAM_BUSY",
            "NOT_SENT",
        )
        assert failed.find(error_details_pb2.RetryInfo) is not None
        assert len(fal.received(operation="run")) == 2
        await logged(gateway, "call.finished")
        assert (await gateway.finished())[-1]["paid"] is False  # not committed: anybody may repeat it
        await gateway.stub.Run(run("emulator/echo"))
        await submitted(gateway, "emulator/echo")
        for call in calls:
            call.cancel()


async def test_a_place_that_becomes_free(emulator_url: str, fal: Fal) -> None:
    """A call that waits gets the place of one that leaves."""
    async with running_gateway(emulator_url=emulator_url, **{**LIMITS, "pool_seconds": 30}) as gateway:
        calls = await full(gateway, fal)
        waiting = gateway.stub.Run(run("emulator/sleep", '{"seconds":0}'))
        await asyncio.sleep(0.2)
        assert len(fal.received(operation="run")) == 2
        calls[0].cancel()
        await waiting
        calls[1].cancel()


async def test_streams_hold_their_place(emulator_url: str, fal: Fal) -> None:
    """A stream has its place until it ends."""
    async with running_gateway(emulator_url=emulator_url, **LIMITS) as gateway:
        open_one = gateway.stub.Stream(stream("emulator/events", '{"events":[1],"end":"hang"}'))
        await open_one.read()
        asked = stream("emulator/events", '{"events":[1]}')
        _, failed = await messages_and_failure(gateway.stub.Stream(asked))
        assert failed.info.reason == "UPSTREAM_BUSY"
        open_one.cancel()
        async with asyncio.timeout(10):
            while True:
                try:
                    messages = [message async for message in gateway.stub.Stream(asked)]
                except grpc.aio.AioRpcError:  # the place is given back a moment after the cancel
                    continue
                break
        assert messages[-1].event.json == "1"


@pytest.mark.parametrize(
    "value", ["fal-ai/flux", "=3", "fal-ai/flux=0", "fal-ai/flux=-1", "fal-ai/=1", "a/b=1,a/b=2", "a/b=x"]
)
async def test_bad_values(value: str) -> None:
    """What is no list of beginnings and limits is refused at the start."""
    with pytest.raises(ValueError, match="beginnings of endpoint ids"):
        async with running_gateway(endpoint_limits=value):
            pass

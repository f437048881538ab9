"""A second signal, just while a gateway refuses new calls: those that come then are refused in the same words."""

import asyncio
import signal
from collections import Counter

import pytest
from tests.conftest import Fal, Running, running_gateway
from tests.failures import Failure, failure_of
from tests.faults.each_call import LONG
from tests.faults.history import History
from tests.faults.processes import gateway_process
from tests.processes.channels import own_channel
from tests.service.test_run import WAIT_SECONDS_MAX, run
from tests.service.test_stream_calls import stream

from falrpc import v1

CALLERS = 40
ENDLESS = '{"events":1000,"seconds":0,"bytes":900000}'


async def is_refused(gateway: Running) -> Failure:
    """A call that must be refused because of the drain."""
    failed = await failure_of(gateway.stub.Run(run("emulator/echo"), timeout=LONG))
    assert (failed.code, failed.info.reason) == ("UNAVAILABLE", "SERVER_DRAINING")
    assert failed.delivery == "NOT_SENT"
    return failed


async def test_a_drain_that_is_given_up_while_it_refuses(emulator_url: str, fal: Fal) -> None:
    """Calls that come when the drain is given up are refused as before, and none is a bug."""
    async with running_gateway(emulator_url=emulator_url) as gateway:
        await gateway.channel.channel_ready()
        drain = asyncio.create_task(gateway.gateway.drain())
        while not gateway.gateway._calls.refuses_new:
            await asyncio.sleep(0)
        await is_refused(gateway)
        assert not drain.done()
        drain.cancel()
        await asyncio.wait({drain}, timeout=WAIT_SECONDS_MAX)
        for _ in range(3):
            await is_refused(gateway)
        assert gateway.logged("call.failed") == []
    assert fal.received() == []


async def test_a_stop_that_waits(emulator_url: str, fal: Fal) -> None:
    """While a stop waits for the calls that it ends, new ones are refused."""
    async with running_gateway(emulator_url=emulator_url) as gateway:
        unread = gateway.stub.Stream(stream("emulator/ticks", ENDLESS), timeout=LONG)
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while not gateway.logged("request.accepted"):
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)  # until its writes are blocked: its end takes a second then
        stop = asyncio.create_task(gateway.gateway.stop())
        await asyncio.sleep(0.1)
        assert not stop.done()
        await is_refused(gateway)
        assert fal.received(operation="run") == []
        await stop
        unread.cancel()


@pytest.mark.parametrize("delay_seconds", [0.0, 0.5])
async def test_two_signals_under_load(emulator_url: str, delay_seconds: float) -> None:
    """Calls that come around a second SIGTERM end OK, UNAVAILABLE or, when grpc itself stops, CANCELLED.

    Those that were at fal when it came end UNKNOWN. None is INTERNAL, and the gateway ends as it should.
    """
    history = History()
    stopped = asyncio.Event()
    async with gateway_process(emulator_url, drain_delay_seconds=delay_seconds) as gateway:

        async def caller() -> None:
            async with own_channel(gateway.address) as channel:
                while not stopped.is_set():
                    await history.call(v1.FalServiceStub(channel), "Run", run("emulator/echo"), LONG)
                    await asyncio.sleep(0.005)

        callers = [asyncio.create_task(caller()) for _ in range(CALLERS)]
        try:
            await gateway.has_logged("call.finished", CALLERS)
            gateway.send(signal.SIGTERM)
            async with asyncio.timeout(LONG):
                while not any(call.reason == "SERVER_DRAINING" for call in history.calls):
                    await asyncio.sleep(0.001)
            gateway.send(signal.SIGTERM)
            assert await gateway.ended() == 0
        finally:
            stopped.set()
            async with asyncio.timeout(LONG):
                await asyncio.gather(*callers)
        assert gateway.logged("call.failed") == []
    codes = Counter(call.code for call in history.calls)
    assert set(codes) <= {"OK", "UNAVAILABLE", "CANCELLED", "UNKNOWN"}, codes
    cut = [call for call in history.calls if call.code == "UNKNOWN"]
    assert {(call.reason, call.delivery) for call in cut} <= {("SERVER_DRAINING", "UNKNOWN")}
    assert {call.reason for call in history.calls} <= {"", "SERVER_DRAINING"}

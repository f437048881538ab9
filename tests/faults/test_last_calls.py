"""New calls that come just as a gateway stops taking them: they are refused in words that invite a repeat."""

import asyncio
import contextlib
import signal
from collections import Counter

import grpc
from tests.conftest import Fal
from tests.faults.calls_in_flight import is_refused, marked
from tests.faults.history import History
from tests.faults.processes import gateway_process
from tests.processes.channels import own_channel
from tests.service.test_run import run

from falrpc import v1

CALLERS = 100
CHANNELS = 4
LONG = 60


async def test_calls_that_come_too_late(emulator_url: str, fal: Fal) -> None:
    """Under load every call that a drain refuses ends UNAVAILABLE, never CANCELLED, and nothing of it was sent.

    grpc itself ends what it has not yet handed to the service when it stops as CANCELLED (grpc/grpc#41785).
    """
    history = History()
    async with contextlib.AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(gateway_process(emulator_url, drain_delay_seconds=0.5))
        channels = [await stack.enter_async_context(own_channel(gateway.address)) for _ in range(CHANNELS)]
        callers = [
            asyncio.create_task(calls_until_refused(channels[n % CHANNELS], history)) for n in range(CALLERS)
        ]
        await gateway.has_logged("call.finished", CALLERS)
        gateway.send(signal.SIGTERM)
        async with asyncio.timeout(LONG):
            await asyncio.gather(*callers)
        assert await gateway.ended() == 0
    refused = [call for call in history.calls if call.code != "OK"]
    assert Counter(call.code for call in refused) == {"UNAVAILABLE": CALLERS}
    deliveries = Counter(call.delivery for call in refused)
    assert set(deliveries) <= {"NOT_SENT", ""}
    assert deliveries["NOT_SENT"] > CALLERS / 2, deliveries  # most in our own words, before grpc's end
    evidence = fal.received()
    sent = {record["body_sha256"] for record in evidence}
    assert not any(call.body_sha256 in sent for call in refused)
    history.calls = [call for call in history.calls if not is_refused(call)]
    history.check(gateway.logged(), evidence)


async def calls_until_refused(channel: grpc.aio.Channel, history: History) -> None:
    """Makes call after call until one fails."""
    stub = v1.FalServiceStub(channel)
    while True:
        asked = run("emulator/echo", marked('"last":true'))
        if (await history.call(stub, "Run", asked, LONG)).code != "OK":
            return

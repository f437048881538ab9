"""What a process still has to do for abandoned calls when it is told to end: it does it first."""

import asyncio
import signal
from typing import Any

from tests.conftest import Fal
from tests.faults.processes import gateway_process
from tests.processes.channels import own_channel
from tests.service.test_queue_calls import request
from tests.service.test_run import WAIT_SECONDS_MAX

from falrpc import v1

SUBSCRIPTIONS = 20


async def test_cancels_of_abandoned_subscriptions(emulator_url: str, fal: Fal) -> None:
    """Subscriptions that were abandoned just before SIGTERM are all cancelled at fal before the process ends."""
    fal.will("slow", operation="cancel", seconds=0.5, times=None)
    async with gateway_process(emulator_url, drain_delay_seconds=0, drain_seconds=0.1) as gateway:
        async with own_channel(gateway.address) as channel:
            stub = v1.FalServiceStub(channel)
            calls: list[Any] = [
                stub.Subscribe(v1.SubscribeRequest(submit=request("emulator/cancellable")))
                for _ in range(SUBSCRIPTIONS)
            ]
            accepted = [(await call.read()).accepted.request_id for call in calls]
            for call in calls:
                call.cancel()
            async with asyncio.timeout(WAIT_SECONDS_MAX):
                while len(await fal.seen(operation="cancel")) < SUBSCRIPTIONS / 2:
                    await asyncio.sleep(0.01)
            gateway.send(signal.SIGTERM)
            assert await gateway.ended() == 0
        records = fal.received(operation="cancel")
        assert [record["outcome"] for record in records] == ["answered"] * SUBSCRIPTIONS
        told = {line["request_id"] for line in gateway.logged("request.cancelled")}
        assert told == set(accepted)
        assert "Traceback" not in gateway.errors()

"""Somebody who makes calls on a connection of their own while others attack."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.processes.channels import own_channel

from falrpc import v1

__all__ = ["Bystander", "bystander"]

PAUSE_SECONDS = 0.002
CALL_SECONDS_MAX = 20.0


class Bystander:
    """Calls Run and Health.Check in turn. A call that fails ends it, and shows when it is left."""

    def __init__(self) -> None:
        self._seconds: list[float] = []

    def seconds(self, share: float) -> float:
        """What this share of all calls took at most."""
        ordered = sorted(self._seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def __len__(self) -> int:
        return len(self._seconds)

    async def call(self, address: str) -> None:
        """Makes calls until it is cancelled."""
        async with own_channel(address) as channel:
            stub, health = v1.FalServiceStub(channel), health_pb2_grpc.HealthStub(channel)
            asked = v1.RunRequest(endpoint_id="emulator/echo")
            await channel.channel_ready()
            while True:
                started = time.monotonic()
                await stub.Run(asked, timeout=CALL_SECONDS_MAX)
                between = time.monotonic()
                await health.Check(health_pb2.HealthCheckRequest(), timeout=CALL_SECONDS_MAX)
                self._seconds += (between - started, time.monotonic() - between)
                await asyncio.sleep(PAUSE_SECONDS)


@contextlib.asynccontextmanager
async def bystander(address: str) -> AsyncIterator[Bystander]:
    """One who calls meanwhile. A call that failed is raised at the end."""
    one = Bystander()
    calling = asyncio.create_task(one.call(address))
    try:
        yield one
    finally:
        calling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await calling

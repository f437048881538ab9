"""Calls that are open while a gateway is told to stop, and small ones that are made until it is gone."""

import asyncio
import itertools
from typing import Any

import grpc
from tests.faults.history import History, Told
from tests.processes.channels import own_channel
from tests.service.test_run import run

from falrpc import v1

__all__ = ["CallsInFlight", "is_refused", "is_stream", "marked", "probed"]

LONG = 120  # seconds, beyond every limit here

_numbers = itertools.count(1)


def marked(members: str) -> str:
    """A JSON object that no other call's input is."""
    return f'{{{members},"number":{next(_numbers)}}}'


class CallsInFlight:
    """Calls over several connections, and their history."""

    def __init__(self, channels: list[grpc.aio.Channel]) -> None:
        self.history = History()
        self.tasks: list[asyncio.Task[Told]] = []
        self._stubs = itertools.cycle([v1.FalServiceStub(channel) for channel in channels])

    def begin(self, method: str, asked: Any) -> None:
        """Begins a call."""
        call = self.history.call(next(self._stubs), method, asked)
        self.tasks.append(asyncio.create_task(call))

    async def ended(self) -> list[Told]:
        """Waits until all of them have ended."""
        async with asyncio.timeout(LONG):
            return list(await asyncio.gather(*self.tasks))


async def probed(
    address: str, channel: grpc.aio.Channel, history: History, begun: asyncio.Event, over: asyncio.Event
) -> list[Told]:
    """Makes small calls until it is over, each on an old and on a new connection in turn."""
    probes = []
    while not over.is_set():
        asked = run("emulator/echo", marked('"probe":true'))
        probes.append(await history.call(v1.FalServiceStub(channel), "Run", asked, LONG))
        async with own_channel(address) as new:
            asked = run("emulator/echo", marked('"probe":true'))
            probes.append(await history.call(v1.FalServiceStub(new), "Run", asked, LONG))
        begun.set()
        await asyncio.sleep(0.05)
    return probes


def is_stream(call: Told) -> bool:
    return call.method in ("Stream", "StreamWorkflow", "Subscribe", "StreamStatus")


def is_refused(call: Told) -> bool:
    """Whether the call found no server."""
    return call.code == "UNAVAILABLE" and not call.has_error_info

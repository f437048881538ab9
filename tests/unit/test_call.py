"""A call's commit and its heartbeats, which both want to be first."""

import asyncio
import io
from typing import Any

from falrpc_server.interceptors.call import Call
from falrpc_server.observability import make_logger


class Strict:
    """grpc's side of a call: initial metadata goes out once, and nothing may be written meanwhile."""

    def __init__(self) -> None:
        self.is_sending = False
        self.written = asyncio.Event()

    async def send_initial_metadata(self, _: Any) -> None:
        self.is_sending = True
        await asyncio.sleep(0.02)
        self.is_sending = False

    async def write(self, _: Any) -> None:
        assert not self.is_sending, "written while initial metadata goes out"
        self.written.set()


async def test_a_heartbeat_during_the_commit() -> None:
    """A heartbeat that falls due while the call is committed is sent after it, and the beat goes on."""
    context: Any = Strict()
    call = Call("Stream", context, make_logger("info", io.StringIO()))
    async with call.streaming():
        call.start_heartbeats(0.001, b"")
        await call.scope.commit()
        async with asyncio.timeout(5):
            await context.written.wait()

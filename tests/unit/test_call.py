"""A call's commit and its heartbeats, which both want to be first."""

import asyncio
import io
from typing import Any

import pytest

from falrpc_server.interceptors.call import Call, ReaderStalled
from falrpc_server.observability import make_logger


class Begun:
    """grpc's side of a call that takes initial metadata."""

    async def send_initial_metadata(self, _: Any) -> None:
        pass


class Strict(Begun):
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
    call = Call("Stream", context, make_logger("info", io.StringIO()), stall_seconds=60)
    async with call.streaming():
        call.start_heartbeats(0.001, b"")
        await call.scope.commit()
        async with asyncio.timeout(5):
            await context.written.wait()


class Unread(Begun):
    """grpc's side of a call whose caller reads nothing."""

    async def write(self, _: Any) -> None:
        await asyncio.Event().wait()


async def stalled(heartbeat_seconds: float, send: bool) -> None:
    context: Any = Unread()
    call = Call("Stream", context, make_logger("info", io.StringIO()), stall_seconds=0.05)
    async with call.streaming():
        call.start_heartbeats(heartbeat_seconds, b"")
        if send:
            await call.send(b"")
        await asyncio.Event().wait()


async def test_a_message_that_is_not_read() -> None:
    """Past the limit sending fails with ReaderStalled."""
    async with asyncio.timeout(5):
        with pytest.raises(ReaderStalled):
            await stalled(0, send=True)


async def test_a_heartbeat_that_is_not_read() -> None:
    """Past the limit a heartbeat ends the call, which has nothing to send itself."""
    task = asyncio.create_task(stalled(0.01, send=False))
    async with asyncio.timeout(5):
        await asyncio.wait({task})
    assert task.cancelled()


class Slow(Begun):
    """grpc's side of a call whose caller takes a while for each message, heartbeats too."""

    async def write(self, _: Any) -> None:
        await asyncio.sleep(1.0)


async def test_the_wait_for_another_message_is_no_stall() -> None:
    """The limit is for one message: one that waits for a heartbeat before it has its own time."""
    context: Any = Slow()
    call = Call("Stream", context, make_logger("info", io.StringIO()), stall_seconds=1.9)
    async with call.streaming():
        call.start_heartbeats(0.01, b"")
        for _ in range(2):
            await asyncio.sleep(0.05)  # a heartbeat is on its way by then
            await call.send(b"")
    assert call.messages >= 4


class Noting:
    """grpc's side of a call that takes its time, and notes what it has sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def send_initial_metadata(self, _: Any) -> None:
        await asyncio.sleep(0.1)
        self.sent.append("initial metadata")

    async def write(self, _: Any) -> None:
        self.sent.append("message")


async def test_what_is_sent_first() -> None:
    """Initial metadata go before the first message and once: grpc's status has them again if a write is cut."""
    context: Any = Noting()
    call = Call("StreamStatus", context, make_logger("info", io.StringIO()), stall_seconds=60)
    await call.send(b"")
    await call.send(b"")
    await call.scope.commit()
    assert context.sent == ["initial metadata", "message", "message"]


@pytest.mark.parametrize("cancellations", [1, 2])
@pytest.mark.parametrize("way", ["commit", "send"])
async def test_initial_metadata_are_not_broken_off(way: str, cancellations: int) -> None:
    """A call that is cancelled while they are sent ends when they are."""
    context: Any = Noting()
    call = Call("StreamStatus", context, make_logger("info", io.StringIO()), stall_seconds=60)
    sending = asyncio.ensure_future(call.scope.commit() if way == "commit" else call.send(b""))
    for _ in range(cancellations):
        await asyncio.sleep(0.01)
        sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert context.sent == ["initial metadata"]


async def test_initial_metadata_that_never_go() -> None:
    """A call that is cancelled is not held up by them for long."""
    context: Any = Noting()
    context.send_initial_metadata = lambda _: asyncio.sleep(30)
    call = Call("Run", context, make_logger("info", io.StringIO()), stall_seconds=60)
    sending = asyncio.ensure_future(call.scope.commit())
    await asyncio.sleep(0.01)
    sending.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await sending

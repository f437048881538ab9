"""When a webhook comes again, and when no more (fal-http-api.md §11.2), on real sockets."""

import asyncio
import itertools

import pytest
from tests.emulator.test_signing import public_keys, verifies
from tests.emulator.webhook_receiver import HOUR, STANDING, Receiver, attempts, ended, news, reply, webhooks

from falrpc_server.emulator.clock import Clock
from falrpc_server.emulator.ids import Ids
from falrpc_server.emulator.signing import Signer
from falrpc_server.emulator.webhooks import ATTEMPTS_MAX, retry_seconds


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(reply(500), id="500"),
        pytest.param(reply(404), id="404"),
        pytest.param(reply(429), id="429"),
        pytest.param(b"", id="cut"),
        pytest.param(b"SSH-2.0-x\r\n\r\n", id="not HTTP"),
        pytest.param(b"HTTP/1.1 200 OK\r\na: " + b"b" * 100_000 + b"\r\n\r\n", id="too long a header"),
    ],
)
async def test_retry(first: bytes) -> None:
    """After a failure the same body comes again, with the same id and a signature of its own."""
    signer = Signer(Ids())
    async with (
        Receiver(first, reply(200)).running() as receiver,
        webhooks(Clock(1000), signer=signer) as one,
    ):
        one.send(receiver.url, news())
        record = await ended(one)
    assert record["outcome"] == "delivered"
    assert len(record["attempts"]) == 2
    assert record["attempts"][0].get("status") != 200
    failed, again = receiver.received
    assert failed.body == again.body
    for request in (failed, again):
        assert verifies(public_keys(signer.jwks().body), request.headers, request.body)


async def test_refused_connection(free_port: int) -> None:
    """A receiver that isn't there yet gets the webhook once it is."""
    clock = Clock(STANDING)
    async with webhooks(clock) as one:
        one.send(f"http://127.0.0.1:{free_port}/", news())
        await attempts(one, 1)
        assert one.report()[0]["outcome"] == "pending"
        assert "error" in one.report()[0]["attempts"][0]
        async with Receiver(reply(200)).running(free_port) as receiver:
            clock.advance(2)
            record = await ended(one)
    assert (record["outcome"], len(record["attempts"]), len(receiver.received)) == ("delivered", 2, 1)


async def test_intervals() -> None:
    """Retries come neither before their time nor of themselves, and each waits longer than the last."""
    clock = Clock(STANDING)
    async with Receiver(reply(500)).running() as receiver, webhooks(clock) as one:
        one.send(receiver.url, news())
        for count in range(1, 8):
            await attempts(one, count)
            wait = retry_seconds(count, 0, HOUR)
            assert wait is not None
            clock.advance(wait * 0.9)
            await asyncio.sleep(0.01)  # an attempt that comes too early notes so
            clock.advance(wait * 0.2)
        await attempts(one, 8)
        times = [attempt["after_seconds"] for attempt in one.report()[0]["attempts"]]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps == pytest.approx([1.1 * 1.25**n for n in range(7)], rel=0.02)


def test_retry_seconds() -> None:
    """Intervals grow, 31 attempts fit in the hour that a small result lives, and there is no 32nd."""
    waits = [retry_seconds(attempts, 0, HOUR) for attempts in range(1, ATTEMPTS_MAX)]
    assert None not in waits
    assert waits == sorted({wait or 0 for wait in waits})
    assert 0.8 * HOUR < sum(wait or 0 for wait in waits) < HOUR
    assert ATTEMPTS_MAX == 31
    assert retry_seconds(ATTEMPTS_MAX, 0, HOUR) is None


@pytest.mark.parametrize(
    ("passed", "expires", "wait"), [(0, 1.01, 1.0), (0, 1.0, None), (9.5, 10, None), (8.5, 10, 1.0)]
)
def test_no_retry_after_expiry(passed: float, expires: float, wait: float | None) -> None:
    """No retry begins once the result has expired."""
    assert retry_seconds(1, passed, expires) == wait


async def test_attempts_max() -> None:
    """A receiver that always fails gets 31 attempts."""
    clock = Clock(STANDING)
    async with Receiver(reply(503)).running() as receiver, webhooks(clock) as one:
        one.send(receiver.url, news(expires_after_seconds=1e6))
        for count in range(1, ATTEMPTS_MAX + 1):
            await attempts(one, count)
            clock.advance(1000)
        record = await ended(one)
    assert (record["outcome"], record["reason"]) == ("failed", "retries ended")
    assert len(record["attempts"]) == len(receiver.received) == 31


async def test_expiry() -> None:
    """Retries end with the stored result."""
    clock = Clock(STANDING)
    async with Receiver(reply(500)).running() as receiver, webhooks(clock) as one:
        one.send(receiver.url, news(expires_after_seconds=10))
        for count in range(1, 4):
            await attempts(one, count)
            clock.advance(3)
        record = await ended(one)
    assert (record["outcome"], record["reason"]) == ("failed", "retries ended")
    assert len(record["attempts"]) == len(receiver.received) == 4
    assert record["attempts"][-1]["after_seconds"] < 10


async def test_expiry_while_the_clock_is_moved() -> None:
    """No attempt begins after expiry, although the next one was due before it."""
    clock = Clock(STANDING)
    async with Receiver(reply(500)).running() as receiver, webhooks(clock) as one:
        one.send(receiver.url, news(expires_after_seconds=10))
        await attempts(one, 1)
        clock.advance(10)
        record = await ended(one)
    assert (record["outcome"], record["reason"]) == ("failed", "retries ended")
    assert len(record["attempts"]) == len(receiver.received) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 304, 307, 308])
async def test_redirect(status: int) -> None:
    """A redirect is a permanent failure and nobody goes where it points."""
    async with Receiver(reply(200)).running() as other:
        script = reply(status, f"location: {other.url}\r\n")
        async with Receiver(script).running() as receiver, webhooks(Clock(1000)) as one:
            one.send(receiver.url, news())
            record = await ended(one)
    assert (record["outcome"], len(record["attempts"])) == ("failed", 1)
    assert (len(receiver.received), len(other.received)) == (1, 0)


async def test_timeouts() -> None:
    """The first attempt waits 15 emulated seconds for an answer, a retry longer."""
    async with (
        Receiver(reply(200), delay_seconds=2).running() as receiver,
        webhooks(Clock(12)) as one,
    ):
        one.send(receiver.url, news())
        record = await ended(one)
    assert record["outcome"] == "delivered"
    first, second = record["attempts"]
    assert first["error"] == "timeout"
    assert second["status"] == 200
    assert second["after_seconds"] - first["after_seconds"] >= 15


async def test_shortest_timeout() -> None:
    """However fast the clock, a receiver has a real second."""
    async with (
        Receiver(reply(200), delay_seconds=0.3).running() as receiver,
        webhooks(Clock(100_000)) as one,
    ):
        one.send(receiver.url, news())
        record = await ended(one)
    assert (record["outcome"], len(record["attempts"])) == ("delivered", 1)

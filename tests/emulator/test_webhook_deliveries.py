"""How webhooks arrive, and how deliveries end (fal-http-api.md §11.2), on real sockets."""

import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import pytest
from tests.emulator.test_signing import public_keys, verifies
from tests.emulator.webhook_receiver import (
    STANDING,
    Receiver,
    attempts,
    ended,
    news,
    opened,
    reply,
    until,
    webhooks,
)

from falrpc_server.emulator.clock import Clock
from falrpc_server.emulator.ids import Ids
from falrpc_server.emulator.signing import Signer
from falrpc_server.emulator.webhooks import RECORDS_MAX, payload


async def test_delivery_verifies() -> None:
    """What arrives is one POST of JSON whose signature a receiver can verify, and whose changes it sees."""
    signer = Signer(Ids())
    async with Receiver(reply(200)).running() as receiver, webhooks(Clock(20), signer=signer) as one:
        one.send(receiver.url, news())
        record = await ended(one)
    (request,) = receiver.received
    assert request.line == "POST /hook?a=%20b HTTP/1.1"
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["X-Fal-Webhook-Request-Id"] == "request-1"
    assert request.headers["X-Fal-Webhook-User-Id"] == "user-3"
    assert request.body == payload(news())
    keys = public_keys(signer.jwks().body)
    assert verifies(keys, request.headers, request.body)
    assert not verifies(keys, request.headers, request.body[:-2] + b" }")
    assert not verifies(keys, {**request.headers, "X-Fal-Webhook-User-Id": "user-4"}, request.body)
    assert (record["outcome"], record["url"], record["request_id"]) == (
        "delivered",
        receiver.url,
        "request-1",
    )
    (attempt,) = record["attempts"]
    assert attempt["status"] == 200
    assert 0 <= time.time() - attempt["at"] < 60


async def test_large_body() -> None:
    """A body of megabytes arrives whole."""
    body = json.dumps(["a" * 1000] * 3000).encode()
    async with Receiver(reply(200)).running() as receiver, webhooks(Clock(20)) as one:
        one.send(receiver.url, news(body))
        assert (await ended(one))["outcome"] == "delivered"
    assert receiver.received[0].body == payload(news(body))


@pytest.mark.parametrize("status", [200, 202, 204, 299])
async def test_acknowledged(status: int) -> None:
    """Any 2xx acknowledges."""
    async with Receiver(reply(status)).running() as receiver, webhooks(Clock(20)) as one:
        one.send(receiver.url, news())
        record = await ended(one)
    assert record["outcome"] == "delivered"
    assert [attempt["status"] for attempt in record["attempts"]] == [status]


async def test_endless_answer() -> None:
    """A status acknowledges whatever body follows it, an endless one too."""
    endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n"
    async with Receiver(endless).running() as receiver, webhooks(Clock(1)) as one:
        one.send(receiver.url, news())
        record = await ended(one)
    assert (record["outcome"], len(receiver.received)) == ("delivered", 1)


@pytest.mark.parametrize(
    ("script", "delay_seconds"),
    [pytest.param(reply(200), 60, id="in an attempt"), pytest.param(reply(500), 0, id="between attempts")],
)
async def test_close(script: bytes, delay_seconds: float) -> None:
    """Closing ends deliveries at once, leaves no task behind, and what wasn't over stays pending."""
    async with Receiver(script, delay_seconds=delay_seconds).running() as receiver:
        before = asyncio.all_tasks()
        mistakes: list[str] = []
        one = opened(Clock(STANDING), mistakes)
        one.send(receiver.url, news())
        await until(lambda: receiver.received)
        if not delay_seconds:
            await attempts(one, 1)
        started = time.monotonic()
        await one.close()
        assert time.monotonic() - started < 5
        left = {task for task in asyncio.all_tasks() - before if "Webhooks" in repr(task)}
        assert left == set()
        assert (one.report()[0]["outcome"], mistakes) == ("pending", [])


async def test_send_after_close() -> None:
    """Once closed, nothing is sent any more."""
    async with Receiver(reply(200)).running() as receiver:
        one = opened(Clock(1), [])
        await one.close()
        one.send(receiver.url, news())
    assert one.report()[0]["outcome"] == "dropped"
    assert receiver.received == []


async def test_connections_max() -> None:
    """Receivers that hang hold at most 100 connections, and the others' turn comes after them."""
    async with Receiver(reply(200), delay_seconds=60).running() as receiver, webhooks(Clock(1)) as one:
        for _ in range(120):
            one.send(receiver.url, news())
        await until(lambda: len(receiver.received) == 100)
        receiver.answer_now()
        await until(lambda: [record["outcome"] for record in one.report()] == ["delivered"] * 120)
    assert (len(receiver.received), receiver.open_max) == (120, 100)


async def test_pending_max(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a number of pending deliveries more are dropped, until one is over."""
    monkeypatch.setattr("falrpc_server.emulator.webhooks.PENDING_MAX", 3)
    async with Receiver(reply(200), delay_seconds=60).running() as receiver, webhooks(Clock(1)) as one:
        for _ in range(4):
            one.send(receiver.url, news())
        assert [record["outcome"] for record in one.report()] == ["pending"] * 3 + ["dropped"]
        receiver.answer_now()

        def is_taken() -> bool:
            one.send(receiver.url, news())
            return bool(one.report()[-1]["outcome"] == "pending")

        await until(is_taken)
        await until(lambda: one.report()[-1]["outcome"] == "delivered")
    assert len(receiver.received) == 4


async def test_records_max() -> None:
    """The report forgets the oldest deliveries."""
    async with webhooks(Clock(1)) as one:
        for number in range(RECORDS_MAX + 5):
            one.send(f"ftp://{number}", news())
        report = one.report()
    assert len(report) == RECORDS_MAX
    assert (report[0]["url"], report[-1]["url"]) == ("ftp://5", f"ftp://{RECORDS_MAX + 4}")


async def test_mistake() -> None:
    """An exception of our own is told, and the delivery fails instead of staying pending."""
    mistakes: list[str] = []
    one = opened(Clock(1), mistakes)
    no_id: Any = None
    one.send("http://127.0.0.1:9/", replace(news(), request_id=no_id))
    record = await ended(one)
    await one.close()
    assert (record["outcome"], record["attempts"]) == ("failed", [])
    [told] = mistakes
    assert "TypeError" in told
    assert "TypeError" in record["reason"]

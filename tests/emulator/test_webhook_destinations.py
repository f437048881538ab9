"""Where webhooks may go (fal-http-api.md §11.2)."""

import pytest
from tests.emulator.webhook_receiver import (
    HOUR,
    STANDING,
    Receiver,
    attempts,
    ended,
    news,
    reply,
    webhooks,
)

from falrpc_server.emulator.answers import Answer
from falrpc_server.emulator.clock import Clock
from falrpc_server.emulator.webhooks import Delivery, refusal


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "0x7f.1", "0.0.0.0"])
async def test_loopback(host: str) -> None:
    """Loopback, however it is spelt, is dropped unless it is allowed."""
    async with Receiver(reply(200)).running() as receiver:
        url = receiver.url.replace("127.0.0.1", host)
        async with webhooks(Clock(1000), allow_loopback=False) as one:
            one.send(url, news())
            record = await ended(one)
        assert (record["outcome"], record["reason"]) == ("dropped", "private or loopback address")
        assert (record["attempts"], receiver.received) == ([], [])
        async with webhooks(Clock(1000)) as one:
            one.send(url, news())
            assert (await ended(one))["outcome"] == "delivered"


@pytest.mark.parametrize(
    "host",
    [
        *("10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0"),
        *("[::1]", "[::]", "[fe80::1]", "[fd00::1]", "[::ffff:127.0.0.1]", "[::ffff:10.0.0.1]"),
    ],
)
def test_private_addresses(host: str) -> None:
    """Private and link-local addresses are dropped unless loopback is allowed."""
    url = f"http://{host}:8080/"
    assert refusal(url, allow_loopback=False) == "private or loopback address"
    assert refusal(url, allow_loopback=True) == ""


@pytest.mark.parametrize("url", ["https://8.8.8.8/", "http://[2001:4860:4860::8888]/", "https://example.com"])
def test_public_addresses(url: str) -> None:
    """Public addresses and names are not refused."""
    assert refusal(url, allow_loopback=False) == ""


@pytest.mark.parametrize(
    "url",
    [
        *("", "/", "x", "\0", "ftp://x", "//x/", "http:x", "javascript:x", "file:///etc/passwd"),
        *("http://", "http:///x", "https://:1/", "http://user@:80/", "http://[::1", "http://a..b/"),
        *("http://127.0.0.1:99999/", "http://127.0.0.1:-1/", "http://127.0.0.1:x/", "http://127.0.0.1:0/"),
        *("\ud800", "http://\ud800/", "http://127.1/", "http://2130706433/", f"http://{'a' * 64}/"),
    ],
)
async def test_odd_url(url: str) -> None:
    """A URL that can't be sent anything is dropped and told, and nothing is raised."""
    async with webhooks(Clock(1000)) as one:
        one.send(url, news())
        record = await ended(one)
    assert (record["url"], record["outcome"], record["attempts"]) == (url, "dropped", [])
    assert record["reason"]


async def test_unknown_name() -> None:
    """A name that nobody knows is asked for again later."""
    async with webhooks(Clock(STANDING)) as one:
        one.send(f"http://{'a.' * 500}/", news())
        await attempts(one, 1)
        (record,) = one.report()
    assert record["outcome"] == "pending"
    assert "error" in record["attempts"][0]


async def test_odd_user() -> None:
    """A user id that no header can hold drops the webhook and nothing is raised."""
    odd = Delivery("request-1", "request-1", "a\r\nb: c", Answer(200, b"{}"), HOUR)
    async with Receiver(reply(200)).running() as receiver, webhooks(Clock(1000)) as one:
        one.send(receiver.url, odd)
        record = await ended(one)
    assert (record["outcome"], receiver.received) == ("dropped", [])

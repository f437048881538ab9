"""Webhooks: bodies, signatures, retries and where they may go (fal-http-api.md §11), on real sockets."""

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from tests.emulator.running import Emulator, eventually
from tests.emulator.test_signing import public_keys, verifies

from falrpc_server.emulator.answers import Answer
from falrpc_server.emulator.clock import Clock
from falrpc_server.emulator.ids import Ids
from falrpc_server.emulator.signing import Signer
from falrpc_server.emulator.webhooks import (
    ATTEMPTS_MAX,
    RECORDS_MAX,
    Delivery,
    Webhooks,
    payload,
    refusal,
    retry_seconds,
)

HOUR = 3600.0
STANDING = 0.0001  # a clock so slow that only advance() moves it
NOT_JSON = "Response payload is not JSON serializable."


def reply(status: int, headers: str = "") -> bytes:
    """A receiver's answer without a body."""
    return f"HTTP/1.1 {status} X\r\n{headers}content-length: 0\r\n\r\n".encode()


@dataclass(frozen=True)
class Received:
    """A request as it arrived."""

    line: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """An HTTP server that answers with the bytes of its script, the last ones again and again.

    Where there are no bytes it closes the connection.

    Attributes:
        delay_seconds: How long each answer takes, at most until `answer_now`.
        open_max: How many requests were unanswered at once.
    """

    def __init__(self, *script: bytes, delay_seconds: float = 0.0) -> None:
        self.received: list[Received] = []
        self.url = ""
        self.open_max = 0
        self._open = 0
        self._script = list(script)
        self._delay_seconds = delay_seconds
        self._ends = asyncio.Event()
        self._handlers: set[asyncio.Task[Any]] = set()

    @contextlib.asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator["Receiver"]:
        """Listens on loopback."""
        server = await asyncio.start_server(self._handle, "127.0.0.1", port)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook?a=%20b"
        try:
            yield self
        finally:
            server.close()
            self.answer_now()
            await asyncio.gather(*self._handlers)

    def answer_now(self) -> None:
        """Ends all delays, those to come too."""
        self._ends.set()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.split(": ", 1) for line in head[1:-2])
            body = await reader.readexactly(int(headers["Content-Length"]))
            self._open += 1
            self.open_max = max(self.open_max, self._open)
            self.received.append(Received(head[0], headers, body))
            answer = self._script.pop(0) if len(self._script) > 1 else self._script[0]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._delay_seconds):
                    await self._ends.wait()
            self._open -= 1
            writer.write(answer)
            await writer.drain()
            if answer:
                await reader.read()  # until the other side closes
        self._handlers.discard(task)
        writer.close()


@contextlib.asynccontextmanager
async def webhooks(
    clock: Clock, *, allow_loopback: bool = True, signer: Signer | None = None
) -> AsyncIterator[Webhooks]:
    """Webhooks that are closed at the end."""
    one = Webhooks(clock, signer or Signer(Ids()), allow_loopback=allow_loopback)
    try:
        yield one
    finally:
        await one.close()


def news(body: bytes = b'{"seed":1}', status: int = 200, expires_after_seconds: float = HOUR) -> Delivery:
    """The news of a request that ended so."""
    return Delivery("request-1", "attempt-2", "user-3", Answer(status, body), expires_after_seconds)


async def until(is_so: Callable[[], Any]) -> None:
    """Waits until something is so."""
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.002)


async def ended(one: Webhooks) -> dict[str, Any]:
    """The report of the only delivery, once it is over."""
    await until(lambda: one.report()[0]["outcome"] != "pending")
    (record,) = one.report()
    return record


async def attempts(one: Webhooks, count: int) -> None:
    """Waits until so many attempts have ended, or the delivery has."""
    await until(lambda: len(one.report()[0]["attempts"]) >= count or one.report()[0]["outcome"] != "pending")


# Bodies


def test_ok() -> None:
    """A success carries the model's JSON byte for byte: numbers, spaces and escapes as they were."""
    body = b'{"seed": 1.50, "big": 123456789012345678901234567890, "e": 1E+2, "t": "\\u00e9\xc3\xa9"}'
    assert payload(news(body)) == (
        b'{"request_id":"request-1","gateway_request_id":"attempt-2","status":"OK","payload":' + body + b"}"
    )


@pytest.mark.parametrize("body", [b"null", b"[]", b"1e400", b'"a"', b" {}\n", b'{"a":1,"a":2}'])
def test_any_json(body: bytes) -> None:
    """Every JSON text is embedded, odd ones too."""
    assert payload(news(body)).endswith(b'"status":"OK","payload":' + body + b"}")


@pytest.mark.parametrize("status", [422, 500, 503, 499, 404, 302])
def test_error(status: int) -> None:
    """A failure, the model's or the platform's, carries its status in the text and its body as payload."""
    assert payload(news(b'{"detail":[{"type":"missing"}]}', status)) == (
        b'{"request_id":"request-1","gateway_request_id":"attempt-2","status":"ERROR",'
        b'"error":"Invalid status code: %d","payload":{"detail":[{"type":"missing"}]}}' % status
    )


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x89PNG\r\n", id="picture"),
        pytest.param(b"<html>", id="html"),
        pytest.param(b'{"a":1', id="cut"),
        pytest.param(b"{} {}", id="two"),
        pytest.param(b'{"a":NaN}', id="nan"),
        pytest.param(b'"\xff"', id="not UTF-8"),
        pytest.param(b"\xef\xbb\xbf{}", id="byte order mark"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="deep"),
        pytest.param(b'1,"status":"OK"', id="more keys"),
    ],
)
@pytest.mark.parametrize("status", [200, 404])
def test_not_json(body: bytes, status: int) -> None:
    """A body that isn't JSON is left out and says so, whether the request succeeded or failed."""
    sent = json.loads(payload(news(body, status)))
    assert sent.pop("payload_error").startswith(NOT_JSON)
    failed = {"status": "ERROR", "error": "Invalid status code: 404"}
    ids = {"request_id": "request-1", "gateway_request_id": "attempt-2"}
    assert sent == {**ids, "payload": None, **({"status": "OK"} if status == 200 else failed)}


# Deliveries


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


async def test_refused_connection(unused_port: int) -> None:
    """A receiver that isn't there yet gets the webhook once it is."""
    clock = Clock(STANDING)
    async with webhooks(clock) as one:
        one.send(f"http://127.0.0.1:{unused_port}/", news())
        await attempts(one, 1)
        assert one.report()[0]["outcome"] == "pending"
        assert "error" in one.report()[0]["attempts"][0]
        async with Receiver(reply(200)).running(unused_port) as receiver:
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


# Where they may go


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


# The end


@pytest.mark.parametrize(
    ("script", "delay_seconds"),
    [pytest.param(reply(200), 60, id="in an attempt"), pytest.param(reply(500), 0, id="between attempts")],
)
async def test_close(script: bytes, delay_seconds: float) -> None:
    """Closing ends deliveries at once, leaves no task behind, and what wasn't over stays pending."""
    async with Receiver(script, delay_seconds=delay_seconds).running() as receiver:
        before = asyncio.all_tasks()
        one = Webhooks(Clock(STANDING), Signer(Ids()), allow_loopback=True)
        one.send(receiver.url, news())
        await until(lambda: receiver.received)
        if not delay_seconds:
            await attempts(one, 1)
        started = time.monotonic()
        await one.close()
        assert time.monotonic() - started < 5
        left = {task for task in asyncio.all_tasks() - before if "Webhooks" in repr(task)}
        assert left == set()
        assert one.report()[0]["outcome"] == "pending"


async def test_send_after_close() -> None:
    """Once closed, nothing is sent any more."""
    async with Receiver(reply(200)).running() as receiver:
        one = Webhooks(Clock(1), Signer(Ids()), allow_loopback=True)
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


# Through the emulator


@pytest.mark.parametrize(
    ("endpoint", "given", "wanted"),
    [
        pytest.param("emulator/echo", {"number": 1}, {"status": "OK"}, id="ok"),
        pytest.param(
            "fal-ai/flux/dev", {}, {"status": "ERROR", "error": "Invalid status code: 422"}, id="error"
        ),
    ],
)
async def test_through_the_emulator(
    emulator: Emulator, endpoint: str, given: dict[str, Any], wanted: dict[str, str]
) -> None:
    """A request submitted with fal_webhook ends in a POST that verifies and carries what the queue stores."""
    async with Receiver(reply(500), reply(200)).running() as receiver:
        query = {"fal_webhook": receiver.url}
        submitted = await asyncio.to_thread(emulator.submit, endpoint, given, params=query)
        result = await asyncio.to_thread(emulator.result, submitted)
        await until(lambda: len(receiver.received) == 2)
        jwks = await asyncio.to_thread(
            httpx.get, f"{emulator.url}/rest/.well-known/jwks.json", trust_env=False
        )
        for request in receiver.received:
            assert verifies(public_keys(jwks.content), request.headers, request.body)
        request, request_id = receiver.received[-1], submitted.json()["request_id"]
        assert request.headers["X-Fal-Webhook-Request-Id"] == request_id
        assert request.headers["X-Fal-Webhook-User-Id"] == "test-id"
        ids = {"request_id": request_id, "gateway_request_id": request_id}
        assert json.loads(request.body) == {**ids, **wanted, "payload": result.json()}
        assert result.content in request.body
        (record,) = await asyncio.to_thread(delivered, emulator, request_id)
        assert [attempt["status"] for attempt in record["attempts"]] == [500, 200]


def delivered(emulator: Emulator, request_id: str) -> list[dict[str, Any]]:
    """The emulator's records of a request's deliveries, once they are over."""

    def look() -> list[dict[str, Any]]:
        records = emulator.http.get("/_emulator/webhooks").json()
        return [record for record in records if record["request_id"] == request_id]

    return list(eventually(look, lambda found: found and found[0]["outcome"] == "delivered"))


async def test_odd_url_at_submit(emulator: Emulator) -> None:
    """A URL that can't be sent anything doesn't keep a request from being accepted and ending."""
    query = {"fal_webhook": "http://[::1"}
    submitted = await asyncio.to_thread(emulator.submit, "emulator/echo", {}, params=query)
    assert submitted.status_code == 200
    assert (await asyncio.to_thread(emulator.result, submitted)).status_code == 200
    records = (await asyncio.to_thread(emulator.http.get, "/_emulator/webhooks")).json()
    (record,) = [one for one in records if one["request_id"] == submitted.json()["request_id"]]
    assert (record["outcome"], record["attempts"]) == ("dropped", [])

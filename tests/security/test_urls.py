"""Where the gateway goes, and with what: hosts, redirects, proxies, webhooks and headers that others would choose."""

import functools
import json
from typing import Any

import pytest
from tests.conftest import KEY, Fal, Running, running_gateway
from tests.faults.each_call import CALLS, code_of, failure_of_any
from tests.faults.test_environment import OK, credentials
from tests.security.each_method import nothing_came
from tests.service.test_queue_calls import request
from tests.unit.test_request_fields import METADATA
from tests.unit.test_transport import Connection, answer, serving
from tests.uploads.test_targets import HOSTILE, Seen, own, seen, waiting  # noqa: F401 # a fixture

from falrpc import v1

HOSTILE_IN_QUEUE = {
    name: url.replace("v3.fal.media", "queue.fal.run").replace("fal.media", "queue.fal.run")
    for name, url in HOSTILE.items()
} | {
    "a suffix without a dot": "https://evilqueue.fal.run/a/b/requests/r-1/status",
    "another request": "https://queue.fal.run/a/b/requests/r-2/status",
    "another endpoint": "https://queue.fal.run/a/c/requests/r-1/status",
    "up": "https://queue.fal.run/a/b/requests/r-1/../r-2/status",
    "encoded": "https://queue.fal.run/a/b/requests/r-1%2f..%2fr-2/status",
    "a query": "https://queue.fal.run/a/b/requests/r-1/status?to=https://evil.example",
    "another of fal's": "https://rest.fal.ai/a/b/requests/r-1/status",
}
"""fal's three URLs of a request, as nobody should follow them."""


# Endpoints, request ids


async def test_urls_of_requests(seen: Seen) -> None:  # noqa: F811
    """Whatever fal says of where a request's status, result and cancel are, they are asked for where fal is:
    no other name is looked up, nobody else is connected to."""
    told = {"url": ""}

    async def behave(connection: Connection) -> None:
        sent = await connection.request()
        names = ("status_url", "response_url", "cancel_url")
        body = json.dumps({"request_id": "r-1", "status": "IN_QUEUE"} | dict.fromkeys(names, told["url"]))
        status = 200 if sent.startswith(b"POST") else 404
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n"
        head += f"content-length: {len(body.encode())}\r\nconnection: close\r\n\r\n"
        await connection.write(head.encode() + body.encode())

    async with (
        serving(behave) as server,
        waiting() as trap,
        running_gateway(emulator_url=server.url) as gateway,
    ):
        handles = []
        for name, url in HOSTILE_IN_QUEUE.items():
            told["url"] = url.replace("{port}", str(trap.port))
            handle = (await gateway.stub.Submit(request("a/b"), timeout=60)).handle
            handles.append((handle.endpoint_id, handle.request_id))
            status = v1.StatusRequest(handle=handle)
            for call in (
                gateway.stub.Status(status, timeout=60),
                gateway.stub.Result(v1.ResultRequest(handle=handle), timeout=60),
                gateway.stub.Cancel(v1.CancelRequest(handle=handle), timeout=60),
            ):
                await code_of(call)
            assert not seen.lookups, name
            assert set(seen.connects) == {own(server)}, name  # type: ignore[arg-type] # it has a URL, too
        assert len(handles) > 60
        assert set(handles) == {("a/b", "r-1")}
        assert trap.accepts == 0
        base = b"/queue/a/b/requests/r-1"
        lines = {sent.split(b" ")[0] + b" " + sent.split(b" ")[1] for sent in server.requests}
        assert lines == {
            b"POST /queue/a/b", b"GET " + base + b"/status", b"GET " + base, b"PUT " + base + b"/cancel"
        }  # fmt: skip
        assert all(credentials(sent) == [f"Key {KEY}".encode()] for sent in server.requests)


async def test_a_query_that_fal_names_is_not_logged() -> None:
    """Another status URL than ours is worth a line in the log, without what may be secret in it."""
    body = b'{"request_id":"r-1","status_url":"https://evil.example/x?token=c4n4ry#c4n4ry"}'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    async with serving(answer(head + body)) as server, running_gateway(emulator_url=server.url) as gateway:
        await gateway.stub.Submit(request("a/b"), timeout=60)
        [line] = gateway.logged("fal.noticed")
        assert (line["what"], line["value"]) == ("other_status_url", "https://evil.example/x")
        assert "c4n4ry" not in gateway.log_text


# Webhooks

MORE_METADATA = (
    "169.254.169.254:443", "[::ffff:a9fe:a9fe]:443", "[0:0:0:0:0:ffff:a9fe:a9fe]", "[::a9fe:a9fe]",
    "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::1]", "0xa9fea9fe.", "0251.0376.0251.254", "metadata.google.internal",
    "user@169.254.169.254", "169.254.169.254%2f", "\uff11\uff16\uff19.254.169.254", "169\u3002254\u3002169\u3002254",
)  # fmt: skip


@pytest.mark.parametrize("method", ["Submit", "Subscribe"])
async def test_webhooks(gateway: Running, fal: Fal, method: str) -> None:
    """No spelling of a cloud's metadata address is a webhook, however it is asked for; a public host is."""

    def asked(url: str) -> Any:
        submission = v1.SubmitRequest(endpoint_id="emulator/echo", queue=v1.QueueOptions(webhook_url=url))
        if method == "Submit":
            return gateway.stub.Submit(submission, timeout=60)
        return gateway.stub.Subscribe(v1.SubscribeRequest(submit=submission), timeout=60)

    for host in (*METADATA, *MORE_METADATA):
        failed = await failure_of_any(asked(f"https://{host}/latest/meta-data/"))
        assert failed.code == "INVALID_ARGUMENT", host
        assert failed.fields == [f"{'submit.' if method == 'Subscribe' else ''}queue.webhook_url"], host
    nothing_came(fal)
    assert await code_of(asked("https://hooks.example.com/fal")) == "OK"
    assert fal.received()[0]["query"]["fal_webhook"] == "https://hooks.example.com/fal"


async def test_nobody_here_calls_webhooks(emulator_url: str, fal: Fal, seen: Seen) -> None:  # noqa: F811
    """A webhook is told to fal and else left alone: its name is not even looked up here."""
    async with running_gateway(emulator_url=emulator_url) as gateway:
        for host in ("hooks.example.com", "1.1.1.1", "[2606:4700::1111]:8443"):
            submission = request("emulator/echo")
            submission.queue.webhook_url = f"https://{host}/fal"
            handle = (await gateway.stub.Submit(submission, timeout=60)).handle
            await gateway.stub.Status(v1.StatusRequest(handle=handle), timeout=60)
        assert not seen.lookups
        port = int(emulator_url.rpartition(":")[2])
        assert {address[1] for address in seen.connects} == {port}


# Headers

SMUGGLED = [
    ("authorization", "Key other:key"),
    ("proxy-authorization", "Basic b3RoZXI6a2V5"),
    ("cookie", "session=other"),
    ("x-fal-webhook", "https://evil.example/"),
    ("x-fal-queue-priority", "normal"),
    ("x-fal-store-io", "1"),
    ("x-fal-no-retry", "1"),
    ("x-fal-runner-hint", "theirs"),
    ("x-fal-object-lifecycle-preference", '{"expiration_duration_seconds":null}'),
    ("x-fal-request-start-timeout", "1"),
    ("x-fal-target-url", "https://evil.example/"),
    ("x-app-fal-disable-fallback", "1"),
    ("x-forwarded-for", "10.0.0.1"),
    ("x-forwarded-host", "evil.example"),
    ("forwarded", "host=evil.example"),
    ("x-http-method-override", "DELETE"),
    ("x-original-url", "/admin"),
    ("expect", "100-continue"),
    ("content-length", "5"),
    ("accept-encoding", "gzip"),
    ("range", "bytes=0-1"),
    ("x-anything", "else"),
]
KNOWN = {
    b"host", b"authorization", b"user-agent", b"accept", b"accept-encoding", b"content-type", b"content-length",
    b"cache-control", b"x-fal-request-start-timeout", b"x-fal-request-timeout",
}  # fmt: skip


class Smuggling:
    """A stub whose calls bring all of that."""

    def __init__(self, stub: v1.FalServiceStub) -> None:
        self._stub = stub

    def __getattr__(self, method: str) -> Any:
        return functools.partial(getattr(self._stub, method), metadata=SMUGGLED)


def sent_headers(sent: bytes) -> dict[bytes, list[bytes]]:
    """A request's headers by name."""
    found: dict[bytes, list[bytes]] = {}
    for line in sent.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
        name, _, value = line.partition(b": ")
        found.setdefault(name.lower(), []).append(value)
    return found


@pytest.mark.parametrize("method", CALLS)
async def test_what_callers_bring_stays_here(method: str) -> None:
    """Nothing of a caller's metadata becomes a header to fal: those are the gateway's own, each once."""
    async with serving(answer(OK)) as server, running_gateway(emulator_url=server.url) as gateway:
        await code_of(CALLS[method](gateway.stub))
        plain = [sent_headers(sent) for sent in server.requests]
        server.connections.clear()
        await code_of(CALLS[method](Smuggling(gateway.stub)))  # type: ignore[arg-type] # as good as one
        smuggled = [sent_headers(sent) for sent in server.requests]
        assert smuggled
        for headers in smuggled:
            assert headers.keys() <= KNOWN, headers.keys() - KNOWN
            assert all(len(values) == 1 for values in headers.values())
            assert headers[b"authorization"] == [f"Key {KEY}".encode()]
            assert headers[b"host"] == [server.url.removeprefix("http://").encode()]
            assert headers.get(b"accept-encoding") == [b"identity"]
        timeouts = (b"x-fal-request-start-timeout", b"x-fal-request-timeout")  # what is left of the deadline
        for one, other in zip(plain, smuggled, strict=False):
            assert {n: v for n, v in one.items() if n not in timeouts} == {
                n: v for n, v in other.items() if n not in timeouts
            }

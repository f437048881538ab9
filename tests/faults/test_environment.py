"""Where the key goes: not to a proxy of the environment, not after a redirect, not to a host that an id names."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import KEY, Fal, Running, running_gateway
from tests.faults.each_call import CALLS, code_of
from tests.service.test_run import run
from tests.service.test_upload_calls import messages
from tests.unit.test_transport import Server, answer, serving

from falrpc import v1
from falrpc_server.fal_http.models import BadEndpointId, EndpointId, is_request_id

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "ws_proxy")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Sets the environment to send everything through a proxy, with other credentials."""

    def set_up(proxy_url: str) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("default login somebody password netrc-password\n")
        netrc.chmod(0o600)
        for name in PROXIES:
            monkeypatch.setenv(name, proxy_url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("no_grpc_proxy", "127.0.0.1")  # the test's own channel obeys the others
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / ".netrc").write_text(netrc.read_text())

    return set_up


async def test_proxies_and_credentials_of_the_environment(environment: Any) -> None:
    """With proxies and a netrc in the environment, every request goes straight to fal with our key and no other."""
    async with serving(answer(OK)) as proxy, serving(answer(OK)) as fal:
        environment(proxy.url)
        async with running_gateway(emulator_url=fal.url) as gateway:
            await asyncio.gather(*(code_of(begin(gateway.stub)) for begin in CALLS.values()))
        assert proxy.connections == []
        assert len(fal.requests) >= len(CALLS)
        for sent in fal.requests:
            assert credentials(sent) == [b"Key " + KEY.encode()]


async def test_a_proxy_for_tls(environment: Any, unused_port: int) -> None:
    """A proxy for https is not asked for a tunnel either."""
    async with serving(answer(OK)) as proxy:
        environment(proxy.url)
        elsewhere = f"https://127.0.0.1:{unused_port}"
        urls = {"fal_run_url": elsewhere, "fal_queue_url": elsewhere, "fal_rest_url": elsewhere}
        async with running_gateway(**urls) as gateway:
            assert await code_of(gateway.stub.Run(run("a/b"), timeout=60)) == "UNAVAILABLE"
        assert proxy.connections == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects(status: int) -> None:
    """No request follows a redirect: its target hears nothing, and each call fails."""
    async with serving(answer(OK)) as target:
        head = f"HTTP/1.1 {status} Elsewhere\r\nlocation: {target.url}/x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        async with serving(answer(head.encode())) as fal, running_gateway(emulator_url=fal.url) as gateway:
            codes = await asyncio.gather(*(code_of(begin(gateway.stub)) for begin in CALLS.values()))
            assert "OK" not in codes, dict(zip(CALLS, codes, strict=True))
            assert len(paid(fal)) == len(set(paid(fal)))
        assert target.connections == []


async def test_redirects_of_stored_bytes(gateway: Running, fal: Fal) -> None:
    """The bytes of an upload do not follow a redirect either."""
    async with serving(answer(OK)) as target:
        headers = {"location": f"{target.url}/x"}
        fal.will("answer", operation="upload_put", status=307, headers=headers, body="", times=None)
        header = v1.UploadHeader(file_name="a", size=3)
        assert await code_of(gateway.stub.Upload(messages(header, b"abc"), timeout=60)) != "OK"
        assert target.connections == []


PARTS = (
    "fal-ai",
    "workflows",
    "..",
    ".",
    "",
    "%2e%2e",
    "%2f",
    "a.b",
    "@evil.test",
    "evil.test:80",
    "//",
    "\\",
    "?x=1",
)
MORE_PARTS = (
    "#",
    ";x",
    "\r\nhost: evil.test",
    "\x00",
    "\u2028",
    "\uff0e\uff0e",
    "é",
    " ",
    "~",
    "a" * 128,
    "http:",
    "[::1]",
)
SAMPLES = 400


def hostile_ids(seed: int) -> list[str]:
    """Texts between an id and an attack."""
    source = random.Random(seed)
    joined = ("/".join(source.choices(PARTS + MORE_PARTS, k=source.randint(1, 4))) for _ in range(SAMPLES))
    mixed = (
        "".join(source.choices("abA0._-/%?#@:\\ \r\n\t\x00", k=source.randint(1, 12))) for _ in range(SAMPLES)
    )
    return [*joined, *mixed, "http://evil.test/x", "//evil.test/x", "a/b/../../../admin", "fal-ai/flux"]


async def test_hostile_endpoint_ids() -> None:
    """Whatever an endpoint id holds, fal is asked for that very path, or nothing is sent."""
    async with answered() as (fal, gateway):
        for text in hostile_ids(1):
            try:
                expected = [f"POST /run/{EndpointId.parse(text).full} HTTP/1.1"]
            except BadEndpointId:
                expected = []
            code = await code_of(gateway.stub.Run(run(text), timeout=60))
            assert (code, request_lines(fal)) == ("OK" if expected else "INVALID_ARGUMENT", expected), repr(
                text
            )
            fal.connections.clear()


async def test_hostile_request_ids() -> None:
    """Whatever a request id holds, fal is asked for a request below that endpoint, or nothing is sent."""
    async with answered() as (fal, gateway):
        for text in [*hostile_ids(2), "7d1c2c0e-6a0b-4f6e-9b0e-0c6d0b1f2a11"]:
            handle = v1.RequestHandle(endpoint_id="a/b", request_id=text)
            await code_of(gateway.stub.Cancel(v1.CancelRequest(handle=handle), timeout=60))
            expected = [f"PUT /queue/a/b/requests/{text}/cancel HTTP/1.1"] if is_request_id(text) else []
            assert request_lines(fal) == expected, repr(text)
            fal.connections.clear()


@contextlib.asynccontextmanager
async def answered() -> AsyncIterator[tuple[Server, Running]]:
    """A fal that says {} to everything, and a gateway in front of it."""
    async with serving(answer(OK)) as fal, running_gateway(emulator_url=fal.url) as gateway:
        yield fal, gateway


def request_lines(fal: Server) -> list[str]:
    return [sent.partition(b"\r\n")[0].decode() for sent in fal.requests]


def paid(fal: Server) -> list[bytes]:
    return [sent.partition(b"\r\n")[0] for sent in fal.requests if sent.startswith(b"POST ")]


def credentials(sent: bytes) -> list[bytes]:
    head = sent.partition(b"\r\n\r\n")[0].split(b"\r\n")
    named = [line.partition(b": ") for line in head[1:]]
    return [value for name, _, value in named if name.lower() in (b"authorization", b"proxy-authorization")]


def test_the_samples_hold_both() -> None:
    """Among the samples are ids that are admitted, and some that are not."""
    admitted = [text for text in hostile_ids(2) if is_request_id(text)]
    assert 10 < len(admitted) < SAMPLES

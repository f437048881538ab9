"""Hosts led elsewhere, seen by the HTTP library that fal-client uses."""

import asyncio
import http.server
import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from tests.conformance.redirect import FAL_HOSTS, Redirect

Get = Callable[[str], Any]


class _Named(http.server.BaseHTTPRequestHandler):
    """Tells the Host header of a request."""

    def do_GET(self) -> None:
        body = json.dumps({"host": self.headers["host"]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keeps quiet."""


@pytest.fixture
def redirect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Redirect]:
    """A redirection to a small TLS server that is all of fal's hosts."""
    authority = trustme.CA()
    certificate = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*FAL_HOSTS).configure_cert(context)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Named) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        one = Redirect(server.server_port)
        one.install(monkeypatch, certificate)
        yield one
        server.shutdown()
        serving.join()


@pytest.fixture(params=["sync", "async"])
def get(request: pytest.FixtureRequest, redirect: Redirect, runner: asyncio.Runner) -> Get:
    """Gets a URL with a new client."""
    return _get if request.param == "sync" else lambda url: runner.run(_async_get(url))


def _get(url: str) -> Any:
    with httpx.Client() as client:
        return client.get(url).json()


async def _async_get(url: str) -> Any:
    async with httpx.AsyncClient() as client:
        return (await client.get(url)).json()


@pytest.mark.parametrize("host", sorted(FAL_HOSTS))
def test_every_host_of_fal(get: Get, host: str) -> None:
    """A client reaches the server under each of fal's names, which it still sends."""
    assert get(f"https://{host}/x") == {"host": host}


@pytest.mark.parametrize(
    "url", ["https://example.com/", "https://192.0.2.1/", "https://api.fal.ai/v1/models"]
)
def test_no_other_host(get: Get, url: str) -> None:
    """No other host can be reached, by name or address."""
    with pytest.raises(httpx.ConnectError):
        get(url)


def test_a_refused_host(get: Get, redirect: Redirect) -> None:
    """A host that is refused can't be reached while its backup domain can."""
    redirect.refuse(["fal.run"])
    with pytest.raises(httpx.ConnectError):
        get("https://fal.run/x")
    assert get("https://falrun.com/x") == {"host": "falrun.com"}


def test_trust_is_needed(get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the throw-away CA's certificate the server is not trusted: certificates are checked for real."""
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        get("https://fal.run/x")


def test_it_can_be_undone() -> None:
    """What is patched is as it was once the patch is undone."""
    before = (socket.getaddrinfo, socket.socket.connect, os.environ.get("SSL_CERT_FILE"))
    with pytest.MonkeyPatch.context() as patch:
        Redirect(1).install(patch, Path("nowhere"))
        assert socket.getaddrinfo("fal.run", 443)[0][4][0].startswith("127.")
    assert before == (socket.getaddrinfo, socket.socket.connect, os.environ.get("SSL_CERT_FILE"))

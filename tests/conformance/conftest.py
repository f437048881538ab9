"""fal's own clients, unmodified, and an emulator that they take for fal."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.conformance.clients import KINDS, Calling
from tests.conformance.redirect import Redirect
from tests.emulator.running import Emulator, running_emulator

SLEEP_SHARE = 200
"""How many times shorter the clients' pauses before another attempt are with `short_sleeps`."""


@pytest.fixture(scope="session")
def tls_emulator() -> Iterator[Emulator]:
    """A quick emulator that speaks TLS, too."""
    with running_emulator("--tls-port", "0", "--speed", "20", "--gcs-uploads") as (emulator, _):
        yield emulator


@pytest.fixture(scope="session")
def ca_certificate(tls_emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the certificate that clients must trust."""
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    path.write_bytes(tls_emulator.http.get("/_emulator/ca.pem").raise_for_status().content)
    return path


@pytest.fixture
def emulator(tls_emulator: Emulator) -> Emulator:
    """The emulator, without scenarios and records of other tests."""
    tls_emulator.reset()
    return tls_emulator


@pytest.fixture
def redirect(emulator: Emulator, ca_certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Redirect:
    """This process takes the emulator for all of fal's hosts."""
    port = httpx.URL(emulator.https_url).port
    assert port is not None
    one = Redirect(port)
    one.install(monkeypatch, ca_certificate)
    return one


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """Runs the async client."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as one:
        yield one


@pytest.fixture(params=KINDS)
def client(request: pytest.FixtureRequest, redirect: Redirect, runner: asyncio.Runner) -> Iterator[Calling]:
    """fal-client's SyncClient, then its AsyncClient."""
    one = Calling.client(request.param, runner)
    yield one
    one.close()


@pytest.fixture
def short_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortens the clients' pauses: nine of them take 51 seconds (sync) or 33 (async), §6.5.

    Only the clock is quicker. How often and when the clients try again stays theirs.
    """
    pause, async_pause = time.sleep, asyncio.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: pause(seconds / SLEEP_SHARE))
    monkeypatch.setattr(asyncio, "sleep", lambda seconds, *rest: async_pause(seconds / SLEEP_SHARE, *rest))

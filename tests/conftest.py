"""What all tests share: an emulator for the run, and gateways in front of it."""

import asyncio
import contextlib
import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import grpc
import httpx
import pytest
from tests import canary
from tests.alone import pytest_collection_modifyitems, pytest_runtest_protocol  # noqa: F401 # hooks

from falrpc import v1
from falrpc_server.app import make_logger, running
from falrpc_server.config import Settings
from falrpc_server.gateway import Gateway


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--strict-tools", action="store_true", help="a test that a missing tool skips fails")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(canary, "canary")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With --strict-tools (`make test STRICT=1`) nothing is skipped quietly."""
    report = yield
    if report.skipped and item.config.getoption("--strict-tools"):
        report.outcome = "failed"
    return report


os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # a client that is told goodbye is no news

KEY = "test-id:test-secret-1f0c"  # canary.py looks for it where it must not appear
SPEED = 20


@pytest.fixture(scope="session")
def emulator_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running emulator; durations are divided by SPEED."""
    errors = tmp_path_factory.mktemp("emulator") / "stderr"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "falrpc_server", "emulator", "--port", "0", "--speed", str(SPEED)]
    with errors.open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=environment, text=True)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening "), errors.read_text()
        yield line.split()[1]
        process.terminate()
        assert process.wait(timeout=10) == 0, errors.read_text()
        process.stdout.close()


class Fal:
    """The emulator as tests see it: what it received, and what it is told to do wrong."""

    def __init__(self, url: str) -> None:
        self.url = url
        # without a TLS context, which takes long to make
        self._http = httpx.Client(base_url=f"{url}/_emulator", trust_env=False, verify=False)

    def received(self, **query: str) -> list[dict[str, Any]]:
        """The requests that came since the test began, oldest first."""
        report: dict[str, Any] = self._http.get("/evidence", params=query).raise_for_status().json()
        return list(report["requests"])

    async def seen(self, **query: str) -> list[dict[str, Any]]:
        """received(), for loops that wait: what they wait for may need this event loop."""
        return await asyncio.to_thread(self.received, **query)

    async def open_requests(self) -> int:
        """How many requests are not answered yet, whenever they came."""
        report = await asyncio.to_thread(self._http.get, "/evidence", params={"operation": "none"})
        return int(report.raise_for_status().json()["open_requests"])

    def will(self, act: str, **scenario: Any) -> None:
        """Puts a scenario in place."""
        self._http.post("/scenarios", json={"act": act, **scenario}).raise_for_status()

    def reset(self) -> None:
        """Forgets requests and scenarios."""
        self._http.delete("/evidence").raise_for_status()
        self._http.delete("/scenarios").raise_for_status()

    def close(self) -> None:
        self._http.close()


@pytest.fixture
def fal(emulator_url: str) -> Iterator[Fal]:
    """The emulator, fresh for the test."""
    emulated = Fal(emulator_url)
    emulated.reset()
    yield emulated
    emulated.reset()
    emulated.close()


class Running:
    """A gateway in this process, its stub, and what it logged."""

    def __init__(self, gateway: Gateway, channel: grpc.aio.Channel, log: io.StringIO) -> None:
        self.gateway = gateway
        self.address = gateway.address
        self.channel = channel
        self.stub = v1.FalServiceStub(channel)
        self._log = log

    def logged(self, event: str | None = None) -> list[dict[str, Any]]:
        """The log lines so far, all or those of one event."""
        lines = [json.loads(line) for line in self._log.getvalue().splitlines()]
        return [line for line in lines if event in (None, line["event"])]

    async def finished(self, count: int = 1) -> list[dict[str, Any]]:
        """The last lines of that many calls: a status is sent a moment before its call's line is written."""
        async with asyncio.timeout(10):
            while len(lines := self.logged("call.finished")) < count:
                await asyncio.sleep(0.001)
        return lines

    @property
    def log_text(self) -> str:
        return self._log.getvalue()


@contextlib.asynccontextmanager
async def running_gateway(**settings: Any) -> AsyncIterator[Running]:
    """Runs a gateway with these settings on a free port."""
    values = {"listen": "127.0.0.1:0", "fal_key": KEY, "drain_delay_seconds": 0.0, "drain_seconds": 5.0}
    log = io.StringIO()
    checked = Settings(**{**values, **settings})
    options = [("grpc.max_receive_message_length", 64 * 1024 * 1024), ("grpc.enable_retries", 0)]
    try:
        async with (
            running(checked, make_logger("info", log)) as gateway,
            grpc.aio.insecure_channel(gateway.address, options=options) as channel,
        ):
            yield Running(gateway, channel, log)
    finally:
        canary.heard("a gateway's log", log.getvalue())


@pytest.fixture
async def gateway(emulator_url: str, fal: Fal) -> AsyncIterator[Running]:
    """A gateway in front of the emulator."""
    async with running_gateway(emulator_url=emulator_url) as one:
        yield one


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port that nobody listens on. It is held, so that no server that starts meanwhile takes it."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        yield int(one.getsockname()[1])


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on yet."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of whoever runs the tests stay out of them."""
    for name in list(os.environ):
        if name.startswith(("FAL_", "FALRPC_")):
            monkeypatch.delenv(name)

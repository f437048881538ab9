"""What needs no process: waits before starts, and settings on their way to workers."""

import io
import json

import pytest
from tests.conftest import KEY

from falrpc_server.config import Settings
from falrpc_server.observability import make_logger
from falrpc_server.workers.backoff import Backoff
from falrpc_server.workers.control import settings_line
from falrpc_server.workers.process import worker_command

UNUSUAL = {
    "fal_key": KEY,
    "listen": "[::1]:50051",
    "workers": 7,
    "endpoint_limits": "fal-ai/flux=20,fal-ai=200",
    "connection_age_seconds": 0.1,
    "fal_run_url": "http://127.0.0.1:1/run",
    "upload_hosts": "a.example,b.example",
}


def test_short_lives() -> None:
    """The first start is at once, later ones wait twice as long each time, 30 s at most."""
    backoff = Backoff()
    waits = [backoff.seconds(0.1) for _ in range(10)]
    assert waits == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


@pytest.mark.parametrize(("lived_seconds", "expected"), [(9.999, [0.5, 1.0]), (10.0, [0.0, 0.5])])
def test_a_long_life_forgives(lived_seconds: float, expected: list[float]) -> None:
    """After a life of 10 s the next start is at once again."""
    backoff = Backoff()
    backoff.seconds(0.1)
    assert [backoff.seconds(lived_seconds), backoff.seconds(0.1)] == expected


@pytest.mark.parametrize("values", [{"fal_key": KEY}, UNUSUAL])
def test_settings_arrive_as_they_are(values: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker gets the settings that the supervisor has, whatever its environment says by then."""
    settings = Settings(**values)  # type: ignore[arg-type]
    line = settings_line(settings)
    monkeypatch.setenv("FALRPC_DRAIN_SECONDS", "77")
    monkeypatch.setenv("FAL_KEY", "another:key")
    assert line.count(b"\n") == 1
    assert Settings(**json.loads(line)) == settings
    assert Settings(**json.loads(line)).key == KEY


def test_the_command_line_has_no_secret_and_trusts_no_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    """Modules in the working directory are not loaded unless the supervisor itself would load them."""
    monkeypatch.chdir(str(tmp_path))
    assert worker_command(3)[1:] == ["-P", "-m", "falrpc_server", "worker", "--number", "3"]
    monkeypatch.syspath_prepend(str(tmp_path))
    assert worker_command(3)[1:] == ["-m", "falrpc_server", "worker", "--number", "3"]


class Writes(io.StringIO):
    """A stream that keeps what it is told to write apart."""

    def __init__(self) -> None:
        super().__init__()
        self.each: list[str] = []

    def write(self, text: str) -> int:
        self.each.append(text)
        return len(text)


def test_a_log_line_is_one_write() -> None:
    """A line and its end are written in one go: workers share the output, which may be unbuffered."""
    stream = Writes()
    log = make_logger("info", stream)
    log.info("one", worker=1)
    log.info("two", worker=2)
    assert [(text.count("\n"), text[-1]) for text in stream.each] == [(1, "\n")] * 2

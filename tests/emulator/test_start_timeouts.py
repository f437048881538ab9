"""The deadline for a request to begin (fal-http-api.md §4)."""

import pytest
from tests.emulator.queueing import known
from tests.emulator.running import Emulator

FLUX = {"prompt": "a cat", "image_size": {"width": 64, "height": 64}}
NEW, OLD = "X-Fal-Request-Start-Timeout", "X-Fal-Request-Timeout"


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({NEW: "0.15"}, id="new name"),
        pytest.param({OLD: "0.15"}, id="old name"),
        pytest.param({NEW: "0.15", OLD: "60"}, id="the new name wins"),
    ],
)
def test_start_timeout(slow_emulator: Emulator, headers: dict[str, str]) -> None:
    """A request that has not started in time is 504 with the timeout type `user`."""
    result = slow_emulator.result(slow_emulator.submit("fal-ai/flux/dev", FLUX, headers=headers))
    assert (result.status_code, result.headers["x-fal-request-timeout-type"]) == (504, "user")
    assert result.json()["error_type"] == "startup_timeout"


@pytest.mark.parametrize("value", ["0.1", "0", "-1", "soon", "", "nan", "inf", "1,5"])
@pytest.mark.parametrize("name", [NEW, OLD])
@pytest.mark.parametrize("path", ["/run/emulator/echo", "/run/emulator/echo/stream", "/queue/emulator/echo"])
def test_bad_start_timeouts(emulator: Emulator, path: str, name: str, value: str) -> None:
    """A timeout that is no number above 0.1 is a bad request."""
    answer = emulator.http.post(path, content="{}", headers={name: value})
    assert (answer.status_code, answer.json()["error_type"]) == (400, "bad_request")


def test_start_timeout_in_the_status(slow_emulator: Emulator) -> None:
    """The status of a request that began too late tells so, it never ran, and fal doesn't try it again."""
    submitted = slow_emulator.submit("fal-ai/flux/dev", FLUX, headers={NEW: "0.15"})
    status = slow_emulator.until_completed(submitted)
    assert (status["error"], status["error_type"]) == ("Request timed out", "startup_timeout")
    assert status["metrics"] == {}
    assert known(slow_emulator, submitted)["attempts"] == 0
    assert slow_emulator.result(submitted).headers["x-fal-needs-retry"] == "0"


def test_start_timeout_covers_failed_attempts(slow_emulator: Emulator) -> None:
    """An attempt that failed doesn't move the deadline: it passes while the request waits for the next."""
    given = {"error_type": "runner_disconnected", "seconds": 0}
    submitted = slow_emulator.submit("emulator/fail", given, headers={NEW: "0.3"})
    result = slow_emulator.result(submitted)
    assert (result.status_code, result.headers["x-fal-request-timeout-type"]) == (504, "user")
    assert known(slow_emulator, submitted)["attempts"] == 1


def test_start_timeout_covers_waiting_for_a_slot(emulator: Emulator) -> None:
    """Nor does waiting for concurrency."""
    emulator.will("concurrency_limit", endpoint="emulator/echo", limit=0)
    result = emulator.result(emulator.submit("emulator/echo", headers={NEW: "0.15"}))
    assert (result.status_code, result.headers["x-fal-request-timeout-type"]) == (504, "user")


@pytest.mark.parametrize("name", [NEW, OLD])
def test_start_timeout_ends_with_the_start(emulator: Emulator, name: str) -> None:
    """A request that has begun may take longer than its start timeout."""
    submitted = emulator.submit("emulator/sleep", {"seconds": 0.3}, headers={name: "0.11"})
    assert emulator.result(submitted).json() == {"slept": 0.3}
    assert emulator.run("emulator/sleep", {"seconds": 0.2}, headers={name: "0.11"}).status_code == 200


def test_the_old_name_is_not_looked_at(emulator: Emulator) -> None:
    """With both names, a bad value of the old one is no matter, and a good one mends nothing."""
    assert emulator.run("emulator/echo", headers={NEW: "1", OLD: "x"}).status_code == 200
    assert emulator.run("emulator/echo", headers={NEW: "x", OLD: "1"}).status_code == 400

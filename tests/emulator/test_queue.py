"""The queue: life cycle, URLs, logs, cancellation, limits (fal-http-api.md §7)."""

import json
import uuid

import httpx
import pytest
from tests.emulator.running import Emulator, events, eventually

FLUX = {"prompt": "a cat", "image_size": {"width": 64, "height": 64}}


def test_submit(slow_emulator: Emulator) -> None:
    """Submit answers 200 with every key of §7.2, a UUID and URLs of owner and alias only."""
    answer = slow_emulator.submit("fal-ai/flux/dev", FLUX)
    body = answer.json()
    url = f"{slow_emulator.url}/queue/fal-ai/flux/requests/{uuid.UUID(body['request_id'])}"
    assert answer.status_code == 200
    assert answer.headers["x-fal-request-id"] == body["request_id"]
    assert body == {
        "status": "IN_QUEUE",
        "request_id": body["request_id"],
        "response_url": url,
        "status_url": f"{url}/status",
        "cancel_url": f"{url}/cancel",
        "queue_position": 2,
        "logs": None,
        "metrics": {},
    }


def test_status_codes(slow_emulator: Emulator) -> None:
    """A status is 202 while it waits and while it runs, 200 when it is over."""
    waits = slow_emulator.status(slow_emulator.submit("fal-ai/flux/dev", FLUX))
    assert (waits.status_code, waits.json()["status"], waits.json()["queue_position"]) == (202, "IN_QUEUE", 2)
    running = slow_emulator.submit("emulator/cancellable")
    runs = eventually(lambda: slow_emulator.status(running), lambda a: a.json()["status"] == "IN_PROGRESS")
    assert runs.status_code == 202
    assert "queue_position" not in runs.json()
    done = slow_emulator.submit("emulator/echo")
    assert slow_emulator.until_completed(done)["metrics"].keys() == {"inference_time"}
    assert slow_emulator.status(done).status_code == 200


def test_a_bad_input_is_found_when_it_runs(emulator: Emulator) -> None:
    """Submit takes any input; the model's 422 is the result, as often as it is read."""
    submitted = emulator.submit("fal-ai/fast-sdxl", '{"seed":"x"}')
    assert submitted.status_code == 200
    first, second = emulator.result(submitted), emulator.result(submitted)
    assert first.status_code == second.status_code == 422
    assert first.content == second.content
    assert [item["type"] for item in first.json()["detail"]] == ["missing", "int_type"]


@pytest.mark.parametrize(
    ("error_type", "status"),
    [("runner_disconnected", 503), ("internal_error", 500), ("request_timeout", 504), ("bad_request", 400)],
)
def test_a_request_that_fal_fails(emulator: Emulator, error_type: str, status: int) -> None:
    """The error type is in the status, and in body and header of the result."""
    submitted = emulator.submit("emulator/fail", {"error_type": error_type})
    assert emulator.until_completed(submitted)["error_type"] == error_type
    result = emulator.result(submitted)
    assert (result.status_code, result.json()["error_type"]) == (status, error_type)
    assert result.headers["x-fal-error-type"] == error_type


def test_results_too_early_and_unknown(slow_emulator: Emulator) -> None:
    """A result is 400 before it is there; requests that nobody knows are 404 NOT_FOUND."""
    submitted = slow_emulator.submit("fal-ai/flux/dev", FLUX).json()
    early = slow_emulator.http.get(submitted["response_url"])
    assert (early.status_code, early.json()) == (400, {"detail": "Request is still in progress"})
    nobody = f"/queue/fal-ai/flux/requests/{uuid.uuid4()}"
    others = submitted["response_url"].replace("fal-ai/flux", "fal-ai/esrgan")
    for url in (nobody, f"{nobody}/status", f"{nobody}/status/stream", others, f"{others}/status"):
        answer = slow_emulator.http.get(url)
        assert (answer.status_code, answer.json()) == (404, {"status": "NOT_FOUND"})
    assert slow_emulator.http.put(f"{nobody}/cancel").status_code == 404


@pytest.mark.parametrize(
    ("endpoint", "base"),
    [
        pytest.param("fal-ai/flux/dev", "fal-ai/flux", id="short"),
        pytest.param("fal-ai/flux/dev", "fal-ai/flux/dev", id="with sub-path"),
        pytest.param("workflows/emulator/replay", "workflows/emulator/replay", id="namespace"),
        pytest.param("emulator/echo", "emulator/echo", id="no sub-path"),
    ],
)
@pytest.mark.parametrize("tail", ["", "/", "/response", "/response/", "/status", "/status/"])
def test_url_forms(emulator: Emulator, endpoint: str, base: str, tail: str) -> None:
    """Result and status have many spellings, by path and by host name."""
    submitted = emulator.submit(endpoint, {**FLUX, "events": []})
    emulator.until_completed(submitted)
    path = f"/{base}/requests/{submitted.json()['request_id']}{tail}"
    assert emulator.http.get(f"/queue{path}").status_code == 200
    assert emulator.http.get(path, headers={"host": "queue.fal.run"}).status_code == 200


def test_logs_of_a_status(emulator: Emulator) -> None:
    """Logs are null unless asked for, then the whole window at each poll, late lines included."""
    submitted = emulator.submit("emulator/logs", {"count": 3, "late": 2})
    emulator.until_completed(submitted)
    assert emulator.status(submitted).json()["logs"] is None
    for no in ("0", "false"):
        assert emulator.status(submitted, logs=no).json()["logs"] is None
    for yes in ("1", "true"):
        lines = eventually(
            lambda y=yes: emulator.status(submitted, logs=y).json()["logs"], lambda x: len(x) == 5
        )
        assert [line["message"] for line in lines][:3] == ["line 0", "line 1", "line 2"]
        assert lines[0].keys() == {"timestamp", "level", "source", "message"}


def test_the_status_stream(emulator: Emulator) -> None:
    """The stream tells each change, new log lines only, and ends after COMPLETED."""
    submitted = emulator.submit("fal-ai/flux/dev", FLUX)
    answer = emulator.http.get(f"{submitted.json()['status_url']}/stream?logs=1")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
    told = [json.loads(event) for event in events(answer.text)]
    states = [status["status"] for status in told]
    assert states == sorted(states, key=["IN_QUEUE", "IN_PROGRESS", "COMPLETED"].index)
    assert states.count("COMPLETED") == 1
    positions = [status["queue_position"] for status in told if status["status"] == "IN_QUEUE"]
    assert positions == sorted(positions, reverse=True)
    lines = [line["message"] for status in told for line in status["logs"] or []]
    assert lines == [f"step {n}/4" for n in range(1, 5)]


def test_keepalive_comments(slow_emulator: Emulator) -> None:
    """A silent status stream gets comments."""
    url = f"{slow_emulator.submit('emulator/cancellable').json()['status_url']}/stream"
    with slow_emulator.http.stream("GET", url) as answer:
        comments = 0
        for line in answer.iter_lines():
            comments += line == ": keepalive"
            if comments == 3:
                return
    pytest.fail("the stream ended")


def test_cancel_in_the_queue(slow_emulator: Emulator) -> None:
    """A waiting request is cancelled with 200 OK at once and is over; its result is 499."""
    submitted = slow_emulator.submit("fal-ai/flux/dev", FLUX)
    answer = slow_emulator.http.put(submitted.json()["cancel_url"])
    assert (answer.status_code, answer.json()) == (200, {"status": "OK"})
    result = slow_emulator.result(submitted)
    assert (result.status_code, result.json()["error_type"]) == (499, "client_cancelled")
    again = slow_emulator.http.put(submitted.json()["cancel_url"])
    assert (again.status_code, again.json()) == (400, {"status": "ALREADY_COMPLETED"})


@pytest.mark.parametrize(("model", "status"), [("emulator/cancellable", 499), ("emulator/stubborn", 200)])
def test_cancel_while_it_runs(emulator: Emulator, model: str, status: int) -> None:
    """A running request is asked to stop with 202; the app decides what comes of it."""
    submitted = emulator.submit(model, {"seconds": 0.4})
    eventually(lambda: emulator.status(submitted).json()["status"] == "IN_PROGRESS")
    answer = emulator.http.put(submitted.json()["cancel_url"])
    assert (answer.status_code, answer.json()) == (202, {"status": "CANCELLATION_REQUESTED"})
    result = emulator.result(submitted)
    assert result.status_code == status
    assert status == 499 or result.json() == {"cancelled": True}


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


def test_max_queue_length(slow_emulator: Emulator) -> None:
    """fal_max_queue_length counts the waiting requests of the same app only."""

    def submit(limit: str, endpoint: str = "fal-ai/esrgan") -> httpx.Response:
        return slow_emulator.submit(endpoint, {}, params={"fal_max_queue_length": limit})

    waiting = [submit("1"), submit("1")]
    refused = submit("1")
    assert (refused.status_code, refused.headers["x-fal-needs-retry"]) == (429, "1")
    assert submit("0", "fal-ai/face-to-sticker").status_code == 200
    for submitted in waiting:
        slow_emulator.http.put(submitted.json()["cancel_url"])
    assert submit("0").status_code == 200
    for bad in ("", "-1", "x", "²", "9" * 5000):
        assert submit(bad).status_code == 400

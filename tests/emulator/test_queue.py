"""The queue: submit, states, positions, URLs, logs, status streams (fal-http-api.md §7)."""

import json
import uuid

import pytest
from tests.emulator.queueing import advance, queued, reaches
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


def test_submit_with_a_webhook(slow_emulator: Emulator) -> None:
    """With a webhook, submit also tells the id of the attempt that the webhook will name (§11.1)."""
    params = {"fal_webhook": "http://127.0.0.1:9/"}
    body = slow_emulator.submit("fal-ai/flux/dev", FLUX, params=params).json()
    assert body["gateway_request_id"] == body["request_id"]
    assert "gateway_request_id" not in slow_emulator.http.get(body["status_url"]).json()


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


@pytest.mark.parametrize(
    ("endpoint", "base"),
    [
        pytest.param("fal-ai/flux/dev", "fal-ai/flux", id="short"),
        pytest.param("fal-ai/flux/dev", "fal-ai/flux/dev", id="with sub-path"),
        pytest.param("workflows/emulator/replay", "workflows/emulator/replay", id="namespace"),
        pytest.param("emulator/echo", "emulator/echo", id="no sub-path"),
    ],
)
@pytest.mark.parametrize(
    "tail",
    ["", "/", "/response", "/response/", "/status", "/status/", "/status/stream", "/status/stream/"],
)
def test_url_forms(emulator: Emulator, endpoint: str, base: str, tail: str) -> None:
    """Result, status and status stream have many spellings, by path and by host name."""
    submitted = emulator.submit(endpoint, {**FLUX, "events": []})
    emulator.until_completed(submitted)
    path = f"/{base}/requests/{submitted.json()['request_id']}{tail}"
    assert emulator.http.get(f"/queue{path}").status_code == 200
    assert emulator.http.get(path, headers={"host": "queue.fal.run"}).status_code == 200


@pytest.mark.parametrize("tail", ["/cancel", "/cancel/"])
@pytest.mark.parametrize("base", ["fal-ai/flux", "fal-ai/flux/dev"])
def test_cancel_url_forms(emulator: Emulator, base: str, tail: str) -> None:
    """Cancel, too, works with and without sub-path and trailing slash."""
    submitted = emulator.submit("fal-ai/flux/dev", FLUX, headers=queued(delay_seconds=1_000_000))
    answer = emulator.http.put(f"/queue/{base}/requests/{submitted.json()['request_id']}{tail}")
    assert (answer.status_code, answer.json()) == (200, {"status": "OK"})


@pytest.mark.parametrize(
    ("method", "tail"),
    [
        *(("POST", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/response"), ("POST", "/status")),
        *(("PUT", "/status/stream"), ("GET", "/cancel"), ("POST", "/cancel")),
    ],
)
def test_wrong_methods(emulator: Emulator, method: str, tail: str) -> None:
    """A method that a URL of a request doesn't have is 405 and changes nothing."""
    submitted = emulator.submit("emulator/echo", {"a": 1})
    emulator.until_completed(submitted)
    answer = emulator.http.request(method, f"{submitted.json()['response_url']}{tail}")
    assert (answer.status_code, answer.json()) == (405, {"detail": "Method Not Allowed"})
    assert emulator.result(submitted).json() == {"a": 1}


URLS = {"request_id", "response_url", "status_url", "cancel_url"}


@pytest.mark.parametrize(
    ("endpoint", "given", "state", "keys"),
    [
        pytest.param("fal-ai/flux/dev", FLUX, "IN_QUEUE", {"queue_position"}, id="waits"),
        pytest.param("emulator/cancellable", {}, "IN_PROGRESS", set(), id="runs"),
        pytest.param("emulator/echo", {}, "COMPLETED", set(), id="succeeded"),
        pytest.param("fal-ai/any-llm", {}, "COMPLETED", {"error"}, id="model error"),
        pytest.param(
            "emulator/fail",
            {"error_type": "bad_request", "seconds": 0},
            "COMPLETED",
            {"error", "error_type"},
            id="request error",
        ),
    ],
)
@pytest.mark.parametrize("logs", [None, "1"])
def test_keys_of_a_status(
    slow_emulator: Emulator, endpoint: str, given: object, state: str, keys: set[str], logs: str | None
) -> None:
    """Each state has the keys of §7.3 and no others, `logs` always among them; nothing ran, no time for it."""
    submitted = slow_emulator.submit(endpoint, given)
    reaches(slow_emulator, submitted, state)
    body = slow_emulator.status(submitted, **({"logs": logs} if logs else {})).json()
    assert body.keys() == URLS | {"status", "logs", "metrics"} | keys
    assert {key: body[key] for key in URLS} == {key: submitted.json()[key] for key in URLS}
    assert body["logs"] == ([] if logs else None)
    assert bool(body["metrics"]) == (state == "COMPLETED")


def test_delay_and_position(slow_emulator: Emulator) -> None:
    """A request moves up one place after each equal part of its delay, and runs after the last."""
    headers = queued(delay_seconds=1_000, position=4)
    submitted = slow_emulator.submit("emulator/cancellable", headers=headers)
    assert submitted.json()["queue_position"] == 4

    def position() -> int:
        return int(slow_emulator.status(submitted).json()["queue_position"])

    for wanted in (3, 2, 1, 0):
        advance(slow_emulator, 198)
        assert position() == wanted + 1
        advance(slow_emulator, 2)
        eventually(position, wanted.__eq__)
    advance(slow_emulator, 198)
    assert slow_emulator.status(submitted).json()["status"] == "IN_QUEUE"
    advance(slow_emulator, 2)
    reaches(slow_emulator, submitted, "IN_PROGRESS")


@pytest.mark.parametrize("position", [0, 1, 10_000])
def test_no_delay(emulator: Emulator, position: int) -> None:
    """Without a delay a request runs at once, however many are said to be before it."""
    submitted = emulator.submit("emulator/echo", headers=queued(delay_seconds=0, position=position))
    assert submitted.json()["queue_position"] == position
    assert emulator.result(submitted).status_code == 200


def test_inference_time(slow_emulator: Emulator) -> None:
    """The time of a run is told in fal's seconds, those skipped included."""
    submitted = slow_emulator.submit("emulator/cancellable", {"seconds": 1})
    reaches(slow_emulator, submitted, "IN_PROGRESS")
    advance(slow_emulator, 500)
    seconds = slow_emulator.until_completed(submitted)["metrics"]["inference_time"]
    assert 500 < seconds < 501


def test_a_long_way_forward(slow_emulator: Emulator) -> None:
    """A clock moved past the whole delay takes a request through all positions at once."""
    submitted = slow_emulator.submit("emulator/echo", headers=queued(delay_seconds=3_000, position=50))
    advance(slow_emulator, 3_001)
    assert slow_emulator.until_completed(submitted)["status"] == "COMPLETED"


def test_delay_by_scenario(emulator: Emulator) -> None:
    """A scenario in place delays requests of its endpoint, as many as it says."""
    emulator.will("queue", endpoint="emulator/echo", delay_seconds=1_000_000, position=7, times=2)
    positions = [emulator.submit("emulator/echo").json()["queue_position"] for _ in range(3)]
    assert positions == [7, 7, 2]
    assert emulator.submit("emulator/logs").json()["queue_position"] == 2


def test_logs_of_a_status(emulator: Emulator) -> None:
    """Logs are null unless asked for, then the whole window at each poll, late lines included."""
    submitted = emulator.submit("emulator/logs", {"count": 3, "late": 2})
    emulator.until_completed(submitted)
    assert emulator.status(submitted).json()["logs"] is None
    for no in ("0", "false", "False", "", "2"):
        assert emulator.status(submitted, logs=no).json()["logs"] is None
    for yes in ("1", "true", "True"):
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

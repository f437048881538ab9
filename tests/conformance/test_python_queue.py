"""fal's Python client and the queue (§7)."""

import itertools
import uuid
from datetime import datetime
from typing import Any

import fal_client
import pytest
from tests.conformance.clients import Calling
from tests.emulator.running import Emulator, eventually

SOON = {"interval": 0.01}
LINES = 200  # one every 2.5 ms: long enough to be seen at work
LONG = 100_000.0  # emulated seconds in the queue: longer than any test


def test_run(client: Calling, emulator: Emulator) -> None:
    """run() gives the model's output, and its headers and path arrive at fal.run."""
    given = {"prompt": "a cat", "n": 2.5, "nested": [None, {"é": "✓"}]}
    assert client.run("emulator/echo", given, hint="warm", start_timeout=30, headers={"x-own": "1"}) == given
    (record,) = emulator.ended()
    headers = record["headers"]
    assert (record["operation"], record["method"], record["path"]) == ("run", "POST", "/emulator/echo")
    assert headers["host"] == "fal.run"
    assert headers["user-agent"] == "fal-client/1.0.3 (python)"
    assert headers["x-fal-runner-hint"] == "warm"
    assert headers["x-fal-request-timeout"] == "30.0"
    assert headers["x-own"] == "1"


def test_run_a_path(client: Calling) -> None:
    """run() with a path calls the endpoint below the app."""
    assert client.run("fal-ai/flux", {"prompt": "a cat"}, path="/dev")["prompt"] == "a cat"


def test_submit(client: Calling, emulator: Emulator) -> None:
    """submit() returns a handle with an id and fal's own URLs, and its headers arrive at queue.fal.run."""
    handle = client.submit(
        "fal-ai/flux/dev", {"prompt": "a cat"}, hint="warm", priority="low", start_timeout=90
    )
    url = f"https://queue.fal.run/fal-ai/flux/requests/{uuid.UUID(handle.request_id)}"
    assert (handle.response_url, handle.status_url, handle.cancel_url) == (
        url,
        f"{url}/status",
        f"{url}/cancel",
    )
    (record,) = emulator.ended(operation="submit")
    headers = record["headers"]
    assert (headers["host"], record["path"]) == ("queue.fal.run", "/fal-ai/flux/dev")
    assert headers["x-fal-runner-hint"] == "warm"
    assert headers["x-fal-queue-priority"] == "low"
    assert headers["x-fal-request-timeout"] == "90.0"
    assert handle.get(**SOON)["images"][0]["url"].startswith("https://v3.fal.media/files/b/")


@pytest.mark.parametrize(
    ("endpoint", "given"),
    [
        pytest.param("fal-ai/flux/dev", {"prompt": "a cat"}, id="path"),
        pytest.param("emulator/echo", {}, id="owner and app"),
        pytest.param("workflows/fal-ai/sdxl-sticker", {"prompt": "a cat"}, id="workflow"),
    ],
)
def test_handles_are_equal(client: Calling, endpoint: str, given: dict[str, Any]) -> None:
    """The handle that the client builds from the id equals the one that fal's URLs make (§3.2)."""
    handle = client.submit(endpoint, given)
    again = client.get_handle(endpoint, handle.request_id)
    assert again.target == handle.target
    assert again.get(**SOON) == handle.get(**SOON) == client.result(endpoint, handle.request_id)


def test_status(client: Calling, emulator: Emulator) -> None:
    """status() tells the three states; logs are null unless they are asked for."""
    emulator.will("concurrency_limit", limit=0)
    handle = client.submit("emulator/cancellable", {"seconds": 600})
    queued = client.status("emulator/cancellable", handle.request_id, with_logs=True)
    assert isinstance(queued, fal_client.Queued)
    assert 0 <= queued.position <= 2
    _let_run(emulator)
    eventually(handle.status, lambda status: not isinstance(status, fal_client.Queued))
    assert handle.status() == fal_client.InProgress(logs=None)
    assert handle.status(with_logs=True) == fal_client.InProgress(logs=[])
    handle.cancel()
    eventually(handle.status, lambda status: isinstance(status, fal_client.Completed))
    completed, with_logs = handle.status(), handle.status(with_logs=True)
    assert (completed.logs, with_logs.logs) == (None, [])
    assert (completed.error_type, with_logs.error_type) == ("client_cancelled", "client_cancelled")
    assert completed.error


def test_iter_events(client: Calling, emulator: Emulator) -> None:
    """iter_events() goes through the states in order, with growing logs and the inference time at the end."""
    emulator.will("concurrency_limit", limit=0)
    handle = client.submit("emulator/logs", {"count": LINES})
    events = []
    for event in handle.iter_events(with_logs=True, **SOON):
        events.append(event)
        if event == fal_client.Queued(position=0):
            _let_run(emulator)
    assert _states(events) == [fal_client.Queued, fal_client.InProgress, fal_client.Completed]
    positions = [event.position for event in events if isinstance(event, fal_client.Queued)]
    assert positions == sorted(positions, reverse=True)
    logs = [event.logs for event in events if not isinstance(event, fal_client.Queued)]
    assert all(len(before) <= len(after) for before, after in itertools.pairwise(logs))
    assert [line["message"] for line in logs[-1]] == [f"line {number}" for number in range(LINES)]
    assert all(line["level"] == "INFO" and line["source"] == "USER" for line in logs[-1])
    assert all(datetime.fromisoformat(line["timestamp"]).tzinfo for line in logs[-1])
    assert events[-1].metrics["inference_time"] > 0
    assert (events[-1].error, events[-1].error_type) == (None, None)


def test_results_can_be_read_again(client: Calling) -> None:
    """get() waits for the result, and reading it does not consume it."""
    handle = client.submit("emulator/sleep", {"seconds": 0.1})
    assert handle.get(**SOON) == handle.get(**SOON) == {"slept": 0.1}


def test_cancel_a_queued_request(client: Calling, emulator: Emulator) -> None:
    """Cancelling what still waits takes it out of the queue: 200 and a 499 result."""
    emulator.will("queue", operation="submit", delay_seconds=LONG)
    handle = client.submit("emulator/echo", {})
    assert isinstance(handle.status(), fal_client.Queued)
    handle.cancel()
    assert _cancelled(emulator) == [200]
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        handle.get(**SOON)
    assert (caught.value.status_code, caught.value.error_type) == (499, "client_cancelled")


def test_cancel_a_running_request_that_stops(client: Calling, emulator: Emulator) -> None:
    """An app that handles cancellation ends a running request: 202 and a 499 result."""
    handle = client.submit("emulator/cancellable", {"seconds": 600})
    eventually(handle.status, lambda status: isinstance(status, fal_client.InProgress))
    client.cancel("emulator/cancellable", handle.request_id)
    assert _cancelled(emulator) == [202]
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        handle.get(**SOON)
    assert (caught.value.status_code, caught.value.error_type) == (499, "client_cancelled")


def test_cancel_a_running_request_that_goes_on(client: Calling, emulator: Emulator) -> None:
    """An app that ignores cancellation still gives its result: 202 and then 200."""
    handle = client.submit("emulator/stubborn", {"seconds": 1.0})
    eventually(handle.status, lambda status: isinstance(status, fal_client.InProgress))
    handle.cancel()
    assert _cancelled(emulator) == [202]
    assert handle.get(**SOON) == {"cancelled": True}


def test_cancel_a_completed_request(client: Calling, emulator: Emulator) -> None:
    """Cancelling what has completed is a 400 whose message is the body: it has no detail."""
    handle = client.submit("emulator/echo", {"a": 1})
    assert handle.get(**SOON) == {"a": 1}
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        handle.cancel()
    assert caught.value.status_code == 400
    assert caught.value.response.json() == {"status": "ALREADY_COMPLETED"}
    assert caught.value.message == caught.value.response.text
    assert _cancelled(emulator) == [400]


@pytest.mark.parametrize("call", ["status", "result", "cancel"])
def test_unknown_request(client: Calling, call: str) -> None:
    """status(), result() and cancel() of an id that fal doesn't know are a 404."""
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        getattr(client, call)("emulator/echo", str(uuid.uuid4()))
    assert caught.value.status_code == 404
    assert caught.value.response.json() == {"status": "NOT_FOUND"}


def test_subscribe(client: Calling, emulator: Emulator) -> None:
    """subscribe() tells the id and each state with logs, and returns the output."""
    ids: list[str] = []
    events: list[fal_client.Status] = []

    def update(event: fal_client.Status) -> None:
        events.append(event)
        if isinstance(event, fal_client.Queued):
            _let_run(emulator)

    emulator.will("concurrency_limit", limit=0)
    output = client.subscribe(
        "emulator/logs",
        {"count": LINES},
        with_logs=True,
        on_enqueue=ids.append,
        on_queue_update=update,
        **SOON,
    )
    assert output == {"lines": LINES}
    assert _states(events) == [fal_client.Queued, fal_client.InProgress, fal_client.Completed]
    assert isinstance(events[-1], fal_client.Completed)
    assert len(events[-1].logs or []) == LINES
    (result,) = emulator.ended(operation="result")
    assert ids == [result["path"].rpartition("/")[2]]


def test_subscribe_without_callbacks(client: Calling) -> None:
    """subscribe() alone returns the output."""
    assert client.subscribe("emulator/echo", {"a": [1, "ü"]}, **SOON) == {"a": [1, "ü"]}


def test_subscribe_with_a_client_timeout(client: Calling, emulator: Emulator) -> None:
    """When client_timeout is over the client cancels, which arrives and ends the request."""
    with pytest.raises(fal_client.FalClientTimeoutError) as caught:
        client.subscribe("emulator/cancellable", {"seconds": 600}, client_timeout=1.1, **SOON)
    assert caught.value.timeout == 1.1
    if isinstance(client.target, fal_client.SyncClient):
        # Its thread goes on until the request has ended, and must not outlive the redirection.
        eventually(lambda: emulator.evidence(operation="result")["requests"])
    (submit,) = emulator.ended(operation="submit")
    assert submit["headers"]["x-fal-request-timeout"] == "1.1"
    (cancel,) = emulator.ended(operation="cancel")
    assert cancel["path"].endswith(f"/requests/{caught.value.request_id}/cancel")
    assert cancel["status"] == 202
    status = client.status("emulator/cancellable", caught.value.request_id)
    assert status.error_type == "client_cancelled"


def test_start_timeout(client: Calling, emulator: Emulator) -> None:
    """A request that does not start in time ends with 504, which the client knows not to retry (§4)."""
    emulator.will("queue", operation="submit", delay_seconds=LONG)
    handle = client.submit("emulator/echo", {}, start_timeout=1.1)
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        handle.get(**SOON)
    assert caught.value.status_code == 504
    assert caught.value.response_headers["x-fal-request-timeout-type"] == "user"
    assert len(emulator.ended(operation="result")) == 1


def test_attempts_on_other_runners(client: Calling, emulator: Emulator) -> None:
    """Attempts that fail on the runner stay inside fal: the caller gets the output (§7.1)."""
    emulator.will("queue", operation="submit", retries=2)
    assert client.submit("emulator/echo", {"a": 1}).get(**SOON) == {"a": 1}


def _let_run(emulator: Emulator) -> None:
    """Lifts the limit that keeps requests in the queue."""
    emulator.http.delete("/_emulator/scenarios").raise_for_status()


def _cancelled(emulator: Emulator) -> list[int]:
    return [record["status"] for record in emulator.ended(operation="cancel")]


def _states(events: list[fal_client.Status]) -> list[type[fal_client.Status]]:
    """The states in order, without repetitions."""
    return [state for state, _ in itertools.groupby(events, type)]

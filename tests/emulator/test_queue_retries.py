"""Attempts: when fal tries a queue request again, and what can be seen of it (fal-http-api.md §7.1, §12.5)."""

import json
from typing import Any

import pytest
from tests.emulator.queueing import advance, known, queued, reaches
from tests.emulator.running import Emulator, events

from falrpc_server.emulator.failures import REQUEST_ERRORS

HINT, NO_HINT = {"x-fal-needs-retry": "1"}, {"x-fal-needs-retry": "0"}
FINAL = {  # the last three are transient for whoever waits (§12.1), but the queue tries 503 and 504 only (§7.1)
    *("bad_request", "client_cancelled", "client_disconnected"),
    *("internal_error", "runner_server_error", "concurrent_requests_limit"),
}
USER = {"x-fal-request-timeout-type": "user"}


def test_the_way_of_a_request(slow_emulator: Emulator) -> None:
    """Each failed attempt takes a request from IN_PROGRESS back to IN_QUEUE, and the last one completes it."""
    submitted = slow_emulator.submit("emulator/echo", {"a": 1}, headers=queued(retries=2))
    for attempt in (1, 2):
        request = reaches(slow_emulator, submitted, "IN_PROGRESS")
        assert (request["attempts"], request["status"]) == (attempt, None)
        assert slow_emulator.status(submitted).status_code == 202
        advance(slow_emulator, 0.2)
        reaches(slow_emulator, submitted, "IN_QUEUE")
        waits = slow_emulator.status(submitted)
        assert (waits.status_code, waits.json()["queue_position"]) == (202, 0)
        assert "error" not in waits.json()
        advance(slow_emulator, 0.6)
    status = slow_emulator.until_completed(submitted)
    assert status.keys().isdisjoint({"error", "error_type"})
    assert slow_emulator.result(submitted).json() == {"a": 1}
    request = known(slow_emulator, submitted)
    assert (request["attempts"], request["status"]) == (3, 200)


def test_ids_of_attempts(slow_emulator: Emulator) -> None:
    """Each new attempt has a gateway_request_id of its own, while request_id and URLs stay."""
    submitted = slow_emulator.submit("emulator/echo", headers=queued(retries=3))
    ids = [reaches(slow_emulator, submitted, "IN_PROGRESS")["gateway_request_id"]]
    for _ in range(3):
        reaches(slow_emulator, submitted, "IN_PROGRESS")
        advance(slow_emulator, 0.2)
        ids.append(reaches(slow_emulator, submitted, "IN_QUEUE")["gateway_request_id"])
        advance(slow_emulator, 0.6)
    status = slow_emulator.until_completed(submitted)
    assert ids[0] == submitted.json()["request_id"]
    assert len(set(ids)) == 4
    assert known(slow_emulator, submitted)["gateway_request_id"] == ids[-1]
    for key in ("request_id", "status_url", "response_url", "cancel_url"):
        assert status[key] == submitted.json()[key]
    result = slow_emulator.result(submitted)
    assert result.headers["x-fal-request-id"] == submitted.json()["request_id"]


def test_the_way_back_in_a_status_stream(emulator: Emulator) -> None:
    """A status stream shows each attempt and each way back, and ends with the last attempt."""
    headers = queued(delay_seconds=2, position=1, retries=2)
    submitted = emulator.submit("emulator/echo", headers=headers)
    answer = emulator.http.get(f"{submitted.json()['status_url']}/stream")
    told = [json.loads(event) for event in events(answer.text)]
    states = [(status["status"], status.get("queue_position")) for status in told]
    waits, runs = ("IN_QUEUE", 0), ("IN_PROGRESS", None)
    # The last attempt of this model may be over before anyone can look.
    assert [state for state in states if state != ("IN_QUEUE", 1)][:5] == [waits, runs, waits, runs, waits]
    assert states[-1] == ("COMPLETED", None)
    assert not any("error" in status for status in told)


@pytest.mark.parametrize("retries", [9, 10, 100])
def test_attempts_max(emulator: Emulator, retries: int) -> None:
    """There are ten attempts at most, and the tenth one's outcome is what counts."""
    submitted = emulator.submit("emulator/echo", headers=queued(retries=retries))
    status = emulator.until_completed(submitted)
    assert known(emulator, submitted)["attempts"] == 10
    if retries == 9:
        assert "error" not in status
        assert emulator.result(submitted).status_code == 200
    else:
        assert (status["error"], status["error_type"]) == ("Runner disconnected", "runner_disconnected")
        assert emulator.result(submitted).status_code == 503


def test_attempts_of_a_model_that_always_fails(emulator: Emulator) -> None:
    """The ten attempts are a model's own, too."""
    given = {"error_type": "runner_connection_refused", "seconds": 0}
    submitted = emulator.submit("emulator/fail", given)
    assert emulator.until_completed(submitted)["error_type"] == "runner_connection_refused"
    assert known(emulator, submitted)["attempts"] == 10


@pytest.mark.parametrize("value", ["1", "true", "yes", "TRUE"])
def test_no_retry(emulator: Emulator, value: str) -> None:
    """X-Fal-No-Retry makes the first attempt the last."""
    headers = {**queued(retries=1), "X-Fal-No-Retry": value}
    submitted = emulator.submit("emulator/echo", headers=headers)
    assert emulator.until_completed(submitted)["error_type"] == "runner_disconnected"
    request = known(emulator, submitted)
    assert (request["attempts"], request["status"]) == (1, 503)
    assert request["gateway_request_id"] == request["request_id"]


@pytest.mark.parametrize("value", ["0", "false", "no", "", "2"])
def test_retry_in_spite_of_the_header(emulator: Emulator, value: str) -> None:
    """Other values of X-Fal-No-Retry switch nothing off."""
    headers = {**queued(retries=1), "X-Fal-No-Retry": value}
    submitted = emulator.submit("emulator/echo", headers=headers)
    assert emulator.result(submitted).status_code == 200
    assert known(emulator, submitted)["attempts"] == 2


@pytest.mark.parametrize("error_type", REQUEST_ERRORS)
def test_request_errors(emulator: Emulator, error_type: str) -> None:
    """Request errors are tried again when they are 503 or 504, or a disturbed connection (§7.1), and no others."""
    submitted = emulator.submit("emulator/echo", headers=queued(retries=1, error_type=error_type))
    status = emulator.until_completed(submitted)
    if error_type in FINAL:
        assert (status["error_type"], known(emulator, submitted)["attempts"]) == (error_type, 1)
        assert emulator.result(submitted).status_code == REQUEST_ERRORS[error_type][0]
    else:
        assert ("error" not in status, known(emulator, submitted)["attempts"]) == (True, 2)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        *((status, {}) for status in (503, 504)),
        *((status, HINT) for status in (429, 500, 501, 502, 503, 504)),
        (500, {"x-fal-needs-retry": "true"}),
        (429, {"x-fal-needs-retry": "True"}),
        (502, {"x-fal-error-type": "runner_incomplete_response"}),
        (504, {"x-fal-error-type": "request_timeout", "x-fal-request-timeout-type": "app"}),
    ],
)
def test_answers_that_are_tried_again(emulator: Emulator, status: int, headers: dict[str, str]) -> None:
    """A failure that another runner may not have is tried again (§12.5), and leaves no trace."""
    scenario: dict[str, Any] = {"operation": "work", "endpoint": "emulator/echo"}
    emulator.will("answer", **scenario, status=status, headers=headers)
    submitted = emulator.submit("emulator/echo", {"a": 1})
    assert "error" not in emulator.until_completed(submitted)
    assert known(emulator, submitted)["attempts"] == 2
    assert emulator.result(submitted).json() == {"a": 1}


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        *((status, {}) for status in (200, 204, 302, 400, 401, 402, 403, 404, 405, 408, 409, 413, 422, 424)),
        *((status, {}) for status in (429, 499, 500, 501, 502)),
        *((status, HINT) for status in (200, 400, 408, 409, 422, 499)),
        *((status, NO_HINT) for status in (429, 500, 502, 503, 504)),
        (503, {"x-fal-needs-retry": "false"}),
        (500, {"x-fal-error-type": "runner_server_error"}),
        (500, {"x-fal-error-type": "runner_server_error", **HINT}),
        (429, {"x-fal-error-type": "concurrent_requests_limit", **HINT}),
        (504, USER),
        (504, {**USER, **HINT}),
        (504, {"x-fal-request-timeout-type": "User", "x-fal-error-type": "startup_timeout"}),
    ],
)
def test_answers_that_are_final(emulator: Emulator, status: int, headers: dict[str, str]) -> None:
    """Other answers end a request with the first attempt (§12.5): they are its result, headers included."""
    scenario: dict[str, Any] = {"operation": "work", "endpoint": "emulator/echo"}
    emulator.will("answer", **scenario, status=status, headers=headers)
    submitted = emulator.submit("emulator/echo", {"a": 1})
    told = emulator.until_completed(submitted)
    assert known(emulator, submitted)["attempts"] == 1
    assert ("error" in told) == (status >= 400)
    result = emulator.result(submitted)
    assert result.status_code == status
    assert headers.items() <= dict(result.headers).items()


@pytest.mark.parametrize("tail", ["", "/stream"])
def test_synchronous_runs_are_not_tried_again(emulator: Emulator, tail: str) -> None:
    """fal tries nothing again for a caller who waits: the failure is the answer (§6.3)."""
    scenario: dict[str, Any] = {"operation": "work", "endpoint": "emulator/echo"}
    emulator.will("fail", **scenario, kind="runner_disconnected")
    answer = emulator.run(f"emulator/echo{tail}")
    assert (answer.status_code, answer.headers["x-fal-needs-retry"]) == (503, "1")
    assert emulator.run(f"emulator/echo{tail}").status_code == 200


def test_logs_of_all_attempts(emulator: Emulator) -> None:
    """What the model logs after a failed attempt is in the same logs, once."""
    submitted = emulator.submit("emulator/logs", {"count": 2}, headers=queued(retries=2))
    emulator.until_completed(submitted)
    logs = emulator.status(submitted, logs="1").json()["logs"]
    assert [line["message"] for line in logs] == ["line 0", "line 1"]

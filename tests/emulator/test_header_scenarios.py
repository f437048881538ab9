"""Scenarios for one request: in its own header, and `work`, the outcome of a model's run."""

import json
import time
from typing import Any

import httpx
import pytest
from tests.emulator.queueing import known, reaches
from tests.emulator.running import Emulator

from falrpc_server.emulator.failures import FAILURES
from falrpc_server.emulator.scenarios import ACTS

HEADER = "x-emulator-scenario"


def brought(*scenarios: dict[str, Any]) -> dict[str, str]:
    """The header that brings scenarios along."""
    return {HEADER: json.dumps(scenarios[0] if len(scenarios) == 1 else scenarios)}


def work(act: str, **fields: Any) -> dict[str, Any]:
    """A scenario for the model's run itself."""
    return {"act": act, "operation": "work", **fields}


def put(emulator: Emulator, scenario: dict[str, Any], way: str) -> dict[str, str]:
    """Puts a scenario in place, or returns the header that brings it along."""
    if way == "header":
        return brought(scenario)
    emulator.will(scenario.pop("act"), **scenario)
    return {}


def queue(emulator: Emulator) -> list[str]:
    """The ids of all requests in the queue."""
    return [request["request_id"] for request in emulator.http.get("/_emulator/requests").json()]


both_ways = pytest.mark.parametrize("way", ["header", "in place"])


def test_only_this_request(emulator: Emulator) -> None:
    """A header's scenario is for its own request, once, and nowhere listed."""
    headers = brought({"act": "fail", "kind": "gpu_error", "times": None})
    answer = emulator.run("emulator/echo", headers=headers)
    assert (answer.status_code, answer.json()) == (503, {"detail": "GPU error"})
    assert emulator.http.get("/_emulator/scenarios").json() == []
    assert emulator.run("emulator/echo").status_code == 200


def test_a_list_in_the_header(emulator: Emulator) -> None:
    """Of several the first that fits is taken; with `after` it lets the request through to the next."""
    headers = brought(
        {"act": "answer", "status": 500, "operation": "submit"},
        {"act": "answer", "status": 501, "endpoint": "emulator/fail"},
        {"act": "answer", "status": 502, "after": 1},
        {"act": "answer", "status": 503, "body": "\u20ac", "operation": "run"},
        {"act": "answer", "status": 504},
    )
    answer = emulator.run("emulator/echo", headers=headers)
    assert (answer.status_code, answer.text) == (503, "\u20ac")


def test_a_header_in_utf_8(emulator: Emulator) -> None:
    """The header's JSON may be UTF-8 as well as escaped."""
    text = '{"act":"answer","body":"\u20ac"}'
    assert emulator.run("emulator/echo", headers={HEADER.encode(): text.encode()}).text == "\u20ac"


def test_the_header_comes_first(emulator: Emulator) -> None:
    """A request's own scenario is taken before those in place, which stay for others."""
    emulator.will("answer", status=501)
    headers = brought({"act": "answer", "status": 502})
    assert emulator.run("emulator/echo", headers=headers).status_code == 502
    assert emulator.run("emulator/echo").status_code == 501
    emulator.will("answer", status=501, operation="work")
    assert emulator.run("emulator/echo", headers=brought(work("answer"))).status_code == 502
    assert emulator.run("emulator/echo").status_code == 501


def test_a_header_that_does_not_fit(emulator: Emulator) -> None:
    """A scenario for another operation leaves its request alone."""
    headers = brought({"act": "answer", "status": 500, "operation": "submit"})
    assert emulator.run("emulator/echo", "{}", headers=headers).text == "{}"


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "[]", "{}", '"hang"', '{"act":"dance"}', "[" * 10_000, "\xff", "NaN"),
        pytest.param('{"act":"concurrency_limit","limit":1}', id="about many requests"),
    ],
)
@pytest.mark.parametrize("path", ["/queue/emulator/echo", "/run/emulator/echo", "/nowhere"])
def test_a_bad_header(emulator: Emulator, path: str, text: str) -> None:
    """A header that is no scenario is 400 with the reason, and the request has no effect."""
    before = queue(emulator)
    answer = emulator.http.post(path, content="{}", headers={HEADER.encode(): text.encode("latin-1")})
    assert answer.status_code == 400
    assert answer.json()["detail"]
    assert len(answer.headers["x-fal-request-id"]) == 36
    assert queue(emulator) == before


@pytest.mark.parametrize("act", ["dance", "", 1, None])
def test_a_header_with_an_unknown_act(emulator: Emulator, act: Any) -> None:
    """The refusal lists every act."""
    answer = emulator.run("emulator/echo", headers=brought({"act": act}))
    assert answer.status_code == 400
    assert [name for name in ACTS if name not in answer.json()["detail"]] == []


@both_ways
@pytest.mark.parametrize(
    "kind", ["content_policy_violation", "unhandled_exception", "bad_request", "unknown_key"]
)
def test_a_failure_is_the_outcome(emulator: Emulator, way: str, kind: str) -> None:
    """`work` fails after a good submit: the status says it went wrong, and the result is the failure."""
    failure = FAILURES[kind]
    headers = put(emulator, work("fail", kind=kind, retry_after="7"), way)
    submitted = emulator.submit("emulator/echo", headers=headers)
    assert (submitted.status_code, submitted.json()["status"]) == (200, "IN_QUEUE")
    status = emulator.until_completed(submitted)
    error_type = failure.headers.get("x-fal-error-type")
    assert status.get("error_type") == error_type
    assert status["error"] == ("Bad request" if error_type else f"Invalid status code: {failure.status}")
    for _ in range(2):
        result = emulator.result(submitted)
        assert (result.status_code, result.content) == (failure.status, failure.body)
        assert result.headers.items() >= {**failure.headers, "retry-after": "7"}.items()


def test_a_failure_that_fal_tries_again(emulator: Emulator) -> None:
    """A failed attempt is followed by the next (§7.1), so a failure for one run goes unseen, one for all is the end."""
    submitted = emulator.submit("emulator/echo", "{}", headers=brought(work("fail", kind="gpu_error")))
    assert emulator.result(submitted).text == "{}"
    assert known(emulator, submitted)["attempts"] == 2
    headers = brought(work("fail", kind="runner_disconnected", times=None))
    submitted = emulator.submit("emulator/echo", "{}", headers=headers)
    assert emulator.result(submitted).json()["error_type"] == "runner_disconnected"
    assert known(emulator, submitted)["attempts"] == 10


@both_ways
def test_an_answer_is_the_outcome(emulator: Emulator, way: str) -> None:
    """`work` can answer anything: it is stored, and read as it is."""
    scenario = work("answer", status=201, headers={"X-A": "b", "content-type": "text/x"}, body="\u00e9")
    result = emulator.result(emulator.submit("emulator/echo", headers=put(emulator, scenario, way)))
    assert (result.status_code, result.text, result.headers["x-a"]) == (201, "\u00e9", "b")
    assert result.headers["content-type"] == "text/x"


@both_ways
def test_work_that_hangs(emulator: Emulator, way: str) -> None:
    """`work` that hangs stays IN_PROGRESS, and keeps a synchronous caller waiting."""
    submitted = emulator.submit("emulator/echo", headers=put(emulator, work("hang"), way))
    reaches(emulator, submitted, "IN_PROGRESS")
    time.sleep(0.1)  # long enough for the model itself, which takes no time
    assert emulator.status(submitted).json()["status"] == "IN_PROGRESS"
    for tail in ("", "/stream"):
        headers = put(emulator, work("hang"), way)
        with pytest.raises(httpx.ReadTimeout):
            emulator.run(f"emulator/echo{tail}", headers=headers, timeout=0.2)


@both_ways
def test_work_that_is_slow(emulator: Emulator, way: str) -> None:
    """`work` that is slow takes as many real seconds more, then does what it should."""
    submitted = emulator.submit("emulator/echo", "{}", headers=put(emulator, work("slow", seconds=0.2), way))
    assert emulator.until_completed(submitted)["metrics"]["inference_time"] >= 0.2
    assert emulator.result(submitted).text == "{}"
    started = time.monotonic()
    headers = put(emulator, work("slow", seconds=0.2), way)
    assert emulator.run("emulator/echo", "{}", headers=headers).text == "{}"
    assert time.monotonic() - started >= 0.2


@both_ways
@pytest.mark.parametrize("tail", ["", "/stream"])
def test_work_of_a_synchronous_request(emulator: Emulator, way: str, tail: str) -> None:
    """A caller who waits gets the outcome of `work` as the answer, and a failure before any event."""
    headers = put(emulator, work("fail", kind="runner_disconnected", retry_after="1"), way)
    answer = emulator.run(f"emulator/echo{tail}", headers=headers)
    assert (answer.status_code, answer.content) == (503, FAILURES["runner_disconnected"].body)
    assert (answer.headers["content-type"], answer.headers["retry-after"]) == ("application/json", "1")
    assert emulator.run(f"emulator/echo{tail}").status_code == 200


def test_several_ride_on_a_submitted_request(emulator: Emulator) -> None:
    """Acts for the queue and for the work come along with the same submit, beside a fault of submitting itself."""
    headers = brought(
        {"act": "queue", "delay_seconds": 0, "position": 5, "retries": 1},
        {"act": "headers", "operation": "submit", "headers": {"x-a": "b"}},
        work("answer", status=418),
    )
    submitted = emulator.submit("emulator/echo", headers=headers)
    assert (submitted.json()["queue_position"], submitted.headers["x-a"]) == (5, "b")
    assert emulator.result(submitted).status_code == 418
    assert known(emulator, submitted)["attempts"] == 2
    other = emulator.submit("emulator/echo", "{}")
    assert other.json()["queue_position"] == 2
    assert emulator.result(other).text == "{}"

"""Cancelling queue requests, in each of their states (fal-http-api.md §7.7)."""

import uuid

import httpx
import pytest
from tests.emulator.queueing import advance, known, not_found, queued, reaches
from tests.emulator.running import Emulator, eventually

FLUX = {"prompt": "a cat", "image_size": {"width": 64, "height": 64}}
CANCELLED = ("COMPLETED", "Request was cancelled", "client_cancelled")


def status_of(emulator: Emulator, submitted: httpx.Response) -> tuple[str, str, str]:
    """State, error and error type of a request that is over."""
    answer = emulator.status(submitted)
    assert answer.status_code == 200
    return (answer.json()["status"], answer.json().get("error", ""), answer.json().get("error_type", ""))


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


def test_status_after_a_cancel_in_the_queue(slow_emulator: Emulator) -> None:
    """A request cancelled in the queue is COMPLETED with the reason, never ran and took no time."""
    submitted = slow_emulator.submit("fal-ai/flux/dev", FLUX)
    slow_emulator.http.put(submitted.json()["cancel_url"])
    assert status_of(slow_emulator, submitted) == CANCELLED
    assert slow_emulator.status(submitted).json()["metrics"] == {}
    advance(slow_emulator, 10)
    request = known(slow_emulator, submitted)
    assert (request["attempts"], request["cancelled"], request["status"]) == (0, True, 499)


def test_status_after_a_cancel_while_it_runs(emulator: Emulator) -> None:
    """A running request that gives in is COMPLETED with the reason; another cancel meanwhile is 202, too."""
    running = emulator.submit("emulator/stubborn", {"seconds": 0.3})
    reaches(emulator, running, "IN_PROGRESS")
    answers = [emulator.http.put(running.json()["cancel_url"]) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    request = known(emulator, running)
    assert (request["state"], request["cancelled"]) == ("IN_PROGRESS", True)
    gives_in = emulator.submit("emulator/cancellable")
    reaches(emulator, gives_in, "IN_PROGRESS")
    emulator.http.put(gives_in.json()["cancel_url"])
    reaches(emulator, gives_in, "COMPLETED")
    assert status_of(emulator, gives_in) == CANCELLED
    emulator.until_completed(running)
    assert status_of(emulator, running) == ("COMPLETED", "", "")


def test_cancel_while_it_waits_for_a_retry(slow_emulator: Emulator) -> None:
    """A request that goes back to the queue is cancelled there, and not tried again."""
    submitted = slow_emulator.submit("emulator/echo", headers=queued(retries=5))
    reaches(slow_emulator, submitted, "IN_PROGRESS")
    advance(slow_emulator, 0.2)
    reaches(slow_emulator, submitted, "IN_QUEUE")
    answer = slow_emulator.http.put(submitted.json()["cancel_url"])
    assert (answer.status_code, answer.json()) == (200, {"status": "OK"})
    assert status_of(slow_emulator, submitted) == CANCELLED
    advance(slow_emulator, 10)
    assert slow_emulator.result(submitted).status_code == 499
    assert known(slow_emulator, submitted)["attempts"] == 1


def test_cancel_while_it_waits_for_a_slot(emulator: Emulator) -> None:
    """A request that may not run yet is cancelled in the queue and doesn't run when it may."""
    emulator.will("concurrency_limit", endpoint="emulator/echo", limit=0)
    submitted = emulator.submit("emulator/echo")
    other = emulator.submit("emulator/echo")
    assert emulator.http.put(submitted.json()["cancel_url"]).status_code == 200
    emulator.http.delete("/_emulator/scenarios")
    emulator.until_completed(other)
    assert known(emulator, submitted)["attempts"] == 0
    assert emulator.result(submitted).status_code == 499


def test_no_retry_after_a_cancel(slow_emulator: Emulator) -> None:
    """An attempt that fails after its request was cancelled is the last."""
    submitted = slow_emulator.submit("emulator/echo", headers=queued(retries=5))
    reaches(slow_emulator, submitted, "IN_PROGRESS")
    assert slow_emulator.http.put(submitted.json()["cancel_url"]).status_code == 202
    advance(slow_emulator, 0.2)
    assert slow_emulator.until_completed(submitted)["error_type"] == "runner_disconnected"
    assert known(slow_emulator, submitted)["attempts"] == 1


def test_cancel_of_what_is_over(emulator: Emulator) -> None:
    """What has succeeded or failed can't be cancelled and stays as it is."""
    for endpoint, status in (("emulator/echo", 200), ("fal-ai/any-llm", 422)):
        submitted = emulator.submit(endpoint)
        before = emulator.result(submitted)
        answer = emulator.http.put(submitted.json()["cancel_url"])
        assert (answer.status_code, answer.json()) == (400, {"status": "ALREADY_COMPLETED"})
        after = emulator.result(submitted)
        assert (after.status_code, after.content) == (before.status_code, before.content)
        assert (after.status_code, known(emulator, submitted)["cancelled"]) == (status, False)


def test_cancel_of_what_nobody_knows(emulator: Emulator) -> None:
    """Unknown requests, and those of another app, are 404; the latter go on."""
    not_found(emulator, f"/queue/emulator/echo/requests/{uuid.uuid4()}")
    submitted = emulator.submit("emulator/cancellable")
    reaches(emulator, submitted, "IN_PROGRESS")
    not_found(emulator, submitted.json()["response_url"].replace("cancellable", "echo"))
    assert not known(emulator, submitted)["cancelled"]


def test_cancel_ends_a_status_stream(slow_emulator: Emulator) -> None:
    """Whoever watches a request learns at once that it was cancelled, and the stream ends."""
    submitted = slow_emulator.submit("fal-ai/flux/dev", FLUX)
    with slow_emulator.http.stream("GET", f"{submitted.json()['status_url']}/stream") as answer:
        lines = (line for line in answer.iter_lines() if line.startswith("data: "))
        assert '"IN_QUEUE"' in next(lines)
        slow_emulator.http.put(submitted.json()["cancel_url"])
        [last] = lines
    assert '"COMPLETED"' in last
    assert '"client_cancelled"' in last

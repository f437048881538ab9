"""Limits on what runs at once and on what waits (fal-http-api.md §6.3, §7.1, §7.2)."""

import contextlib
from collections.abc import Iterator

import httpx
import pytest
from tests.emulator.queueing import advance, known, reaches
from tests.emulator.running import Emulator, eventually, running_emulator


@pytest.fixture(scope="module")
def empty_emulator() -> Iterator[Emulator]:
    """An emulator on which nothing runs but what the tests of this file start and end."""
    with running_emulator("--speed", "20") as (emulator, _):
        yield emulator


@pytest.fixture
def emulator(empty_emulator: Emulator) -> Emulator:
    """The same, without scenarios of other tests."""
    empty_emulator.reset()
    return empty_emulator


@contextlib.contextmanager
def one_run(emulator: Emulator) -> Iterator[None]:
    """A run of emulator/sleep that holds its slot until the end of the block."""
    with emulator.send("POST", "/run/emulator/sleep", b'{"seconds":60}'):
        # With the whole body there it begins before the emulator can read another request.
        eventually(
            lambda: [r for r in emulator.evidence(operation="run")["requests"] if r["body_bytes"] == 14]
        )
        yield


def clear(emulator: Emulator) -> None:
    """Takes all limits away."""
    emulator.http.delete("/_emulator/scenarios")


@pytest.mark.parametrize("tail", ["", "/stream"])
def test_over_the_limit(emulator: Emulator, tail: str) -> None:
    """A synchronous request over the limit is 429 `concurrent_requests_limit` with the hint to try again."""
    emulator.will("concurrency_limit", limit=0)
    answer = emulator.run(f"emulator/echo{tail}")
    assert (answer.status_code, answer.headers["x-fal-needs-retry"]) == (429, "1")
    assert answer.json() == {
        "detail": "Too many concurrent requests",
        "error_type": "concurrent_requests_limit",
    }
    assert answer.headers["x-fal-error-type"] == "concurrent_requests_limit"
    assert "x-fal-request-id" in answer.headers
    assert "retry-after" not in answer.headers
    clear(emulator)
    assert emulator.run(f"emulator/echo{tail}").status_code == 200


def test_a_run_holds_its_slot(emulator: Emulator) -> None:
    """A run counts until it ends or its caller leaves."""
    emulator.will("concurrency_limit", endpoint="emulator/sleep", limit=1)
    with one_run(emulator):
        assert emulator.run("emulator/sleep", {"seconds": 0}).status_code == 429
    eventually(lambda: emulator.run("emulator/sleep", {"seconds": 0}).status_code == 200)
    assert [emulator.run("emulator/sleep", {"seconds": 0}).status_code for _ in range(3)] == [200] * 3


def test_a_failure_gives_its_slot_back(emulator: Emulator) -> None:
    """Runs that fail don't use up the limit."""
    emulator.will("concurrency_limit", limit=1)
    assert [emulator.run("fal-ai/any-llm").status_code for _ in range(3)] == [422] * 3
    assert [emulator.stream("emulator/events").status_code for _ in range(3)] == [422] * 3
    emulator.will("fail", operation="work", kind="gpu_error", times=2)
    assert [emulator.run("emulator/echo").status_code for _ in range(3)] == [503, 503, 200]


def test_a_stream_that_has_not_begun_holds_its_slot(emulator: Emulator) -> None:
    """A stream counts before its first event, too, until its caller leaves."""
    emulator.will("concurrency_limit", limit=1)
    emulator.will("hang", operation="work")
    first = emulator.send("POST", "/run/emulator/events/stream", b'{"events":[1]}')
    eventually(lambda: emulator.http.get("/_emulator/scenarios").json()[1:] == [])  # its run has begun
    assert emulator.stream("emulator/events", {"events": [2]}).status_code == 429
    first.close()
    eventually(lambda: emulator.stream("emulator/events", {"events": [2]}).status_code == 200)


def test_a_stream_holds_its_slot(emulator: Emulator) -> None:
    """A stream counts as long as it is open, and no longer."""
    emulator.will("concurrency_limit", endpoint="emulator/events", limit=1)
    hangs = '{"events":[1],"end":"hang"}'
    with emulator.http.stream("POST", "/run/emulator/events/stream", content=hangs) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "data: 1"
        assert emulator.stream("emulator/events", {"events": []}).status_code == 429
        assert emulator.run("emulator/events", {"events": []}).status_code == 429
    eventually(lambda: emulator.run("emulator/events", {"events": []}).status_code == 200)
    assert [emulator.stream("emulator/events", {"events": []}).status_code for _ in range(3)] == [200] * 3


def test_limits_are_of_an_endpoint(emulator: Emulator) -> None:
    """A limit of one endpoint leaves others alone; without an endpoint it counts all of them."""
    emulator.will("concurrency_limit", endpoint="emulator/sleep", limit=1)
    with one_run(emulator):
        assert emulator.run("emulator/sleep", {"seconds": 0}).status_code == 429
        emulator.will("concurrency_limit", endpoint="emulator/echo", limit=1)
        assert emulator.run("emulator/echo").status_code == 200
        emulator.will("concurrency_limit", limit=2)
        assert emulator.run("emulator/echo").status_code == 200
        emulator.will("concurrency_limit", limit=1)
        assert emulator.run("emulator/echo").status_code == 429


def test_the_queue_waits_for_a_slot(emulator: Emulator) -> None:
    """Requests in the queue run one after another as slots come free, and each only once."""
    emulator.will("concurrency_limit", endpoint="emulator/cancellable", limit=1)
    requests = [emulator.submit("emulator/cancellable") for _ in range(3)]
    for number, submitted in enumerate(requests):
        reaches(emulator, submitted, "IN_PROGRESS")
        advance(emulator, 100_000)  # no time is long enough
        for other in requests[number + 1 :]:
            status = emulator.status(other).json()
            assert (status["status"], status["queue_position"]) == ("IN_QUEUE", 0)
        emulator.http.put(submitted.json()["cancel_url"])
        emulator.until_completed(submitted)
    assert [known(emulator, submitted)["attempts"] for submitted in requests] == [1, 1, 1]


def test_a_synchronous_run_holds_a_slot_of_the_queue(emulator: Emulator) -> None:
    """Runs and queue requests share their slots."""
    emulator.will("concurrency_limit", endpoint="emulator/sleep", limit=1)
    with one_run(emulator):
        assert emulator.run("emulator/sleep", {"seconds": 0}).status_code == 429
        submitted = emulator.submit("emulator/sleep", {"seconds": 0})
        eventually(lambda: emulator.status(submitted).json().get("queue_position") == 0)
        assert known(emulator, submitted)["attempts"] == 0
    assert emulator.result(submitted).status_code == 200


def test_clearing_a_limit(emulator: Emulator) -> None:
    """Requests that wait for a slot go on at once when the limit is taken away."""
    emulator.will("concurrency_limit", endpoint="emulator/echo", limit=0)
    requests = [emulator.submit("emulator/echo", {"n": n}) for n in range(3)]
    free = emulator.submit("emulator/logs")
    emulator.until_completed(free)
    assert {known(emulator, submitted)["state"] for submitted in requests} == {"IN_QUEUE"}
    clear(emulator)
    assert [emulator.result(submitted).json() for submitted in requests] == [{"n": n} for n in range(3)]


def test_waiting_is_no_attempt(emulator: Emulator) -> None:
    """A request in the queue never gets a 429 for the limit, however long it waits."""
    emulator.will("concurrency_limit", limit=0)
    submitted = emulator.submit("emulator/echo")
    advance(emulator, 1_000_000)
    assert emulator.run("emulator/echo").status_code == 429
    assert known(emulator, submitted)["attempts"] == 0
    clear(emulator)
    assert "error" not in emulator.until_completed(submitted)
    assert known(emulator, submitted)["attempts"] == 1


def test_max_queue_length(slow_emulator: Emulator) -> None:
    """fal_max_queue_length counts the waiting requests of the same app only."""

    def submit(limit: str, endpoint: str = "fal-ai/esrgan") -> httpx.Response:
        return slow_emulator.submit(endpoint, {}, params={"fal_max_queue_length": limit})

    waiting = [submit("1"), submit("1")]
    refused = submit("1")
    assert (refused.status_code, refused.headers["x-fal-needs-retry"]) == (429, "1")
    assert submit("0", "fal-ai/face-to-sticker").status_code == 200
    by_name = {"host": "queue.fal.run"}
    also = slow_emulator.http.post(
        "/fal-ai/esrgan", content="{}", params={"fal_max_queue_length": "1"}, headers=by_name
    )
    assert also.status_code == 429
    for submitted in waiting:
        slow_emulator.http.put(submitted.json()["cancel_url"])
    assert submit("0").status_code == 200
    for bad in ("", "-1", "x", "²", "9" * 5000):
        assert submit(bad).status_code == 400

"""Results of queue requests, and how long they can be read (fal-http-api.md §7.6)."""

import uuid
from collections.abc import Iterator

import pytest
from tests.emulator.queueing import advance, not_found, queued, reaches
from tests.emulator.running import Emulator, running_emulator

FLUX = {"prompt": "a cat", "image_size": {"width": 64, "height": 64}}
HOUR, SIX_MINUTES, MONTH = 3_600, 360, 30 * 24 * 3_600
MEGABYTE = 1024 * 1024
PRIVATE = {"X-Fal-Store-IO": "0"}


@pytest.fixture(scope="module")
def timely_emulator() -> Iterator[Emulator]:
    """An emulator whose clock is real until it is moved."""
    with running_emulator() as (emulator, _):
        yield emulator


def test_a_bad_input_is_found_when_it_runs(emulator: Emulator) -> None:
    """Submit takes any input; the model's 422 is the result, as often as it is read."""
    submitted = emulator.submit("fal-ai/fast-sdxl", '{"seed":"x"}')
    assert submitted.status_code == 200
    first, second = emulator.result(submitted), emulator.result(submitted)
    assert first.status_code == second.status_code == 422
    assert first.content == second.content
    assert [item["type"] for item in first.json()["detail"]] == ["missing", "int_type"]


@pytest.mark.parametrize(
    "endpoint", ["fal-ai/flux/nothing", "workflows/emulator/replay/x/y", "emulator/echo/x"]
)
def test_an_unknown_path_is_found_when_it_runs(emulator: Emulator, endpoint: str) -> None:
    """Submit takes any path of an app that there is; that it isn't there is the result, and costs nothing."""
    submitted = emulator.submit(endpoint)
    assert (submitted.status_code, submitted.json()["status"]) == (200, "IN_QUEUE")
    result = emulator.result(submitted)
    base = "/".join(endpoint.split("/")[: 3 if endpoint.startswith("workflows") else 2])
    assert (result.status_code, result.json()) == (
        404,
        {"detail": f"Path {endpoint.removeprefix(base)} not found"},
    )
    assert result.headers["x-fal-billable-units"] == "0"
    assert emulator.status(submitted).json()["error"] == "Invalid status code: 404"


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


def test_a_result_verbatim(emulator: Emulator) -> None:
    """The model's own status, headers and body are the result, whatever they are."""
    given = {"status": 302, "headers": {"x-a": "b", "location": "/x"}, "content_type": "text/x", "text": "{"}
    submitted = emulator.submit("emulator/answer", given)
    first, second = emulator.result(submitted), emulator.result(submitted)
    for result in (first, second):
        assert (result.status_code, result.text, result.headers["x-a"]) == (302, "{", "b")
        assert (result.headers["location"], result.headers["content-type"]) == ("/x", "text/x")
        assert result.headers["x-fal-request-id"] == submitted.json()["request_id"]


@pytest.mark.parametrize("endpoint", ["emulator/cancellable", "emulator/echo"])
def test_a_result_too_early(slow_emulator: Emulator, endpoint: str) -> None:
    """A result is 400 in every state before COMPLETED, for both of its URLs."""
    submitted = slow_emulator.submit(endpoint, headers=queued(delay_seconds=1_000, position=0))
    if endpoint == "emulator/cancellable":
        advance(slow_emulator, 1_000)
        reaches(slow_emulator, submitted, "IN_PROGRESS")
    for tail in ("", "/response"):
        early = slow_emulator.http.get(f"{submitted.json()['response_url']}{tail}")
        assert (early.status_code, early.json()) == (400, {"detail": "Request is still in progress"})


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"detail":' * 20_000, id="deep"),
        pytest.param('{"x":' + "[" * 20_000 + "]" * 20_000 + "}", id="deep in another key"),
        pytest.param('{"detail":1}', id="no text"),
        pytest.param("<html>", id="no JSON"),
        pytest.param("", id="empty"),
    ],
)
def test_an_odd_error_body(emulator: Emulator, text: str) -> None:
    """An app's failure that names an error type completes its request and tells watchers, whatever its body is."""
    given = {"status": 500, "headers": {"x-fal-error-type": "odd"}, "text": text}
    emulator.will("slow", operation="work", endpoint="emulator/answer", seconds=0.1)
    submitted = emulator.submit("emulator/answer", given)
    url = f"{submitted.json()['status_url']}/stream"
    assert emulator.http.get(url).text.count("COMPLETED") == 1
    status = emulator.status(submitted).json()
    assert (status["error"], status["error_type"]) == ("Invalid status code: 500", "odd")
    assert emulator.result(submitted).text == text


@pytest.mark.parametrize(
    ("headers", "endpoint", "given", "seconds"),
    [
        pytest.param({}, "emulator/echo", {}, MONTH, id="stored"),
        pytest.param({"X-Fal-Store-IO": "1"}, "emulator/echo", {}, MONTH, id="stored, asked for"),
        pytest.param(PRIVATE, "emulator/echo", {}, HOUR, id="not stored"),
        pytest.param(PRIVATE, "emulator/blob", {"bytes": 10 * 1024 - 1}, HOUR, id="below 10 KB"),
        pytest.param(PRIVATE, "emulator/blob", {"bytes": 10 * 1024}, SIX_MINUTES, id="10 KB"),
        pytest.param({}, "emulator/blob", {"bytes": 10 * 1024}, MONTH, id="10 KB, stored"),
        pytest.param({}, "emulator/blob", {"bytes": MEGABYTE}, MONTH, id="1 MB, stored"),
        pytest.param({}, "emulator/blob", {"bytes": MEGABYTE + 1}, SIX_MINUTES, id="too large to store"),
        pytest.param(
            {}, "emulator/answer", {"text": "{}", "x": "y" * MEGABYTE}, HOUR, id="too large an input"
        ),
        pytest.param(PRIVATE, "emulator/fail", {"error_type": "bad_request"}, HOUR, id="failure"),
    ],
)
def test_expiry(
    timely_emulator: Emulator, headers: dict[str, str], endpoint: str, given: object, seconds: float
) -> None:
    """A result can be read as long as its size and its caller say, and is unknown by every URL then."""
    submitted = timely_emulator.submit(endpoint, given, headers=headers)
    first = timely_emulator.result(submitted)
    advance(timely_emulator, seconds - 30)
    again = timely_emulator.http.get(submitted.json()["response_url"])
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert timely_emulator.status(submitted).json()["status"] == "COMPLETED"
    advance(timely_emulator, 31)
    not_found(timely_emulator, submitted.json()["response_url"])


def test_expiry_begins_with_the_end(timely_emulator: Emulator) -> None:
    """The time that a request waits doesn't count, and a waiting request never expires."""
    headers = {**PRIVATE, **queued(delay_seconds=MONTH * 2)}
    submitted = timely_emulator.submit("emulator/echo", headers=headers)
    advance(timely_emulator, MONTH * 2 - 60)
    assert timely_emulator.status(submitted).json()["status"] == "IN_QUEUE"
    advance(timely_emulator, 60)
    timely_emulator.until_completed(submitted)
    advance(timely_emulator, HOUR - 30)
    assert timely_emulator.result(submitted).status_code == 200
    advance(timely_emulator, 31)
    not_found(timely_emulator, submitted.json()["response_url"])

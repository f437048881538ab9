"""Model streams and how they end (§8), workflow streams (§9)."""

import itertools
import json

import httpx
import pytest
from tests.emulator.running import Emulator, events

TWO = '{"events":[{ "n":1e3},15860307465884635512],"end":"%s"}'
WORKFLOW = "workflows/emulator/failing-step"


def read(emulator: Emulator, endpoint: str, given: str) -> tuple[str, bool]:
    """A stream's text, and whether it ended as it should."""
    text = ""
    with emulator.http.stream("POST", f"/run/{endpoint}/stream", content=given) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        try:
            for piece in answer.iter_text():
                text += piece
        except (httpx.RemoteProtocolError, httpx.ReadError):
            return text, False
    return text, True


@pytest.mark.parametrize(
    ("end", "tail", "is_clean"),
    [
        pytest.param("clean", "", True, id="clean"),
        pytest.param("cut", "", False, id="cut"),
        pytest.param("reset", "", False, id="reset"),
        pytest.param("half_event", 'data: {"half": "ev', True, id="half event"),
        pytest.param("no_blank_line", 'data: {"last": true}\n', True, id="no blank line"),
    ],
)
def test_ends(emulator: Emulator, end: str, tail: str, is_clean: bool) -> None:
    """Events come byte for byte, then the end that was asked for."""
    for endpoint in ("emulator/events", "workflows/emulator/replay"):
        text, ended_well = read(emulator, endpoint, TWO % end)
        assert ended_well == is_clean
        if end != "reset":  # a reset may overtake what was sent
            assert text == f'data: {{ "n":1e3}}\n\ndata: 15860307465884635512\n\n{tail}'


@pytest.mark.parametrize("endpoint", ["emulator/events", "workflows/emulator/replay"])
def test_named_events(emulator: Emulator, endpoint: str) -> None:
    """Events have the name that the input gives, each of them."""
    text, _ = read(emulator, endpoint, '{"events":[1,{"a":2}],"event":"step"}')
    assert text == 'event: step\ndata: 1\n\nevent: step\ndata: {"a":2}\n\n'


@pytest.mark.parametrize(
    ("endpoint", "given", "units"),
    [("workflows/fal-ai/sdxl-sticker", {"prompt": "a"}, "3"), ("emulator/events", {"events": [1]}, "1")],
)
def test_billable_units(emulator: Emulator, endpoint: str, given: object, units: str) -> None:
    """A stream's head tells what it costs: a workflow costs as much as its steps."""
    assert emulator.stream(endpoint, given).headers["x-fal-billable-units"] == units


@pytest.mark.parametrize("end", ["cut", "hang"])
def test_a_stream_begins_before_its_first_event(emulator: Emulator, end: str) -> None:
    """The head is there although no event comes."""
    given = {"events": [], "end": end}
    with emulator.http.stream("POST", "/run/emulator/events/stream", json=given) as answer:
        assert answer.status_code == 200


def test_delay(emulator: Emulator) -> None:
    """Events arrive one by one."""
    given = {"events": [1, 2], "delay": 0.1}
    with emulator.http.stream("POST", "/run/emulator/events/stream", json=given) as answer:
        assert list(answer.iter_text()) == ["data: 1\n\n", "data: 2\n\n"]


def test_refused_before_the_stream(emulator: Emulator) -> None:
    """A bad input is an ordinary 422 instead of a stream."""
    for given in ("{}", '{"events":1}'):
        answer = emulator.stream("emulator/events", given)
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/json")


def test_text_grows(emulator: Emulator) -> None:
    """A text model's events are cumulative, and only the last is not partial."""
    told = [json.loads(event) for event in events(emulator.stream("fal-ai/any-llm", {"prompt": "hi"}).text)]
    assert [event["partial"] for event in told] == [True] * (len(told) - 1) + [False]
    for one, other in itertools.pairwise(told):
        assert other["output"].startswith(one["output"])
    assert told[-1]["output"] == emulator.run("fal-ai/any-llm", {"prompt": "hi"}).json()["output"]


def test_a_workflow_that_fails(emulator: Emulator) -> None:
    """The failing step is the last event: its node, the request it was, its status and body, and no app."""
    told = [json.loads(event) for event in events(emulator.stream(WORKFLOW, {"prompt": "a"}).text)]
    assert [event["type"] for event in told] == ["submit", "completion", "submit", "error"]
    error = told[-1]
    assert error.keys() == {"type", "node_id", "message", "error"}
    assert error["node_id"] == "node_2"
    step = told[2]["request_id"]
    assert error["message"] == f"Error while fetching the result of the request {step}"
    assert error["error"]["status"] == 422
    assert error["error"]["body"]["detail"][0]["ctx"] == {"limit_value": 8}
    run = emulator.run(WORKFLOW, {"prompt": "a"})
    assert (run.status_code, run.json()) == (422, error["error"]["body"])

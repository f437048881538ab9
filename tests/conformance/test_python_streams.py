"""fal's Python client and streams (§8, §9)."""

import itertools

import fal_client
import httpx
import httpx_sse
import pytest
from tests.conformance.clients import Calling
from tests.emulator.running import Emulator


def test_workflow(client: Calling, emulator: Emulator) -> None:
    """stream() of a workflow gives the events of its steps in order, then its output (§9)."""
    events = list(client.stream("workflows/fal-ai/sdxl-sticker", {"prompt": "a cat", "seed": 7}))
    assert [event["type"] for event in events] == ["submit", "completion"] * 3 + ["output"]
    nodes = [event["node_id"] for event in events[:-1]]
    assert nodes == ["node_1", "node_1", "node_2", "node_2", "node_3", "node_3"]
    assert all(event["request_id"] for event in events if event["type"] == "submit")
    output = events[-1]["output"]
    picture = httpx.get(output["image"]["url"])
    assert picture.status_code == 200
    assert picture.content.startswith(b"\x89PNG")
    (record,) = emulator.ended(operation="stream")
    assert record["path"] == "/workflows/fal-ai/sdxl-sticker/stream"
    assert record["headers"]["accept"] == "text/event-stream"
    queued = client.subscribe("workflows/fal-ai/sdxl-sticker", {"prompt": "a cat", "seed": 7})
    assert (queued.keys(), queued["seed"]) == (output.keys(), output["seed"])


def test_failing_workflow(client: Calling) -> None:
    """A failing step is an event of a stream that is 200, with the step's own error (§9)."""
    events = list(client.stream("workflows/emulator/failing-step", {"prompt": "a cat"}))
    assert [event["type"] for event in events] == ["submit", "completion", "submit", "error"]
    assert events[-1]["error"]["status"] == 422
    assert events[-1]["error"]["body"]["detail"][0]["ctx"] == {"limit_value": 8}
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        client.run("workflows/emulator/failing-step", {"prompt": "a cat"})
    assert caught.value.status_code == 422


def test_text(client: Calling) -> None:
    """stream() of a text model gives cumulative output, partial until the last event (§8.2)."""
    events = list(client.stream("fal-ai/any-llm", {"prompt": "Tell me about cats."}))
    assert len(events) > 2
    assert [event["partial"] for event in events] == [True] * (len(events) - 1) + [False]
    texts = [event["output"] for event in events]
    assert all(after.startswith(before) for before, after in itertools.pairwise(texts))
    assert all(event["error"] is None for event in events)
    assert client.run("fal-ai/any-llm", {"prompt": "Tell me about cats."})["output"] == texts[-1]


def test_path(client: Calling, emulator: Emulator) -> None:
    """stream() with a path of its own calls that one, and delivers any JSON value (§3.3, §8.4)."""
    events = list(client.stream("emulator/events/stream", {"events": [{"a": 1}, "", 0, None]}, path=""))
    assert events == [{"a": 1}, "", 0, None]
    (record,) = emulator.ended()
    assert record["path"] == "/emulator/events/stream"


def test_http_error(client: Calling) -> None:
    """An HTTP error instead of a stream reaches the client as one about the content type (§8.4)."""
    with pytest.raises(httpx_sse.SSEError, match="application/json"):
        list(client.stream("nobody/nothing", {}))


def test_no_blank_line(client: Calling) -> None:
    """A last event without its blank line is lost, silently (§8.4)."""
    events = list(client.stream("emulator/events", {"events": [{"a": 1}], "end": "no_blank_line"}))
    assert events == [{"a": 1}]


@pytest.mark.parametrize("end", ["cut", "reset"])
def test_broken_stream(client: Calling, end: str) -> None:
    """A connection that breaks in the middle of a stream is an error of the HTTP library (§8.4)."""
    seen = []
    with pytest.raises(httpx.TransportError):
        for event in client.stream("emulator/events", {"events": [{"a": 1}], "end": end}):
            seen.append(event)
    assert seen == [{"a": 1}] or (end == "reset" and seen == [])  # RST may overtake what was sent


def test_repeated_events(client: Calling, emulator: Emulator) -> None:
    """Events that come twice are delivered twice: the client drops nothing."""
    emulator.will("repeat_events", operation="stream", copies=2)
    events = list(client.stream("emulator/events", {"events": [{"a": 1}, {"a": 2}]}))
    assert events == [{"a": 1}, {"a": 1}, {"a": 2}, {"a": 2}]


def test_leaving_a_stream(client: Calling, emulator: Emulator) -> None:
    """A caller that has seen enough of a stream closes it, and the emulator notices."""
    events = client.stream("emulator/events", {"events": [{"a": 1}], "end": "hang"})
    assert next(events) == {"a": 1}
    events.close()
    (record,) = emulator.ended(operation="stream")
    assert record["outcome"] == "client_closed"

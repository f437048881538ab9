"""What models make of their input and give back on run, queue and stream (§6, §8, §9, §12.2)."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.emulator.running import Emulator, events

SEED = "15860307465884635512"
ODD = f'{{ "seed":{SEED}, "n" : [1e3,1.0, -0],"s":"\\u00e9é\\u2028","dup":1,"dup":2 }}'

SDXL = "fal-ai/fast-sdxl"


@pytest.mark.parametrize(
    ("endpoint", "given", "kind", "loc", "shown", "context"),
    [
        (SDXL, "{}", "missing", "prompt", "{}", None),
        (SDXL, '{"prompt":1e3}', "string_type", "prompt", "1e3", None),
        (SDXL, '{"prompt":null}', "string_type", "prompt", "null", None),
        (SDXL, '{"prompt":"a","seed":"1"}', "int_type", "seed", '"1"', None),
        (SDXL, '{"prompt":"a","seed":true}', "int_type", "seed", "true", None),
        (SDXL, '{"prompt":"a","seed":1.5}', "int_from_float", "seed", "1.5", None),
        (SDXL, '{"prompt":"a","seed":1e999}', "int_from_float", "seed", "1e999", None),
        (SDXL, '{"prompt":"a","sync_mode":1}', "bool_type", "sync_mode", "1", None),
        (SDXL, '{"prompt":"a","num_images":0}', "greater_than_equal", "num_images", "0", {"ge": 1}),
        (SDXL, '{"prompt":"a","num_images":9}', "less_than_equal", "num_images", "9", {"le": 8}),
        (SDXL, '{"prompt":"a","image_size":"x"}', "literal_error", "image_size", '"x"', None),
        (SDXL, '{"prompt":"a","image_size":[1]}', "literal_error", "image_size", "[1]", None),
        (SDXL, '{"prompt":"a","image_size":{"width":1}}', "value_error", "image_size", '{"width":1}', None),
        ("emulator/sleep", '{"seconds":"1"}', "float_type", "seconds", '"1"', None),
        ("emulator/sleep", '{"seconds":1e999}', "less_than_equal", "seconds", "1e999", {"le": 3600}),
        ("emulator/events", '{"events":{}}', "list_type", "events", "{}", None),
        ("emulator/fail", '{"error_type":"x"}', "literal_error", "error_type", '"x"', None),
        ("emulator/answer", '{"headers":["a"]}', "value_error", "headers", '["a"]', None),
        ("emulator/answer", '{"headers":{"a b":"c"}}', "value_error", "headers", '{"a b":"c"}', None),
        ("emulator/answer", '{"headers":{"":"c"}}', "value_error", "headers", '{"":"c"}', None),
        ("emulator/answer", '{"headers":{"a":1}}', "value_error", "headers", '{"a":1}', None),
        ("emulator/answer", '{"headers":{"a":"b\\nc"}}', "value_error", "headers", '{"a":"b\\nc"}', None),
        ("emulator/answer", '{"headers":{"a":"€"}}', "value_error", "headers", '{"a":"€"}', None),
        (
            "emulator/answer",
            '{"headers":{"Transfer-Encoding":"gzip"}}',
            "value_error",
            "headers",
            '{"Transfer-Encoding":"gzip"}',
            None,
        ),
        ("emulator/answer", '{"content_type":"a\\r\\nb"}', "value_error", "content_type", '"a\\r\\nb"', None),
        ("emulator/answer", '{"status":600}', "less_than_equal", "status", "600", {"le": 599}),
    ],
)
def test_refused_fields(
    emulator: Emulator, endpoint: str, given: str, kind: str, loc: str, shown: str, context: Any
) -> None:
    """A bad field is 422 with Pydantic's type, its place and its value as it was written; nothing is billed."""
    answer = emulator.run(endpoint, given)
    assert (answer.status_code, answer.headers["x-fal-billable-units"]) == (422, "0")
    [item] = answer.json()["detail"]
    assert (item["type"], item["loc"]) == (kind, ["body", loc])
    assert item["url"].endswith(kind)
    assert f'"input":{shown},"url"' in answer.text
    assert context is None or item["ctx"] == context


def test_choices(emulator: Emulator) -> None:
    """A value that is not among the choices is a literal_error that names them."""
    [item] = emulator.run("emulator/events", {"events": [], "end": "x"}).json()["detail"]
    assert item["type"] == "literal_error"
    assert "'clean'" in item["ctx"]["expected"]


def test_all_problems_at_once(emulator: Emulator) -> None:
    """One answer tells of every bad field."""
    items = emulator.run(SDXL, {"seed": "x", "num_images": 0}).json()["detail"]
    assert [item["loc"][1] for item in items] == ["prompt", "seed", "num_images"]


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        pytest.param(b"[1]", "model_attributes_type", id="array"),
        pytest.param(b"1e3", "model_attributes_type", id="number"),
        pytest.param(b"null", "model_attributes_type", id="null"),
        pytest.param(b"{", "json_invalid", id="cut"),
        pytest.param(b"{}x", "json_invalid", id="more"),
        pytest.param(b"\xff\xfe", "json_invalid", id="not UTF-8"),
        pytest.param(b'{"a":"\xed\xa0\x80"}', "json_invalid", id="surrogate in UTF-8"),
        pytest.param(b'{"a":"\\ud800"}', "json_invalid", id="half a surrogate pair"),
        pytest.param('{"a":1}'.encode("utf-16"), "json_invalid", id="UTF-16"),
        pytest.param(b'{"a":NaN}', "json_invalid", id="NaN"),
        pytest.param(b"[" * 200_000, "json_invalid", id="deep"),
        pytest.param(b'{"a":' + b"9" * 20_000 + b"}", "json_invalid", id="huge integer"),
    ],
)
@pytest.mark.parametrize("path", ["emulator/echo", "emulator/echo/stream"])
def test_refused_bodies(emulator: Emulator, path: str, given: bytes, kind: str) -> None:
    """A body that is no JSON object is 422, never a failure of the emulator."""
    answer = emulator.run(path, given)
    assert answer.status_code == 422
    assert [item["type"] for item in answer.json()["detail"]] == [kind]


def run(emulator: Emulator, endpoint: str, given: str) -> str:
    return emulator.run(endpoint, given).text


def queue(emulator: Emulator, endpoint: str, given: str) -> str:
    return emulator.result(emulator.submit(endpoint, given)).text


def stream(emulator: Emulator, endpoint: str, given: str) -> str:
    return events(emulator.stream(endpoint, given).text)[-1]


Ask = Callable[[Emulator, str, str], str]


@pytest.mark.parametrize("ask", [run, queue, stream])
def test_echo_is_byte_for_byte(emulator: Emulator, ask: Ask) -> None:
    """Numbers, escapes, spaces and order come back as they were."""
    assert ask(emulator, "emulator/echo", ODD) == ODD


@pytest.mark.parametrize("ask", [run, queue, stream])
def test_the_last_event(emulator: Emulator, ask: Ask) -> None:
    """emulator/events gives its last event as it was written."""
    text = f'{{ "x":1e3,\n "seed": {SEED} }}'
    assert ask(emulator, "emulator/events", f'{{"events":[1,{text}]}}') == text


@pytest.mark.parametrize(
    ("given", "output"),
    [
        pytest.param(
            f'{{"type":"output","output":{{ "x":1e3,"s":{SEED}}}}}', f'{{ "x":1e3,"s":{SEED}}}', id="last"
        ),
        pytest.param('{"output":1,"type":"output"},{"type":"x"},3', "1", id="others follow"),
        pytest.param('{"type":"output","output":1},{"type":"output","output":2e0}', "2e0", id="two outputs"),
        pytest.param('{"type":"submit"},{ "a":1e3}', '{ "a":1e3}', id="no output"),
        pytest.param('{"type":"output"}', '{"type":"output"}', id="an output event without output"),
        pytest.param("", "{}", id="no events"),
    ],
)
@pytest.mark.parametrize("ask", [run, queue])
def test_what_a_replayed_workflow_gives(emulator: Emulator, ask: Ask, given: str, output: str) -> None:
    """A replayed workflow's result is the output of its last output event, else its last event."""
    assert ask(emulator, "workflows/emulator/replay", f'{{"events":[{given}]}}') == output


def test_a_scripted_answer(emulator: Emulator) -> None:
    """emulator/answer gives status, headers and body as asked, a body's numbers as they were written."""
    given = '{"status":418,"headers":{"X-A":"b"},"body":{ "n":1e3 }}'
    for answer in (emulator.run("emulator/answer", given), emulator.stream("emulator/answer", given)):
        assert (answer.status_code, answer.headers["x-a"], answer.text) == (418, "b", '{ "n":1e3 }')
        assert answer.headers["content-type"] == "application/json"
    text = emulator.stream("emulator/answer", {"text": "data: 1\n\n", "content_type": "text/event-stream"})
    assert (text.text, text.headers["content-type"]) == ("data: 1\n\n", "text/event-stream")
    for status in (204, 304, 299, 599):
        assert emulator.run("emulator/answer", {"status": status, "text": "x"}).status_code == status
    framed = {"headers": {"Content-Length": "3", "connection": "close"}, "text": "four"}
    assert emulator.run("emulator/answer", framed).text == "four"


@pytest.mark.parametrize(
    ("given", "size", "kind"),
    [({"bytes": 100_000}, 100_000, "application/json"), ({"bytes": 16}, 16, "application/json")],
)
def test_blob(emulator: Emulator, given: Any, size: int, kind: str) -> None:
    """emulator/blob is as large as asked."""
    answer = emulator.run("emulator/blob", given)
    assert (len(answer.content), answer.headers["content-type"]) == (size, kind)
    assert json.loads(answer.content)["blob"].strip("x") == ""
    assert emulator.run("emulator/blob", {**given, "binary": True}).content == b"\xff" * size


def test_unknown_models_and_paths(emulator: Emulator) -> None:
    """An unknown app and an unknown path of a known one are 404, told apart by their text."""
    assert "not found" in emulator.run("nobody/nothing").json()["detail"]
    known = emulator.run("fal-ai/flux/other")
    assert (known.status_code, known.json()) == (404, {"detail": "Path /other not found"})
    assert emulator.stream(SDXL).json() == {"detail": "Path /stream not found"}
    assert emulator.submit("nobody/nothing").status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/run/fal-ai/flux/dev"),
        ("PUT", "/run/fal-ai/any-llm/stream"),
        ("GET", "/queue/fal-ai/flux/dev"),
        ("POST", "/queue/fal-ai/flux/requests/1/status"),
        ("DELETE", "/queue/fal-ai/flux/requests/1"),
        ("GET", "/queue/fal-ai/flux/requests/1/cancel"),
        ("GET", "/rest/storage/upload/initiate"),
        ("POST", "/cdn/files/b/1/a.png"),
        ("PUT", "/_emulator/evidence"),
    ],
)
def test_wrong_methods(emulator: Emulator, method: str, path: str) -> None:
    """A known path with another method is 405."""
    answer = emulator.http.request(method, path)
    assert (answer.status_code, answer.json()) == (405, {"detail": "Method Not Allowed"})


@pytest.mark.parametrize(
    "path",
    ["/run/nobody/x", "/queue/nobody/x", "/queue/a/b/requests/1/x", "/rest/x", "/cdn", "/", "/_emulator/x"],
)
def test_unknown_paths(emulator: Emulator, path: str) -> None:
    """What is nowhere is 404 for any method."""
    assert emulator.http.get(path).status_code == 404

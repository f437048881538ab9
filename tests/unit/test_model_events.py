"""What one event of a model's or workflow's stream means (fal-http-api.md §8.2, §9)."""

import pytest

from falrpc_server.fal_http.error_bodies import TEXT_CHARACTERS_MAX
from falrpc_server.fal_http.model_events import (
    BadEvent,
    ModelEvent,
    StepCompleted,
    StepError,
    StepSubmitted,
    UnknownEvent,
    WorkflowFinished,
    read_model_event,
    read_workflow_event,
)


@pytest.mark.parametrize(
    ("data", "event"),
    [
        pytest.param('{"output":"a","partial":true,"error":null}', ModelEvent(is_partial=True), id="partial"),
        pytest.param('{"output":"a","partial":false,"error":null}', ModelEvent(is_final=True), id="whole"),
        pytest.param('{"output":"","error":"boom"}', ModelEvent(error_text="boom"), id="error"),
        pytest.param('{"progress":0.4}', ModelEvent(), id="image-model"),
        pytest.param('{"partial":"yes"}', ModelEvent(), id="partial-of-another-type"),
        pytest.param("0", ModelEvent(), id="zero"),
        pytest.param('""', ModelEvent(), id="empty-text"),
        pytest.param("null", ModelEvent(), id="null"),
        pytest.param('[{"partial":true}]', ModelEvent(), id="list"),
        pytest.param(' \t{"partial":true} ', ModelEvent(is_partial=True), id="spaces"),
    ],
)
def test_reads_a_models_event(data: str, event: ModelEvent) -> None:
    """`partial` and `error` count in objects; any other JSON value is just an event."""
    assert read_model_event(data) == event


def test_an_error_object_is_an_error() -> None:
    """§17.4: any non-null `error` makes the event an error, also when it is an object."""
    assert read_model_event('{"error":{"message":"boom"}}').error_text == "boom"
    for error in ("false", '""', "[]", "NaN"):
        assert read_model_event(f'{{"error":{error}}}').error_text == "the model reported an error"


@pytest.mark.parametrize("error", ['"%s"', '{"message":"%s"}', '{"detail":"%s"}'])
def test_an_error_text_is_cut(error: str) -> None:
    """However long a model's error is, little of it is taken: working on it would hold up all other calls."""
    assert (
        read_model_event('{"error":%s}' % (error % ("e" * 1_000_000))).error_text == "e" * TEXT_CHARACTERS_MAX
    )


@pytest.mark.parametrize(
    "data", ["", "nul", "[DONE]", '{"a":1', "{'a':1}", "NaN", "{} {}", '{"a":01}', "<html>", "[" * 50_000]
)
def test_an_event_that_is_no_json_is_bad(data: str) -> None:
    """Data that is not one JSON value is BadEvent for both kinds of streams."""
    with pytest.raises(BadEvent):
        read_model_event(data)
    with pytest.raises(BadEvent):
        read_workflow_event(data)


def test_a_lone_surrogate_is_json() -> None:
    """RFC 8259 §8.2 admits a lone surrogate escape; a text model that streams half an emoji sends one."""
    assert read_model_event(r'{"output":"\ud83d","partial":true}') == ModelEvent(is_partial=True)
    assert read_workflow_event(r'{"type":"output","output":{"t":"\ud83d"}}') == WorkflowFinished(
        r'{"t":"\ud83d"}'
    )


@pytest.mark.parametrize(
    ("data", "event"),
    [
        pytest.param(
            '{"type":"submit","node_id":"n","app_id":"a/b","request_id":"r"}',
            StepSubmitted("n", "a/b", "r"),
            id="submit",
        ),
        pytest.param('{"type":"submit"}', StepSubmitted("", "", ""), id="submit-bare"),
        pytest.param('{"type":"submit","node_id":null}', StepSubmitted("", "", ""), id="submit-null"),
        pytest.param(
            '{"type":"completion","node_id":"n","app_id":"a","output":{"x": 1e3}}',
            StepCompleted("n", "a", '{"x": 1e3}'),
            id="completion",
        ),
        pytest.param(
            '{"output":{"b":1.0,  "a":15860307465884635512},"type":"output","node_id":"n","new":1}',
            WorkflowFinished('{"b":1.0,  "a":15860307465884635512}'),
            id="output",
        ),
        pytest.param('{"type":"output","output":"ü\u2028"}', WorkflowFinished('"ü\u2028"'), id="output-text"),
        pytest.param('{"type":"output","output":null}', WorkflowFinished("null"), id="output-null"),
        pytest.param(
            '{"type":"error","node_id":"n","app_id":"a","message":"m","error":{"status":422,"body":{"d":1e3}}}',
            StepError("n", "a", "m", 422, '{"d":1e3}'),
            id="error",
        ),
        pytest.param(
            '{"type":"error","message":"m"}',
            StepError("", "", "m", 0, '{"type":"error","message":"m"}'),
            id="error-bare",
        ),
        pytest.param(
            '{"type":"error","error":null,"detail":"d"}',
            StepError("", "", "", 0, '{"type":"error","error":null,"detail":"d"}'),
            id="error-null",
        ),
        pytest.param('{"type":"error","error":"e"}', StepError("", "", "", 0, '"e"'), id="error-text"),
        pytest.param(
            '{"type":"error","error":{"status":422,"detail":"d"}}',
            StepError("", "", "", 422, '{"status":422,"detail":"d"}'),
            id="error-without-body",
        ),
        pytest.param(
            '{"type":"error","status":422,"body":{"detail":"d"}}',
            StepError("", "", "", 422, '{"detail":"d"}'),
            id="error-not-nested",
        ),
    ],
)
def test_reads_a_workflows_event(data: str, event: object) -> None:
    """Every kind of §9 is read with its fields optional, and outputs are sliced out byte for byte."""
    assert read_workflow_event(data) == event


@pytest.mark.parametrize("odd", ["7", "[]", "{}", "true", "NaN"])
@pytest.mark.parametrize("field", ["node_id", "app_id", "request_id", "message"])
def test_an_odd_name_hides_nothing(field: str, odd: str) -> None:
    """An output or error stays one when a name in it is no text: the name is left empty."""
    fields = f'"{field}":{odd}'
    assert read_workflow_event(f'{{"type":"output",{fields},"output":1e3}}') == WorkflowFinished("1e3")
    assert read_workflow_event(f'{{"type":"completion",{fields},"output":1e3}}') == StepCompleted(
        "", "", "1e3"
    )
    error = read_workflow_event(f'{{"type":"error",{fields},"error":{{"status":422,"body":1e3}}}}')
    assert error == StepError("", "", "", 422, "1e3")


@pytest.mark.parametrize("value", ["NaN", "-Infinity", r'"\ud83d"', '"NaN"', "[NaN,1e3, 1E400]", "1" * 5_000])
def test_what_is_not_quite_json_is_kept(value: str) -> None:
    """Numbers that JSON lacks and halves of characters make no event unreadable, and go out as they came."""
    assert read_model_event(f'{{"x":{value},"partial":true}}') == ModelEvent(is_partial=True)
    assert read_workflow_event(f'{{ "x" : {value} , "type":"output","output":{value} }}') == WorkflowFinished(
        value
    )
    error = f'{{"type":"error","x":NaN,"error":{{"status":422,"body":{{"input":{value}}}}}}}'
    assert read_workflow_event(error) == StepError("", "", "", 422, f'{{"input":{value}}}')


@pytest.mark.parametrize("data", ['{"a":NaN', '{"a":NaN}{}', '{"a":NaN,}', '{"a":nan}', '{"a":"\n","b":NaN}'])
def test_what_is_no_json_at_all_is_bad(data: str) -> None:
    """NaN excuses nothing else."""
    with pytest.raises(BadEvent):
        read_workflow_event(data)


def test_reading_twice_is_bounded() -> None:
    """An odd event is read by a slow parser: only as long as it has not too many values, however long it is."""
    long = f'{{"x":NaN,"type":"output","output":"{"a" * 5_000_000}"}}'
    assert isinstance(read_workflow_event(long), WorkflowFinished)
    with pytest.raises(BadEvent):
        read_workflow_event(f'{{"x":NaN,"type":"output","output":[{"1," * 200_000}1]}}')


def test_halves_of_characters_are_told_apart() -> None:
    """With several halves of characters each slice is the one at its own place, and whole ones are kept."""
    assert read_workflow_event(r'{"x":"\ud83d","type":"output","output":"\ude00"}') == WorkflowFinished(
        r'"\ude00"'
    )
    event = read_workflow_event(r'{"type":"error","message":"\ud83d\ude00 \\ud83d \ud83d","error":"\ud83d"}')
    assert event == StepError("", "", "\U0001f600 \\ud83d \ufffd", 0, r'"\ud83d"')


def test_a_completion_without_output_tells_who_finished() -> None:
    """It goes out as it came, with whatever else it has, and its step counts as finished."""
    event = '{"type":"completion","node_id":"n","result":1e3}'
    assert read_workflow_event(event) == UnknownEvent(event, finished_node="n")


@pytest.mark.parametrize(
    "data",
    [
        '{"type":"progress","x":1e3}',
        '{"no":"type"}',
        '{"type":5}',
        '{"type":"output"}',
        '{"type":"completion","node_id":5}',
        '{"type":"submit","node_id":7}',
        "[1]",
        "null",
        '"x"',
    ],
)
def test_an_unknown_event_is_kept_as_it_came(data: str) -> None:
    """An event of another kind or shape goes out unchanged instead of failing the stream."""
    assert read_workflow_event(data) == UnknownEvent(data)


@pytest.mark.parametrize(
    "fields",
    [
        '"error":{"status":null,"body":{"detail":"x"}}',
        '"error":"boom"',
        '"error":{"status":"422"}',
        '"error":[1e3]',
        '"error":NaN',
    ],
)
def test_an_error_of_another_shape_is_still_an_error(fields: str) -> None:
    """An event of type error says that a step failed, however its `error` looks (§9, §12.4)."""
    assert isinstance(read_workflow_event(f'{{"type":"error","message":"m",{fields}}}'), StepError)

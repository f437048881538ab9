"""What one event of a model's or workflow's stream means (fal-http-api.md §8.2, §9)."""

import pytest

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
    assert read_model_event('{"error":{"message":"boom"}}').error_text


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
        pytest.param('{"type":"error","message":"m"}', StepError("", "", "m", 0, ""), id="error-bare"),
        pytest.param('{"type":"error","error":null}', StepError("", "", "", 0, ""), id="error-null"),
    ],
)
def test_reads_a_workflows_event(data: str, event: object) -> None:
    """Every kind of §9 is read with its fields optional, and outputs are sliced out byte for byte."""
    assert read_workflow_event(data) == event


@pytest.mark.parametrize(
    "data",
    [
        '{"type":"progress","x":1e3}',
        '{"no":"type"}',
        '{"type":5}',
        '{"type":"output"}',
        '{"type":"completion","node_id":"n"}',
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
    "fields", ['"error":{"status":null,"body":{"detail":"x"}}', '"error":"boom"', '"error":{"status":"422"}']
)
def test_an_error_of_another_shape_is_still_an_error(fields: str) -> None:
    """An event of type error says that a step failed, however its `error` looks (§9, §12.4)."""
    assert isinstance(read_workflow_event(f'{{"type":"error","message":"m",{fields}}}'), StepError)

"""How model and workflow streams end (docs/fal-http-api.md §8, §9, §17.4)."""

import time
from collections.abc import AsyncGenerator

import pytest
from google.rpc import code_pb2

from falrpc_server.fal_http.client import ModelStream
from falrpc_server.fal_http.error_bodies import Failure, FalError
from falrpc_server.fal_http.events import Event
from falrpc_server.fal_http.model_events import StepError, StepSubmitted, UnknownEvent, WorkflowFinished
from falrpc_server.fal_http.models import CallInfo, EndpointId, Operation
from falrpc_server.fal_http.streams import model_events, workflow_events
from falrpc_server.translate import status_rules, verdicts

ENDPOINT = EndpointId.parse("workflows/me/wf")
CUT = FalError(Operation.STREAM, Failure.STREAM_TRUNCATED, "reset")
TOO_LARGE = FalError(Operation.STREAM, Failure.TOO_LARGE, "too large")
OUTPUT = '{"type":"output","output":{"a":1e3}}'


def stream(*events: str | Event | Exception) -> ModelStream:
    async def source() -> AsyncGenerator[Event]:
        for event in events:
            if isinstance(event, Exception):
                raise event
            yield Event(event) if isinstance(event, str) else event

    return ModelStream(CallInfo(request_id="r-1"), None, source())


async def seen(events: AsyncGenerator[object]) -> tuple[list[object], FalError | None]:
    """What a stream yields until its end, and the failure that it ends with."""
    got: list[object] = []
    try:
        async for event in events:
            got.append(event)
    except FalError as error:
        return got, error
    return got, None


@pytest.mark.parametrize(
    "events",
    [
        pytest.param(['{"output":"a","partial":true}', '{"output":"ab","partial":false}'], id="text"),
        pytest.param(['{"progress":0.4}', '{"images":[],"x":1e3}'], id="image"),
        pytest.param(["0", "null", '""'], id="any-json"),
        pytest.param(['{"error":"first try"}', '{"output":"ok"}'], id="error-then-result"),
    ],
)
async def test_a_stream_that_ends_with_its_result_is_well(events: list[str]) -> None:
    """Every event is passed on unchanged, and an end after a result is no failure."""
    assert await seen(model_events(stream(*events), ENDPOINT)) == (events, None)


@pytest.mark.parametrize(
    ("events", "passed", "failure"),
    [
        pytest.param([], 0, Failure.STREAM_TRUNCATED, id="no-event"),
        pytest.param(['{"partial":true}'], 1, Failure.STREAM_TRUNCATED, id="partial"),
        pytest.param(['{"output":"","error":"boom"}'], 1, Failure.STREAM_ERROR, id="error"),
        pytest.param(["{}", CUT], 1, Failure.STREAM_TRUNCATED, id="reset"),
        pytest.param(["{}", "[DONE]"], 1, Failure.MALFORMED, id="bad-json"),
        pytest.param(["{}", Event('{"a":', False)], 1, Failure.STREAM_TRUNCATED, id="cut-event"),
        pytest.param(['{"partial":true,"error":"boom"}'], 1, Failure.STREAM_ERROR, id="partial-error"),
        pytest.param(['{"error":"boom"}', CUT], 1, Failure.STREAM_ERROR, id="error-then-reset"),
        pytest.param(['{"error":"boom"}', TOO_LARGE], 1, Failure.TOO_LARGE, id="error-then-too-large"),
        pytest.param(['{"error":"boom"}', "{}", CUT], 2, Failure.STREAM_TRUNCATED, id="error-not-last"),
        pytest.param(
            ["{}", Event("{", False), TOO_LARGE], 1, Failure.TOO_LARGE, id="half-event-then-failure"
        ),
    ],
)
async def test_a_stream_that_stops_short_fails(
    events: list[str | Event | Exception], passed: int, failure: Failure
) -> None:
    """What came is passed on, and then the stream ends with the failure that it is."""
    got, error = await seen(model_events(stream(*events), ENDPOINT))
    assert (len(got), error and error.failure) == (passed, failure)


async def test_a_whole_event_without_its_blank_line_is_the_result() -> None:
    """A last event that parses is whole, though its blank line is missing."""
    events = model_events(stream(Event('{"a":1}', is_finished=False)), ENDPOINT)
    assert await seen(events) == (['{"a":1}'], None)


async def test_the_failure_names_the_call() -> None:
    """A stream's failure carries the endpoint and fal's request id."""
    _, error = await seen(model_events(stream(), ENDPOINT))
    assert error is not None
    assert (error.endpoint_id, error.request_id) == ("workflows/me/wf", "r-1")
    assert error.operation is Operation.STREAM


async def test_a_workflow_ends_with_its_output() -> None:
    """Steps, unknown events and the output are passed on in order, and the end is well."""
    events = stream('{"type":"submit","node_id":"n"}', '{"type":"new"}', OUTPUT)
    assert await seen(workflow_events(events, ENDPOINT)) == (
        [StepSubmitted("n", "", ""), UnknownEvent('{"type":"new"}'), WorkflowFinished('{"a":1e3}')],
        None,
    )


@pytest.mark.parametrize(
    ("events", "failure"),
    [
        pytest.param([], Failure.STREAM_TRUNCATED, id="nothing"),
        pytest.param(['{"type":"submit"}'], Failure.STREAM_TRUNCATED, id="no-output"),
        pytest.param(['{"type":"submit"}', CUT], Failure.STREAM_TRUNCATED, id="reset"),
        pytest.param(['{"type":"new"}'], Failure.STREAM_TRUNCATED, id="only-unknown"),
        pytest.param([Event(OUTPUT[:-1], False)], Failure.STREAM_TRUNCATED, id="cut-output"),
        pytest.param(["{"], Failure.MALFORMED, id="bad-json"),
        pytest.param(['{"type":"error","message":"m"}'], Failure.ANSWER, id="step-failed"),
        pytest.param(['{"type":"error","message":"m"}', CUT], Failure.ANSWER, id="step-failed-then-reset"),
        pytest.param(['{"type":"error"}', TOO_LARGE], Failure.TOO_LARGE, id="step-failed-then-too-large"),
        pytest.param(['{"type":"error"}', "{"], Failure.ANSWER, id="step-failed-then-bad-json"),
    ],
)
async def test_a_workflow_without_output_fails(
    events: list[str | Event | Exception], failure: Failure
) -> None:
    """A workflow that ends without output fails: with its step's failure when it told one."""
    _, error = await seen(workflow_events(stream(*events), ENDPOINT))
    assert error is not None
    assert error.failure is failure


async def test_a_step_error_is_passed_on_and_forgiven_by_an_output() -> None:
    """A step's error is a message; when an output follows, the workflow ended well."""
    got, error = await seen(workflow_events(stream('{"type":"error","message":"m"}', OUTPUT), ENDPOINT))
    assert error is None
    assert isinstance(got[0], StepError)


async def test_the_output_is_the_end() -> None:
    """After the output nothing is missing, so a connection that breaks then takes nothing away (§9)."""
    _, error = await seen(workflow_events(stream(OUTPUT, CUT), ENDPOINT))
    assert error is None


@pytest.mark.parametrize(
    ("step", "code", "text"),
    [
        pytest.param(
            '"error":{"status":422,"body":{"detail":[{"loc":["body","n"],"msg":"too many","type":"le"}]}}',
            code_pb2.INVALID_ARGUMENT,
            "",
            id="422",
        ),
        pytest.param(
            '"error":{"status":503,"body":{"detail":"gone","error_type":"runner_disconnected"}}',
            code_pb2.ABORTED,
            "gone",
            id="request-error",
        ),
        pytest.param(
            '"error":{"status":503,"body":{"detail":"GPU error"}}', code_pb2.ABORTED, "GPU error", id="503"
        ),
        pytest.param('"error":{"status":404,"body":{"detail":"x"}}', code_pb2.NOT_FOUND, "x", id="404"),
        pytest.param('"error":{"status":500,"body":"boom"}', code_pb2.INTERNAL, "m", id="text-body"),
        pytest.param('"error":{"status":500}', code_pb2.INTERNAL, "m", id="no-body"),
        pytest.param('"error":{}', code_pb2.UNKNOWN, "m", id="no-status"),
        pytest.param('"error":"boom"', code_pb2.UNKNOWN, "m", id="error-text"),
        pytest.param('"error":{"detail":"d"}', code_pb2.UNKNOWN, "d", id="error-detail"),
        pytest.param('"detail":"d"', code_pb2.UNKNOWN, "d", id="detail"),
        pytest.param(
            '"error":{"detail":[{"msg":"d","type":"generation_timeout"}]}',
            code_pb2.DEADLINE_EXCEEDED,
            "",
            id="type-without-status",
        ),
        pytest.param(
            '"error":{"status":422,"body":{"detail":"d","input":NaN}}',
            code_pb2.INVALID_ARGUMENT,
            "d",
            id="nan",
        ),
        pytest.param(
            '"error":{"status":504,"body":{"error_type":"startup_timeout"}}',
            code_pb2.ABORTED,
            "m",
            id="type-without-text",
        ),
    ],
)
@pytest.mark.parametrize("node", ['"node_id":"n",', ""], ids=["named-step", "unnamed-step"])
async def test_a_steps_failure_maps_as_a_stored_one(node: str, step: str, code: int, text: str) -> None:
    """A step's error maps by status and body as a stored outcome, with or without a node's name (§17.4)."""
    _, error = await seen(workflow_events(stream(f'{{"type":"error",{node}"message":"m",{step}}}'), ENDPOINT))
    assert error is not None
    assert error.answer is not None
    assert error.is_stored
    assert status_rules.code_of(error, status_rules.row_of(error)) == code
    assert error.answer.text == text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ('"error":"Out of memory"', "Out of memory"),
        ('"error":{"detail":"Out of memory"}', "Out of memory"),
        ('"detail":"Out of memory"', "Out of memory"),
        ('"error":{}', "a failure without a reason"),
        ('"error":{"detail":[{"msg":"d","type":"?"}]}', "input: d"),
    ],
)
async def test_no_status_is_invented(fields: str, message: str) -> None:
    """Where fal gives a step's failure no HTTP status, its caller is told none, but all of the text."""
    _, error = await seen(workflow_events(stream(f'{{"type":"error",{fields}}}'), ENDPOINT))
    assert error is not None
    verdict = verdicts.of_fal_error(error)
    assert (verdict.code, verdict.reason, verdict.message) == (code_pb2.UNKNOWN, "STREAM_ERROR", message)
    assert verdict.metadata["delivery"] == "FAILED"
    assert (verdict.http_status, "http_status" in verdict.metadata) == (0, False)


async def test_the_first_failed_step_is_the_cause() -> None:
    """When a second step fails after the first, the first one's failure is the workflow's."""
    first = '{"type":"error","node_id":"a","error":{"status":422,"body":{"detail":"first"}}}'
    second = '{"type":"error","node_id":"b","error":{"status":499,"body":{"detail":"second"}}}'
    _, error = await seen(workflow_events(stream(first, second), ENDPOINT))
    assert error is not None
    assert (error.node_id, error.http_status) == ("a", 422)


async def test_who_has_finished() -> None:
    """Each named step that has finished is noted once, without commas, with or without an output."""
    nodes = ['"a"', '"a"', '"b,c"', '""', "7", "null", '"d"']
    events = [f'{{"type":"completion","node_id":{node},"output":1}}' for node in nodes]
    workflow = stream(*events, '{"type":"completion","node_id":"e"}', '{"type":"submit","node_id":"f"}')
    await seen(workflow_events(workflow, ENDPOINT))
    assert workflow.scope.finished_nodes == ["a", "b?c", "d", "e"]


async def test_only_so_many_names_are_kept() -> None:
    """A workflow with very many or very long names of steps takes no more memory than a status has use for."""
    events = [f'{{"type":"completion","node_id":"{n}{"x" * 9_999}","output":1}}' for n in range(200)]
    workflow = stream(*events)
    await seen(workflow_events(workflow, ENDPOINT))
    assert len(workflow.scope.finished_nodes) == 100
    assert {len(name) for name in workflow.scope.finished_nodes} == {2_000}


def test_long_names_cost_little() -> None:
    """Of an entry of the metadata only as much is looked at as has room."""
    started = time.process_time()
    entry = verdicts.present(node_id="x" * 20_000_000)["node_id"]
    assert time.process_time() - started < 0.5
    assert entry == "x" * 157 + "…"


async def test_leaving_early_closes_the_stream() -> None:
    """Whoever stops reading a workflow has the source closed behind it."""
    closed = []

    async def source() -> AsyncGenerator[Event]:
        try:
            yield Event('{"type":"submit"}')
            yield Event(OUTPUT)
        finally:
            closed.append(True)

    events = workflow_events(ModelStream(CallInfo(), None, source()), ENDPOINT)
    await anext(events)
    await events.aclose()
    assert closed == [True]

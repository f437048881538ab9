"""Stream and StreamWorkflow, end to end."""

import itertools
import json
import time

import pytest
from tests.conftest import Fal, Running
from tests.failures import messages_and_failure
from tests.service.test_run import TRIES, arrived, closed

from falrpc import v1

SEED = "15860307465884635512"


def stream(endpoint_id: str, json_text: str = "{}") -> v1.StreamRequest:
    return v1.StreamRequest(endpoint_id=endpoint_id, input=v1.Input(json=json_text))


def workflow(endpoint_id: str, json_text: str = "{}") -> v1.StreamWorkflowRequest:
    return v1.StreamWorkflowRequest(endpoint_id=endpoint_id, input=v1.Input(json=json_text))


def replayed(*events: str, end: str = "clean") -> v1.StreamWorkflowRequest:
    return workflow("workflows/emulator/replay", f'{{"events":[{",".join(events)}],"end":"{end}"}}')


async def test_a_text_model(gateway: Running) -> None:
    """Stream sends started, then the model's events unchanged; the last one is the result."""
    call = gateway.stub.Stream(stream("fal-ai/any-llm", '{"prompt":"hello"}'))
    messages = [message async for message in call]
    assert messages[0].started.request_id
    events = [json.loads(message.event.json) for message in messages[1:]]
    assert len(events) > 2
    assert [event["partial"] for event in events] == [True] * (len(events) - 1) + [False]
    assert all(one["output"] in two["output"] for one, two in itertools.pairwise(events))
    assert dict(await call.trailing_metadata())["x-fal-request-id"] == messages[0].started.request_id


async def test_events_are_byte_for_byte(gateway: Running) -> None:
    """The text of an event is not changed."""
    text = f'{{ "seed": {SEED},"x":1e3, "e":"\\u00e9é\\u2028 " }}'
    call = gateway.stub.Stream(stream("emulator/events", f'{{"events":[{text},1,"s",null]}}'))
    assert [m.event.json async for m in call][1:] == [text, "1", '"s"', "null"]


async def test_nothing_is_held_back(gateway: Running) -> None:
    """An event arrives when it is sent, not when the stream ends."""
    call = gateway.stub.Stream(stream("emulator/events", '{"events":[{"n":1},{"n":2}],"delay":0.6}'))
    times = [time.monotonic() async for message in call if message.WhichOneof("kind") == "event"]
    assert times[1] - times[0] > 0.4


async def test_a_model_that_does_not_stream(gateway: Running) -> None:
    """A model without a stream is FAILED_PRECONDITION, STREAMING_NOT_SUPPORTED, for both methods."""
    calls = (
        gateway.stub.Stream(stream("fal-ai/fast-sdxl")),
        gateway.stub.StreamWorkflow(workflow("fal-ai/fast-sdxl")),
    )
    for call in calls:
        messages, failed = await messages_and_failure(call)
        assert messages == []
        assert (failed.code, failed.info.reason) == ("FAILED_PRECONDITION", "STREAMING_NOT_SUPPORTED")


async def test_a_refused_input(gateway: Running) -> None:
    """A model that refuses its input ends the stream with its violations, before anything is sent."""
    messages, failed = await messages_and_failure(gateway.stub.Stream(stream("fal-ai/any-llm")))
    assert messages == []
    assert (failed.code, failed.fields) == ("INVALID_ARGUMENT", ["input.prompt"])


async def test_plain_json_where_a_stream_was_asked(gateway: Running, fal: Fal) -> None:
    """A plain JSON answer is delivered as the one event, for workflows as the output, and ends OK."""
    fal.will("answer", operation="stream", status=200, body='{"a":1e3}', times=2)
    messages = [m async for m in gateway.stub.Stream(stream("emulator/events", '{"events":[]}'))]
    assert [m.WhichOneof("kind") for m in messages] == ["started", "event"]
    assert messages[1].event.json == '{"a":1e3}'
    steps = [m async for m in gateway.stub.StreamWorkflow(replayed())]
    assert [m.WhichOneof("kind") for m in steps] == ["started", "output"]
    assert steps[1].output.output.json == '{"a":1e3}'


@pytest.mark.parametrize("end", ["cut", "reset", "half_event"])
async def test_a_stream_that_just_stops(gateway: Running, end: str) -> None:
    """A stream that breaks off is UNKNOWN, STREAM_TRUNCATED; what came before has been delivered."""
    asked = stream("emulator/events", f'{{"events":[{{"n":1}},{{"n":2}}],"end":"{end}"}}')
    messages, failed = await messages_and_failure(gateway.stub.Stream(asked))
    assert [m.event.json for m in messages[1:]] == ['{"n":1}', '{"n":2}']
    assert (failed.code, failed.info.reason, failed.delivery) == ("UNKNOWN", "STREAM_TRUNCATED", "ACCEPTED")
    assert failed.info.metadata["request_id"] == messages[0].started.request_id


async def test_a_missing_last_blank_line(gateway: Running) -> None:
    """A whole last event whose blank line is missing is delivered."""
    asked = stream("emulator/events", '{"events":[{"n":1}],"end":"no_blank_line"}')
    assert [m.event.json async for m in gateway.stub.Stream(asked)][1:] == ['{"n":1}', '{"last": true}']


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        pytest.param("[]", "STREAM_TRUNCATED", id="no event"),
        pytest.param('[{"output":"a","partial":true}]', "STREAM_TRUNCATED", id="more was promised"),
        pytest.param('[{"output":"","error":"out of tokens"}]', "STREAM_ERROR", id="the model says error"),
    ],
)
async def test_a_stream_without_a_result(gateway: Running, events: str, reason: str) -> None:
    """A clean end without a result is no OK."""
    asked = stream("emulator/events", f'{{"events":{events}}}')
    _, failed = await messages_and_failure(gateway.stub.Stream(asked))
    assert (failed.code, failed.info.reason) == ("UNKNOWN", reason)


@pytest.mark.alone
async def test_cancelling_a_stream(gateway: Running, fal: Fal) -> None:
    """fal sees the connection closed within 100 ms of the caller's cancel in the middle of a stream."""
    delays = []
    for _ in range(TRIES):
        fal.reset()
        call = gateway.stub.Stream(stream("emulator/events", '{"events":[{"n":1}],"end":"hang"}'))
        async for message in call:
            if message.WhichOneof("kind") == "event":
                break
        cancelled_at = time.time()
        call.cancel()
        record = await closed(fal, "stream")
        assert record["outcome"] == "client_closed"
        delays.append(record["closed_at"] - cancelled_at)
    assert min(delays) < 0.1


async def test_cancelling_before_the_first_event(gateway: Running, fal: Fal) -> None:
    """A stream that is cancelled before anything came is closed as well."""
    fal.will("hang", operation="stream")
    call = gateway.stub.Stream(stream("emulator/events", '{"events":[]}'))
    await arrived(fal, "stream")
    call.cancel()
    assert (await closed(fal, "stream"))["outcome"] == "client_closed"


async def test_the_sticker_workflow(gateway: Running) -> None:
    """StreamWorkflow sends typed events for each step, then the output; the seed stays as it was."""
    asked = workflow("workflows/fal-ai/sdxl-sticker", f'{{"prompt":"a robot","seed":{SEED}}}')
    call = gateway.stub.StreamWorkflow(asked)
    messages = [message async for message in call]
    assert dict(await call.trailing_metadata())["x-fal-request-id"] == messages[0].started.request_id
    kinds = [message.WhichOneof("kind") for message in messages]
    assert kinds == ["started", *["submit", "completion"] * 3, "output"]
    assert [m.submit.app_id for m in messages[1:6:2]] == [
        "fal-ai/fast-sdxl",
        "fal-ai/imageutils/rembg",
        "fal-ai/face-to-sticker",
    ]
    assert [m.completion.node_id for m in messages[2:7:2]] == ["node_1", "node_2", "node_3"]
    assert all(m.submit.request_id for m in messages[1:6:2])
    assert f'"seed":{SEED}' in messages[2].completion.output.json
    assert f'"seed":{SEED}' in messages[-1].output.output.json


async def test_outputs_are_sliced_from_events(gateway: Running) -> None:
    """1e3 stays 1e3 in a workflow's outputs; ids that fal leaves out are empty."""
    asked = replayed('{"type":"completion","output":{"a":1e3 }}', '{"type":"output","output":{"b" :1.50}}')
    messages = [message async for message in gateway.stub.StreamWorkflow(asked)]
    assert messages[1].completion == v1.WorkflowCompletion(output=v1.Output(json='{"a":1e3 }'))
    assert messages[2].output.output.json == '{"b" :1.50}'


async def test_unknown_events(gateway: Running) -> None:
    """Events of other types are passed on as they are."""
    odd = ['{"type":"progress","x":1e3}', '{"no":"type"}', "7", '{"type":"submit","node_id":5}']
    asked = replayed(*odd, '{"type":"output","output":{}}')
    messages = [message async for message in gateway.stub.StreamWorkflow(asked)]
    assert [m.other_json for m in messages[1:-1]] == odd


async def test_a_step_that_fails(gateway: Running) -> None:
    """A step's error is delivered as a message, then the call ends with the status that it maps to."""
    call = gateway.stub.StreamWorkflow(workflow("workflows/emulator/failing-step", '{"prompt":"x"}'))
    messages, failed = await messages_and_failure(call)
    kinds = [message.WhichOneof("kind") for message in messages]
    assert kinds == ["started", "submit", "completion", "submit", "error"]
    assert (messages[-1].error.node_id, messages[-1].error.http_status) == ("node_2", 422)
    assert '"limit_value":8' in messages[-1].error.body_json
    assert (failed.code, failed.info.reason) == ("INVALID_ARGUMENT", "VALUE_ERROR_NUMBER_NOT_LE")
    assert failed.fields == ["input.num_images"]
    assert failed.info.metadata["node_id"] == "node_2"


async def test_a_passing_failure_of_a_step(gateway: Running) -> None:
    """A step's failure is an outcome: a passing one is ABORTED, never UNAVAILABLE."""
    error = (
        '{"type":"error","node_id":"n","message":"m","error":{"status":503,"body":{"detail":"CUDA error"}}}'
    )
    messages, failed = await messages_and_failure(gateway.stub.StreamWorkflow(replayed(error)))
    assert messages[-1].WhichOneof("kind") == "error"
    assert (failed.code, failed.message, failed.delivery) == ("ABORTED", "CUDA error", "FAILED")


async def test_an_output_after_an_error(gateway: Running) -> None:
    """An error event that is followed by the output is only a message."""
    error = '{"type":"error","node_id":"n","message":"m","error":{"status":500,"body":null}}'
    call = gateway.stub.StreamWorkflow(replayed(error, '{"type":"output","output":{"a":1}}'))
    assert [m.WhichOneof("kind") async for m in call] == ["started", "error", "output"]


@pytest.mark.parametrize("end", ["clean", "cut", "reset", "half_event"])
async def test_a_workflow_that_just_stops(gateway: Running, end: str) -> None:
    """A workflow that ends without output is UNKNOWN, STREAM_TRUNCATED; its steps' outputs were delivered."""
    asked = replayed('{"type":"completion","node_id":"n","output":{"a":1e3}}', end=end)
    messages, failed = await messages_and_failure(gateway.stub.StreamWorkflow(asked))
    assert messages[1].completion.output.json == '{"a":1e3}'
    assert (failed.code, failed.info.reason) == ("UNKNOWN", "STREAM_TRUNCATED")

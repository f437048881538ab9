"""Submit, Status, StreamStatus, Result, Cancel and Subscribe, end to end."""

import asyncio
import time
from collections.abc import AsyncIterable

import pytest
from google.rpc import error_details_pb2
from tests.conftest import Fal, Running
from tests.failures import failure_of, messages_and_failure
from tests.service.test_run import WAIT_SECONDS_MAX, arrived, closed

from falrpc import v1

SEED = "15860307465884635512"

IN_QUEUE = v1.RequestState.REQUEST_STATE_IN_QUEUE
IN_PROGRESS = v1.RequestState.REQUEST_STATE_IN_PROGRESS
COMPLETED = v1.RequestState.REQUEST_STATE_COMPLETED
UNSPECIFIED = v1.RequestOutcome.REQUEST_OUTCOME_UNSPECIFIED
SUCCEEDED = v1.RequestOutcome.REQUEST_OUTCOME_SUCCEEDED
FAILED = v1.RequestOutcome.REQUEST_OUTCOME_FAILED
CANCELLED = v1.RequestOutcome.REQUEST_OUTCOME_CANCELLED


def request(endpoint_id: str, json_text: str = "{}") -> v1.SubmitRequest:
    return v1.SubmitRequest(endpoint_id=endpoint_id, input=v1.Input(json=json_text))


async def submitted(gateway: Running, endpoint_id: str, json_text: str = "{}") -> v1.RequestHandle:
    return (await gateway.stub.Submit(request(endpoint_id, json_text))).handle


def waiting(handle: v1.RequestHandle, seconds: float = 10) -> v1.ResultRequest:
    asked = v1.ResultRequest(handle=handle)
    asked.wait.FromMilliseconds(round(seconds * 1000))
    return asked


async def collected(call: AsyncIterable[v1.SubscribeResponse]) -> list[v1.SubscribeResponse]:
    return [message async for message in call]


def kinds(messages: list[v1.SubscribeResponse]) -> list[str]:
    """The kinds of the messages, runs of the same kind once."""
    names = [str(message.WhichOneof("kind")) for message in messages]
    return [name for n, name in enumerate(names) if n == 0 or names[n - 1] != name]


async def test_the_seed_survives_the_queue(gateway: Running) -> None:
    """A seed past 2^53 in Input.json comes back unchanged through Submit and Result."""
    handle = await submitted(gateway, "fal-ai/fast-sdxl", f'{{"prompt":"x","seed":{SEED}}}')
    response = await gateway.stub.Result(waiting(handle))
    assert f'"seed":{SEED},' in response.output.json
    assert response.call.inference_time.ToMilliseconds() > 0


@pytest.mark.parametrize(
    ("endpoint_id", "base"),
    [
        pytest.param("fal-ai/flux/dev", "fal-ai/flux", id="with a path"),
        pytest.param("workflows/fal-ai/sdxl-sticker", "workflows/fal-ai/sdxl-sticker", id="workflow"),
    ],
)
async def test_which_url_uses_which_part(gateway: Running, fal: Fal, endpoint_id: str, base: str) -> None:
    """Submit uses the full id; status, result and cancel use owner/alias with the namespace."""
    handle = await submitted(gateway, endpoint_id, '{"prompt":"x"}')
    await gateway.stub.Status(v1.StatusRequest(handle=handle))
    await gateway.stub.Result(waiting(handle))
    await gateway.stub.Cancel(v1.CancelRequest(handle=handle))
    paths = {record["operation"]: record["path"] for record in fal.received()}
    assert paths == {
        "submit": f"/queue/{endpoint_id}",
        "status": f"/queue/{base}/requests/{handle.request_id}/status",
        "status_stream": f"/queue/{base}/requests/{handle.request_id}/status/stream",
        "result": f"/queue/{base}/requests/{handle.request_id}",
        "cancel": f"/queue/{base}/requests/{handle.request_id}/cancel",
    }


async def test_queue_options(gateway: Running, fal: Fal) -> None:
    """Queue options reach fal as headers and query parameters."""
    asked = request("emulator/echo")
    asked.queue.priority = v1.Priority.PRIORITY_LOW
    asked.queue.no_retry = True
    asked.queue.max_queue_length = 1_000
    asked.queue.webhook_url = "https://hooks.example.com/fal?a=b&c=d"
    response = await gateway.stub.Submit(asked)
    assert response.queue_position == 2
    [record] = fal.received(operation="submit")
    assert record["headers"]["x-fal-queue-priority"] == "low"
    assert record["headers"]["x-fal-no-retry"] == "1"


async def test_a_queue_that_is_too_long(gateway: Running) -> None:
    """More waiting requests than max_queue_length is RESOURCE_EXHAUSTED, QUEUE_TOO_LONG, REJECTED."""
    await submitted(gateway, "fal-ai/flux/dev", '{"prompt":"x"}')
    asked = request("fal-ai/flux/dev", '{"prompt":"x"}')
    asked.queue.max_queue_length = 0
    failed = await failure_of(gateway.stub.Submit(asked))
    assert (failed.code, failed.info.reason, failed.delivery) == (
        "RESOURCE_EXHAUSTED",
        "QUEUE_TOO_LONG",
        "REJECTED",
    )
    quota = failed.find(error_details_pb2.QuotaFailure)
    assert quota is not None
    assert quota.violations[0].subject == "queue_length"
    assert failed.find(error_details_pb2.RetryInfo)


async def test_bad_queue_options(gateway: Running, fal: Fal) -> None:
    """Bad queue options are refused with their fields, and nothing is sent."""
    asked = request("a//b")
    asked.queue.max_queue_length = -1
    asked.queue.webhook_url = "http://10.0.0.1/hook"
    failed = await failure_of(gateway.stub.Submit(asked))
    assert failed.fields == ["endpoint_id", "queue.max_queue_length", "queue.webhook_url"]
    assert fal.received() == []


async def test_a_submission_without_an_id(gateway: Running, fal: Fal) -> None:
    """A 200 to a submission that has no id leaves the outcome unknown."""
    fal.will("answer", operation="submit", status=200, body='{"status":"IN_QUEUE"}')
    failed = await failure_of(gateway.stub.Submit(request("emulator/echo")))
    assert (failed.code, failed.info.reason, failed.delivery) == ("UNKNOWN", "UPSTREAM_MALFORMED", "UNKNOWN")


async def test_html_for_a_submission(gateway: Running, fal: Fal) -> None:
    """HTML where JSON is due leaves the outcome of a submission unknown."""
    fal.will("answer", operation="submit", status=200, body="<html>", headers={"content-type": "text/html"})
    failed = await failure_of(gateway.stub.Submit(request("emulator/echo")))
    assert (failed.code, failed.info.reason) == ("UNKNOWN", "UPSTREAM_MALFORMED")


async def test_a_status_without_a_state(gateway: Running, fal: Fal) -> None:
    """A status answer without a state is INTERNAL, UPSTREAM_MALFORMED: the read is fal's fault."""
    handle = await submitted(gateway, "emulator/echo")
    fal.will("answer", operation="status", status=200, body='{"request_id":"x"}')
    failed = await failure_of(gateway.stub.Status(v1.StatusRequest(handle=handle)))
    assert (failed.code, failed.info.reason) == ("INTERNAL", "UPSTREAM_MALFORMED")


async def test_an_unknown_state(gateway: Running, fal: Fal) -> None:
    """A state that this version does not know is UNSPECIFIED, not an error, and is logged."""
    handle = await submitted(gateway, "emulator/echo")
    fal.will("answer", operation="status", status=200, body='{"status":"PAUSED"}')
    response = await gateway.stub.Status(v1.StatusRequest(handle=handle))
    assert response.status.state == v1.RequestState.REQUEST_STATE_UNSPECIFIED
    [line] = gateway.logged("fal.noticed")
    assert (line["what"], line["value"], line["level"]) == ("unknown_state", "PAUSED", "warning")


async def test_other_urls_than_ours(gateway: Running, fal: Fal) -> None:
    """A submission whose status URL is not the one we would use is accepted, and logged."""
    body = (
        '{"status":"IN_QUEUE","request_id":"abc","status_url":"https://queue.fal.run/x/requests/abc/status"}'
    )
    fal.will("answer", operation="submit", status=200, body=body)
    assert (await gateway.stub.Submit(request("emulator/echo"))).handle.request_id == "abc"
    assert [line["what"] for line in gateway.logged("fal.noticed")] == ["other_status_url"]
    await submitted(gateway, "emulator/echo")
    assert len(gateway.logged("fal.noticed")) == 1


async def test_reads_are_repeated(gateway: Running, fal: Fal) -> None:
    """A read that is cut or meets an edge page is sent again, at most twice, then UNAVAILABLE."""
    handle = await submitted(gateway, "emulator/echo")
    fal.will("edge_page", operation="status", status=503)
    fal.will("close_after_body", operation="status")
    assert (await gateway.stub.Status(v1.StatusRequest(handle=handle))).HasField("status")
    fal.will("edge_page", operation="status", status=502, times=None)
    failed = await failure_of(gateway.stub.Status(v1.StatusRequest(handle=handle)))
    assert (failed.code, failed.info.reason) == ("UNAVAILABLE", "UPSTREAM_INTERRUPTED")
    assert failed.find(error_details_pb2.RetryInfo)
    assert len(fal.received(operation="status")) == 6


async def test_the_log_window(gateway: Running) -> None:
    """Status returns the log entries when asked, and none otherwise."""
    handle = await submitted(gateway, "emulator/logs", '{"count":3}')
    await gateway.stub.Result(waiting(handle))
    with_logs = await gateway.stub.Status(v1.StatusRequest(handle=handle, include_logs=True))
    assert [entry.message for entry in with_logs.logs] == ["line 0", "line 1", "line 2"]
    assert not (await gateway.stub.Status(v1.StatusRequest(handle=handle))).logs


@pytest.mark.parametrize(
    ("text", "outcome", "error_type"),
    [
        pytest.param(
            '{"error_type":"runner_disconnected"}', FAILED, "runner_disconnected", id="fal says failed"
        ),
        pytest.param(
            '{"error_type":"client_cancelled"}', CANCELLED, "client_cancelled", id="fal says cancelled"
        ),
        pytest.param("{}", FAILED, "", id="fal says failed, not why"),
    ],
)
async def test_status_never_says_succeeded(
    gateway: Running, text: str, outcome: "v1.RequestOutcome.ValueType", error_type: str
) -> None:
    """Status says FAILED or CANCELLED when fal sent an error, UNSPECIFIED when not, never SUCCEEDED."""
    handle = await submitted(gateway, "emulator/fail", text)
    await failure_of(gateway.stub.Result(waiting(handle)))
    status = (await gateway.stub.Status(v1.StatusRequest(handle=handle))).status
    assert (status.state, status.outcome, status.error_type) == (COMPLETED, outcome, error_type)
    finished = await submitted(gateway, "emulator/echo")
    await gateway.stub.Result(waiting(finished))
    status = (await gateway.stub.Status(v1.StatusRequest(handle=finished))).status
    assert (status.state, status.outcome) == (COMPLETED, UNSPECIFIED)


async def test_a_status_that_says_nothing_of_the_outcome(gateway: Running, fal: Fal) -> None:
    """A failed model whose status has no error, as some apps' do, is not called a success."""
    handle = await submitted(gateway, "emulator/fail")
    await failure_of(gateway.stub.Result(waiting(handle)))
    fal.will("answer", operation="status", status=200, body='{"status":"COMPLETED","logs":null,"metrics":{}}')
    status = (await gateway.stub.Status(v1.StatusRequest(handle=handle))).status
    assert (status.state, status.outcome) == (COMPLETED, UNSPECIFIED)


async def test_a_result_that_is_not_ready(gateway: Running) -> None:
    """Result without wait answers at once: FAILED_PRECONDITION, REQUEST_NOT_COMPLETED, with RetryInfo."""
    handle = await submitted(gateway, "emulator/sleep", '{"seconds":30}')
    failed = await failure_of(gateway.stub.Result(v1.ResultRequest(handle=handle)))
    assert (failed.code, failed.info.reason) == ("FAILED_PRECONDITION", "REQUEST_NOT_COMPLETED")
    assert failed.find(error_details_pb2.RetryInfo)
    assert failed.find(error_details_pb2.PreconditionFailure)


async def test_waiting_for_a_result(gateway: Running) -> None:
    """Result with wait blocks until the request is done."""
    handle = await submitted(gateway, "emulator/sleep", '{"seconds":0.4}')
    started = time.monotonic()
    response = await gateway.stub.Result(waiting(handle, 30))
    assert response.output.json == '{"slept":0.4}'
    assert 0.3 < time.monotonic() - started < 10


async def test_a_wait_that_is_over(gateway: Running, fal: Fal) -> None:
    """Result with wait ends with REQUEST_NOT_COMPLETED when the wait is over, and closes its stream."""
    handle = await submitted(gateway, "emulator/sleep", '{"seconds":30}')
    started = time.monotonic()
    failed = await failure_of(gateway.stub.Result(waiting(handle, 0.3)))
    assert 0.25 < time.monotonic() - started < 10
    assert (failed.code, failed.info.reason) == ("FAILED_PRECONDITION", "REQUEST_NOT_COMPLETED")
    assert (await closed(fal, "status_stream"))["outcome"] == "client_closed"


@pytest.mark.parametrize("method", ["Status", "Result", "Cancel"])
async def test_an_unknown_request(gateway: Running, method: str) -> None:
    """A request that fal does not know is NOT_FOUND with ResourceInfo fal.request."""
    handle = v1.RequestHandle(endpoint_id="fal-ai/flux", request_id="7d1c2c0e-6a0b-4f6e-9b0e-0c6d0b1f2a11")
    asked = getattr(v1, f"{method}Request")(handle=handle)
    failed = await failure_of(getattr(gateway.stub, method)(asked))
    assert (failed.code, failed.info.reason) == ("NOT_FOUND", "REQUEST_NOT_FOUND")
    resource = failed.find(error_details_pb2.ResourceInfo)
    assert resource is not None
    assert (resource.resource_type, resource.resource_name) == ("fal.request", handle.request_id)


async def test_a_bad_handle(gateway: Running, fal: Fal) -> None:
    """A handle that can't be one is refused by field, and nothing is sent."""
    handle = v1.RequestHandle(endpoint_id="fal-ai", request_id="../../admin")
    failed = await failure_of(gateway.stub.Status(v1.StatusRequest(handle=handle)))
    assert failed.fields == ["handle.endpoint_id", "handle.request_id"]
    assert fal.received() == []


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [
        pytest.param('{"error_type":"runner_disconnected"}', "ABORTED", "RUNNER_DISCONNECTED", id="passing"),
        pytest.param(
            '{"error_type":"client_cancelled"}', "FAILED_PRECONDITION", "REQUEST_CANCELLED", id="cancelled"
        ),
        pytest.param("{}", "INTERNAL", "HTTP_500", id="app error"),
    ],
)
async def test_a_stored_failure(gateway: Running, fal: Fal, text: str, code: str, reason: str) -> None:
    """A failed request ends Result with its own error: FAILED, never UNAVAILABLE, no RetryInfo, read once."""
    handle = await submitted(gateway, "emulator/fail", text)
    failed = await failure_of(gateway.stub.Result(waiting(handle)))
    assert (failed.code, failed.info.reason, failed.delivery) == (code, reason, "FAILED")
    assert failed.find(error_details_pb2.RetryInfo) is None
    assert failed.info.metadata["request_id"] == handle.request_id
    assert len(fal.received(operation="result")) == 1


async def test_stream_status(gateway: Running) -> None:
    """StreamStatus sends each state and log entry once, and the outcome with the last one."""
    handle = await submitted(gateway, "fal-ai/fast-sdxl", '{"prompt":"x"}')
    asked = v1.StreamStatusRequest(handle=handle, include_logs=True)
    messages = [message async for message in gateway.stub.StreamStatus(asked)]
    statuses = [m.status for m in messages if m.WhichOneof("kind") == "status"]
    entries = [entry.message for m in messages for entry in m.logs.entries]
    assert entries == [f"step {n}/4" for n in (1, 2, 3, 4)]
    assert statuses[-1].state == COMPLETED
    assert statuses[-1].outcome == SUCCEEDED
    assert statuses[-1].inference_time.ToMilliseconds() > 0
    assert len({status.SerializeToString() for status in statuses}) == len(statuses)


async def test_stream_status_of_a_failed_request(gateway: Running) -> None:
    """StreamStatus of a failed request ends OK with outcome FAILED: the reading went well."""
    handle = await submitted(gateway, "emulator/fail")
    messages = [m async for m in gateway.stub.StreamStatus(v1.StreamStatusRequest(handle=handle))]
    assert (messages[-1].status.state, messages[-1].status.outcome) == (COMPLETED, FAILED)


async def test_stream_status_without_fals_stream(gateway: Running, fal: Fal) -> None:
    """When fal's status stream fails the request is followed by polling."""
    fal.will("edge_page", operation="status_stream", status=502, times=None)
    handle = await submitted(gateway, "emulator/sleep", '{"seconds":0.3}')
    messages = [m async for m in gateway.stub.StreamStatus(v1.StreamStatusRequest(handle=handle))]
    assert (messages[-1].status.state, messages[-1].status.outcome) == (COMPLETED, SUCCEEDED)
    assert fal.received(operation="status")


async def test_heartbeats(gateway: Running) -> None:
    """A silent stream sends heartbeats at the interval that the caller asked for."""
    handle = await submitted(gateway, "emulator/sleep", '{"seconds":2.5}')
    asked = v1.StreamStatusRequest(handle=handle)
    asked.heartbeat_interval.FromSeconds(1)
    kinds = [m.WhichOneof("kind") async for m in gateway.stub.StreamStatus(asked)]
    assert kinds.count("heartbeat") in (2, 3)  # which, is the machine's affair


async def test_cancel_in_each_state(gateway: Running) -> None:
    """Cancel tells what fal did: dropped from the queue, told the model, or came too late."""
    queued = await submitted(gateway, "fal-ai/flux/dev", '{"prompt":"x"}')
    outcome = (await gateway.stub.Cancel(v1.CancelRequest(handle=queued))).outcome
    assert outcome == v1.CancelOutcome.CANCEL_OUTCOME_OK
    running = await submitted(gateway, "emulator/cancellable")
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while (await gateway.stub.Status(v1.StatusRequest(handle=running))).status.state != IN_PROGRESS:
            await asyncio.sleep(0.01)
    outcome = (await gateway.stub.Cancel(v1.CancelRequest(handle=running))).outcome
    assert outcome == v1.CancelOutcome.CANCEL_OUTCOME_CANCELLATION_REQUESTED
    failed = await failure_of(gateway.stub.Result(waiting(running)))
    assert (failed.code, failed.info.reason) == ("FAILED_PRECONDITION", "REQUEST_CANCELLED")
    outcome = (await gateway.stub.Cancel(v1.CancelRequest(handle=running))).outcome
    assert outcome == v1.CancelOutcome.CANCEL_OUTCOME_ALREADY_COMPLETED


async def test_subscribe(gateway: Running) -> None:
    """Subscribe sends the handle first, then the way through the queue, the last status, and the result."""
    submit = request("fal-ai/fast-sdxl", f'{{"prompt":"x","seed":{SEED}}}')
    messages = await collected(gateway.stub.Subscribe(v1.SubscribeRequest(submit=submit, include_logs=True)))
    assert kinds(messages)[0] == "accepted"
    assert kinds(messages)[-2:] == ["status", "result"]
    assert messages[0].accepted.endpoint_id == "fal-ai/fast-sdxl"
    assert [e.message for m in messages for e in m.logs.entries] == [f"step {n}/4" for n in (1, 2, 3, 4)]
    assert messages[-2].status.outcome == SUCCEEDED
    assert f'"seed":{SEED},' in messages[-1].result.output.json
    assert messages[-1].result.call.request_id == messages[0].accepted.request_id


async def test_subscribe_to_a_failing_model(gateway: Running) -> None:
    """A failing model ends Subscribe with its own error, after accepted and the last status."""
    submit = request("fal-ai/fast-sdxl", '{"num_images": 99}')
    messages, failed = await messages_and_failure(gateway.stub.Subscribe(v1.SubscribeRequest(submit=submit)))
    assert kinds(messages) == ["accepted", "status"]
    assert (messages[-1].status.state, messages[-1].status.outcome) == (COMPLETED, FAILED)
    assert (failed.code, failed.fields) == ("INVALID_ARGUMENT", ["input.prompt", "input.num_images"])
    assert failed.info.metadata["request_id"] == messages[0].accepted.request_id


async def test_subscribe_attached(gateway: Running) -> None:
    """Subscribe with attach follows a request that was submitted before, and submits nothing."""
    handle = await submitted(gateway, "emulator/sleep", '{"seconds":0.2}')
    messages = await collected(gateway.stub.Subscribe(v1.SubscribeRequest(attach=handle)))
    assert messages[0].accepted == handle
    assert messages[-1].result.output.json == '{"slept":0.2}'


async def test_subscribe_without_a_target(gateway: Running, fal: Fal) -> None:
    """Subscribe without submit or attach is refused; faults inside submit are named with their path."""
    failed = await failure_of(collected(gateway.stub.Subscribe(v1.SubscribeRequest())))
    assert failed.fields == ["target"]
    asked = v1.SubscribeRequest(submit=request("x", "[]"))
    asked.heartbeat_interval.FromMilliseconds(10)
    failed = await failure_of(collected(gateway.stub.Subscribe(asked)))
    assert failed.fields == ["submit.endpoint_id", "submit.input.json", "heartbeat_interval"]
    assert fal.received() == []


@pytest.mark.parametrize(
    ("policy", "attaches", "cancels"),
    [
        pytest.param("UNSPECIFIED", False, True, id="submitted, by default"),
        pytest.param("UNSPECIFIED", True, False, id="attached, by default"),
        pytest.param("DETACH", False, False, id="submitted, detach"),
        pytest.param("CANCEL", True, True, id="attached, cancel"),
    ],
)
async def test_abandoning(gateway: Running, fal: Fal, policy: str, attaches: bool, cancels: bool) -> None:
    """What becomes of the request when the caller leaves is what on_abandon says."""
    asked = v1.SubscribeRequest(on_abandon=v1.AbandonPolicy.Value(f"ABANDON_POLICY_{policy}"))
    if attaches:
        asked.attach.CopyFrom(await submitted(gateway, "emulator/cancellable"))
    else:
        asked.submit.CopyFrom(request("emulator/cancellable"))
    call = gateway.stub.Subscribe(asked)
    async for message in call:
        if message.WhichOneof("kind") == "accepted":
            break
    await arrived(fal, "status_stream")
    call.cancel()
    await closed(fal, "status_stream")
    if cancels:
        await arrived(fal, "cancel")
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while not gateway.logged("request.cancelled"):
                await asyncio.sleep(0.01)
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while not any(line["method"] == "Subscribe" for line in gateway.logged("call.finished")):
            await asyncio.sleep(0.01)
    assert bool(fal.received(operation="cancel")) == cancels

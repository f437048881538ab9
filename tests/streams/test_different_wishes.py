"""Callers who follow one request and want different things of its end."""

import asyncio

from tests.conftest import Fal, Running
from tests.service.test_queue_calls import submitted, waiting
from tests.service.test_run import arrived
from tests.streams.test_shared_watching import LONG, collected_logs, flows, last_of

from falrpc import v1

COMPLETED = v1.RequestState.REQUEST_STATE_COMPLETED
SUCCEEDED = v1.RequestOutcome.REQUEST_OUTCOME_SUCCEEDED
READING_SECONDS = 3.0  # how long fal takes for an outcome; it is given up after 5 s


async def test_a_result_does_not_wait_for_others(gateway: Running, fal: Fal) -> None:
    """A Result that comes while the outcome is read for others is told at once that the request is completed."""
    fal.will("slow", operation="result", seconds=READING_SECONDS)
    handle = await submitted(gateway, "emulator/echo")
    following = gateway.stub.StreamStatus(v1.StreamStatusRequest(handle=handle), timeout=LONG)
    ending = asyncio.create_task(last_of(following))
    await arrived(fal, "result")
    answer = await gateway.stub.Result(waiting(handle, 2))
    assert answer.output.json
    assert not ending.done()
    assert (await ending).status.outcome == SUCCEEDED
    assert flows(fal) == 1


async def test_who_wants_the_log_while_the_outcome_is_read(gateway: Running, fal: Fal) -> None:
    """It gets the whole log without another status stream, and the others' end is not read again."""
    fal.will("slow", operation="result", seconds=READING_SECONDS)
    handle = await submitted(gateway, "emulator/logs", '{"count":5,"late":2}')
    plain = gateway.stub.StreamStatus(v1.StreamStatusRequest(handle=handle), timeout=LONG)
    ending = asyncio.create_task(last_of(plain))
    await arrived(fal, "result")
    asked = v1.StreamStatusRequest(handle=handle, include_logs=True)
    entries = await collected_logs(gateway.stub.StreamStatus(asked, timeout=LONG))
    assert len(entries) == len(set(entries)) == 7
    last = await ending
    assert (last.status.state, last.status.outcome) == (COMPLETED, SUCCEEDED)
    assert len(fal.received(operation="status_stream")) == 1
    assert len(fal.received(operation="result")) == 1


async def test_no_look_at_the_log_before_its_time(gateway: Running, fal: Fal) -> None:
    """When fal asks for a pause, the log is not looked at again after COMPLETED."""
    fal.will("fail", operation="status", kind="concurrent_requests_limit", retry_after="60", times=None)
    handle = await submitted(gateway, "emulator/logs", '{"count":5}')
    asked = v1.StreamStatusRequest(handle=handle, include_logs=True)
    entries = await collected_logs(gateway.stub.StreamStatus(asked, timeout=LONG))
    assert len(entries) == 5
    assert len(fal.received(operation="status")) == 1

"""A gateway that is told to stop: what happens when, what its callers are told, and that nothing is lost."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.conftest import Fal
from tests.faults.calls_in_flight import CallsInFlight, is_refused, is_stream, marked, probed
from tests.faults.goodbyes import goaway, health_lost
from tests.faults.history import Told
from tests.faults.processes import gateway_process, unix_seconds
from tests.processes.channels import own_channel
from tests.service.test_leaving import is_idle
from tests.service.test_queue_calls import request, waiting
from tests.service.test_run import arrived, run
from tests.service.test_stream_calls import replayed, stream

from falrpc import v1
from falrpc_server.config import Settings

DELAY_SECONDS = 2.0
DRAIN_SECONDS = 3.5
SHORT_SECONDS = 4.0  # a Run that ends behind the delay and before the limit
LONG = 120  # seconds, beyond every limit here
CHANNELS = 4
SLACK_SECONDS = 0.3  # of clocks in different processes of a busy machine
SOON_SECONDS_MAX = 3.0


def asleep(seconds: float) -> v1.RunRequest:
    return run("emulator/sleep", marked(f'"seconds":{seconds}'))


def queued() -> v1.SubmitRequest:
    return request("emulator/cancellable", marked(f'"seconds":{LONG}'))


def paid_calls() -> Iterator[tuple[str, Any]]:
    """125 streams that cost money and do not end."""
    hanging = '"events":[1],"end":"hang"'
    for _ in range(50):
        yield "Stream", stream("emulator/events", marked(hanging))
        workflow = replayed()
        workflow.input.json = marked(hanging)
        yield "StreamWorkflow", workflow
    for _ in range(25):
        yield "Subscribe", v1.SubscribeRequest(submit=queued())


def reading_calls(handle: v1.RequestHandle) -> Iterator[tuple[str, Any]]:
    """75 streams that only read, and other reads; they do not end either."""
    for _ in range(50):
        yield "StreamStatus", v1.StreamStatusRequest(handle=handle)
    for _ in range(25):
        yield "Subscribe", v1.SubscribeRequest(attach=handle)
    for _ in range(10):
        yield "Result", waiting(handle, LONG)
        yield "Status", v1.StatusRequest(handle=handle)


@pytest.mark.alone
async def test_stopping_under_load(emulator_url: str, fal: Fal) -> None:
    """200 streams and 200 Runs in flight: each step of a drain in its time, each call told the truth, exit 0."""
    known_before = queue_ids(fal)
    async with contextlib.AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(
            gateway_process(emulator_url, drain_delay_seconds=DELAY_SECONDS, drain_seconds=DRAIN_SECONDS)
        )
        channels = [await stack.enter_async_context(own_channel(gateway.address)) for _ in range(CHANNELS)]
        health = await stack.enter_async_context(own_channel(gateway.address))
        probing = await stack.enter_async_context(own_channel(gateway.address))
        load = CallsInFlight(channels)

        submitted = await load.history.call(v1.FalServiceStub(channels[0]), "Submit", queued())
        handle = submitted.messages[0].handle
        fal.will("hang", operation="status", times=None)
        for method, asked in [*paid_calls(), *reading_calls(handle)]:
            load.begin(method, asked)
        for _ in range(100):
            load.begin("Run", asleep(LONG))
        await arrived(fal, "stream", 100)
        await arrived(fal, "status_stream", 25 + 1)  # those who follow the same request share a flow
        await arrived(fal, "status", 10)
        await gateway.has_logged("request.accepted", 1 + 100 + 25)
        for _ in range(100):
            load.begin("Run", asleep(SHORT_SECONDS))
        await arrived(fal, "run", 200)
        until = time.monotonic() + LONG
        while any(not call.messages for call in load.history.calls if is_stream(call)):
            assert time.monotonic() < until
            await asyncio.sleep(0.01)

        over, begun = asyncio.Event(), [asyncio.Event() for _ in range(3)]
        not_serving = asyncio.create_task(health_lost(health, begun[0]))
        goodbye = asyncio.create_task(goaway(gateway.address, begun[1]))
        probing_task = asyncio.create_task(probed(gateway.address, probing, load.history, begun[2], over))
        await asyncio.gather(*(event.wait() for event in begun))
        gateway.send(signal.SIGTERM)
        told = await load.ended()
        over.set()
        code = await gateway.ended()
        probes = await probing_task

    log = gateway.logged()
    assert (code, gateway.half_line) == (0, b"")
    assert "Traceback" not in gateway.errors()
    assert log[-1]["event"] == "server.stopped"
    await is_idle(fal)

    check_times(log, await not_serving, await goodbye, probes, told)
    for call in told:
        check_end(call)

    evidence = fal.received()
    assert [record for record in evidence if record["operation"] == "cancel"] == []
    sent = {record["body_sha256"] for record in evidence}
    assert not any(probe.body_sha256 in sent for probe in probes if probe.code != "OK")
    accepted = {line["request_id"] for line in log if line["event"] == "request.accepted"}
    known = set().union(*(call.request_ids for call in load.history.calls))
    assert (known - accepted, queue_ids(fal) - known_before - accepted) == (set(), set())
    load.history.calls = [call for call in load.history.calls if not is_refused(call)]
    load.history.check(log, evidence)


def check_times(
    log: list[dict[str, Any]],
    not_serving_at: float,
    goaway_at: float,
    probes: list[Told],
    told: list[Told],
) -> None:
    """Checks what happened when."""
    [draining] = [unix_seconds(line) for line in log if line["event"] == "server.draining"]
    closing, limit = draining + DELAY_SECONDS, draining + DELAY_SECONDS + DRAIN_SECONDS
    assert draining - SLACK_SECONDS < not_serving_at < closing - 1
    assert closing - SLACK_SECONDS < goaway_at < closing + SOON_SECONDS_MAX

    served = [probe for probe in probes if probe.code == "OK"]
    refused = [probe for probe in probes if probe.code != "OK"]
    assert any(not_serving_at < probe.started < closing for probe in served)
    assert any(probe.started < draining for probe in served)
    assert all(probe.ended > closing - SLACK_SECONDS for probe in refused)
    late = [probe for probe in probes if probe.started > goaway_at + SLACK_SECONDS]
    assert late
    assert {probe.code for probe in refused} == {"UNAVAILABLE"}
    assert {probe.delivery for probe in refused} <= {"NOT_SENT", ""}  # none where no server was found
    assert all(probe.code != "OK" for probe in late)

    finished = [call for call in told if call.code == "OK"]
    assert len(finished) == 100
    assert all(closing < call.ended < limit + SLACK_SECONDS for call in finished)
    cut = [call.ended for call in told if call.code != "OK"]
    assert limit - SLACK_SECONDS < min(cut)
    assert max(cut) < limit + SOON_SECONDS_MAX


def check_end(call: Told) -> None:
    """Checks what a call was told that the drain has met."""
    if call.code == "OK":
        assert call.method == "Run"
        assert call.messages[0].output.json == f'{{"slept":{SHORT_SECONDS}}}'
        return
    assert call.reason == "SERVER_DRAINING"
    if not call.is_paid:
        assert (call.code, call.has_retry_info) == ("UNAVAILABLE", True)
        return
    assert (call.code, call.has_retry_info) == ("UNKNOWN", False)
    if call.method == "Run":
        assert (call.delivery, call.request_ids) == ("UNKNOWN", set())
    else:
        [request_id] = call.request_ids
        assert call.delivery == "ACCEPTED"
        assert f'key: "request_id"\n  value: "{request_id}"' in call.status_text


def test_the_default_delay() -> None:
    """By default new calls are served for 5 s after health has gone."""
    assert Settings.model_fields["drain_delay_seconds"].default == 5.0


async def test_stopping_while_idle(emulator_url: str, fal: Fal) -> None:
    """Without calls the gateway ends right after the delay, with exit code 0."""
    async with gateway_process(emulator_url, drain_delay_seconds=0.5, drain_seconds=60) as gateway:
        gateway.send(signal.SIGTERM)
        assert await gateway.ended() == 0
    [begin], [end] = map(gateway.logged, ("server.draining", "server.stopped"))
    assert 0.5 <= unix_seconds(end) - unix_seconds(begin) < 0.5 + SOON_SECONDS_MAX
    assert "Traceback" not in gateway.errors()


@pytest.mark.parametrize("moment", ["in the delay", "after the delay"])
async def test_a_second_sigterm(emulator_url: str, fal: Fal, moment: str) -> None:
    """A second SIGTERM ends the calls at once, with the same words; exit code 0 and still no remote cancel."""
    delay_seconds = LONG if moment == "in the delay" else 0
    async with (
        gateway_process(emulator_url, drain_delay_seconds=delay_seconds, drain_seconds=LONG) as gateway,
        own_channel(gateway.address) as channel,
        own_channel(gateway.address) as other,
    ):
        load = CallsInFlight([channel])
        submitted = await load.history.call(v1.FalServiceStub(channel), "Submit", queued())
        load.begin("Run", asleep(LONG))
        load.begin("Stream", stream("emulator/events", marked('"events":[1],"end":"hang"')))
        load.begin("Subscribe", v1.SubscribeRequest(submit=queued()))
        load.begin("StreamStatus", v1.StreamStatusRequest(handle=submitted.messages[0].handle))
        await arrived(fal, "run")
        await arrived(fal, "status_stream", 2)
        await gateway.has_logged("request.accepted", 3)
        begun = [asyncio.Event(), asyncio.Event()]
        lost = asyncio.create_task(health_lost(other, begun[0]))
        goodbye = asyncio.create_task(goaway(gateway.address, begun[1]))
        await asyncio.gather(*(event.wait() for event in begun))
        gateway.send(signal.SIGTERM)
        await (lost if moment == "in the delay" else goodbye)
        assert not any(task.done() for task in load.tasks)
        again = time.time()
        gateway.send(signal.SIGTERM)
        for call in await load.ended():
            check_end(call)
        assert await gateway.ended() == 0
        await asyncio.gather(lost, goodbye)
    [stopped] = gateway.logged("server.stopped")
    assert unix_seconds(stopped) - again < SOON_SECONDS_MAX
    assert "Traceback" not in gateway.errors()
    await is_idle(fal)
    assert fal.received(operation="cancel") == []
    load.history.check(gateway.logged(), fal.received())


@pytest.mark.parametrize("waits", [True, False], ids=["noticed before", "noticed after"])
async def test_abandoned_just_before(emulator_url: str, fal: Fal, waits: bool) -> None:
    """A Subscribe that its caller leaves just before SIGTERM is still cancelled at fal, before the exit."""
    fal.will("slow", operation="cancel", seconds=1)
    async with (
        gateway_process(emulator_url, drain_delay_seconds=0) as gateway,
        own_channel(gateway.address) as channel,
    ):
        call = v1.FalServiceStub(channel).Subscribe(v1.SubscribeRequest(submit=queued()))
        await arrived(fal, "status_stream")
        call.cancel()
        if waits:
            await gateway.has_logged("call.finished")
        gateway.send(signal.SIGTERM)
        assert await gateway.ended() == 0
    [record] = fal.received(operation="cancel")
    assert (record["outcome"], record["status"]) == ("answered", 202)
    [line] = gateway.logged("request.cancelled")
    assert line["outcome"] == "CANCELLATION_REQUESTED"
    assert gateway.logged()[-1]["event"] == "server.stopped"


def queue_ids(fal: Fal) -> set[str]:
    """The ids of all queue requests at fal."""
    listed = httpx.get(f"{fal.url}/_emulator/requests", trust_env=False).raise_for_status().json()
    return {one["request_id"] for one in listed}

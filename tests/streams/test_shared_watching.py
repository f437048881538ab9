"""Any number of callers who follow one request share one flow of states from fal."""

import asyncio
import json
from collections import Counter
from typing import Any

import grpc
import pytest
from tests.conftest import Fal, Running, running_gateway
from tests.failures import messages_and_failure
from tests.processes.channels import own_channels
from tests.service.test_leaving import is_idle
from tests.service.test_queue_calls import request, submitted, waiting
from tests.service.test_run import arrived

from falrpc import v1

LONG = 120  # seconds, beyond every limit here


def flows(fal: Fal) -> int:
    """How many status streams and looks fal has seen."""
    return len(fal.received(operation="status_stream")) + len(fal.received(operation="status"))


async def last_of(call: Any) -> Any:
    """The last message of a stream."""
    return (await rest_of(call))[-1]


async def rest_of(call: Any) -> list[Any]:
    messages = []
    while (message := await call.read()) is not grpc.aio.EOF:
        messages.append(message)
    return messages


async def test_a_thousand_callers(gateway: Running, fal: Fal) -> None:
    """1,000 callers on one request are one status stream at fal, and all of them see it end."""
    handle = await submitted(gateway, "emulator/cancellable")
    asked = v1.StreamStatusRequest(handle=handle)
    async with own_channels(gateway.address, 4) as channels:
        stubs = [v1.FalServiceStub(channel) for channel in channels]
        calls = [stubs[n % 4].StreamStatus(asked, timeout=LONG) for n in range(1_000)]
        firsts = await asyncio.gather(*(call.read() for call in calls))
        assert {first.status.state for first in firsts} <= {
            v1.RequestState.REQUEST_STATE_IN_QUEUE,
            v1.RequestState.REQUEST_STATE_IN_PROGRESS,
        }
        assert flows(fal) == 1
        await gateway.stub.Cancel(v1.CancelRequest(handle=handle))
        lasts = await asyncio.gather(*map(last_of, calls))
    assert Counter((m.status.state, m.status.outcome) for m in lasts) == {
        (v1.RequestState.REQUEST_STATE_COMPLETED, v1.RequestOutcome.REQUEST_OUTCOME_CANCELLED): 1_000
    }
    assert flows(fal) == 1
    assert len(fal.received(operation="result")) <= 1  # the outcome is read once for all


async def test_methods_share_it(gateway: Running, fal: Fal) -> None:
    """StreamStatus, Subscribe and a Result that waits follow the same flow, and each gets its own end."""
    handle = (await gateway.stub.Submit(request("emulator/sleep", '{"seconds":0.6}'))).handle
    following = gateway.stub.StreamStatus(v1.StreamStatusRequest(handle=handle))
    attached = gateway.stub.Subscribe(v1.SubscribeRequest(attach=handle))
    result = gateway.stub.Result(waiting(handle, 60))
    status, subscribed, answer = await asyncio.gather(last_of(following), last_of(attached), result)
    assert status.status.outcome == v1.RequestOutcome.REQUEST_OUTCOME_SUCCEEDED
    assert subscribed.result.output.json == answer.output.json
    assert flows(fal) == 1


async def test_a_late_joiner(gateway: Running, fal: Fal) -> None:
    """Who joins later gets the state at once, without another call to fal."""
    handle = await submitted(gateway, "emulator/cancellable")
    first = gateway.stub.StreamStatus(v1.StreamStatusRequest(handle=handle), timeout=LONG)
    shown = await first.read()
    await arrived(fal, "status_stream")
    late = gateway.stub.StreamStatus(v1.StreamStatusRequest(handle=handle), timeout=LONG)
    async with asyncio.timeout(10):
        assert (await late.read()).status.state in (
            shown.status.state,
            v1.RequestState.REQUEST_STATE_IN_PROGRESS,
        )
    assert flows(fal) == 1
    first.cancel()
    late.cancel()


async def test_it_ends_with_the_last_caller(gateway: Running, fal: Fal) -> None:
    """The flow goes on while anybody follows, and is cut when the last one leaves."""
    handle = await submitted(gateway, "emulator/cancellable")
    calls = [gateway.stub.StreamStatus(v1.StreamStatusRequest(handle=handle), timeout=LONG) for _ in range(3)]
    await asyncio.gather(*(call.read() for call in calls))
    for call in calls[:2]:
        call.cancel()
    await asyncio.sleep(0.2)
    assert (await fal.seen(operation="status_stream"))[0]["outcome"] == "open"
    calls[2].cancel()
    await is_idle(fal)
    assert (await fal.seen(operation="status_stream"))[0]["outcome"] == "client_closed"


async def test_log_entries_for_those_who_want_them(gateway: Running, fal: Fal) -> None:
    """Who asks for the log gets every entry once, from the first on, although another one watched before."""
    handle = (await gateway.stub.Submit(request("emulator/logs", '{"count":20,"late":2}'))).handle
    without = gateway.stub.StreamStatus(v1.StreamStatusRequest(handle=handle), timeout=LONG)
    await without.read()
    asked = v1.StreamStatusRequest(handle=handle, include_logs=True)
    calls = [gateway.stub.StreamStatus(asked, timeout=LONG) for _ in range(3)]
    plain, *logged = await asyncio.gather(collected_logs(without), *map(collected_logs, calls))
    assert plain == []
    assert logged[0] == logged[1] == logged[2]
    assert len(logged[0]) == len(set(logged[0])) == 22


async def collected_logs(call: Any) -> list[str]:
    return [entry.message for message in await rest_of(call) for entry in message.logs.entries]


async def test_a_failure_is_everybodys(gateway: Running, fal: Fal) -> None:
    """A request that can't be read ends all its callers with the same status."""
    handle = v1.RequestHandle(endpoint_id="emulator/echo", request_id="no-such-request")
    asked = v1.StreamStatusRequest(handle=handle)
    ended = await asyncio.gather(*(messages_and_failure(gateway.stub.StreamStatus(asked)) for _ in range(20)))
    assert {(failed.code, failed.info.reason) for _, failed in ended} == {("NOT_FOUND", "REQUEST_NOT_FOUND")}


async def test_one_flow_for_two_endpoint_ids(gateway: Running, fal: Fal) -> None:
    """Callers who name a request with different paths share its flow; each is told its own endpoint id."""
    ids = ["emulator/echo", "emulator/echo/one-path", "emulator/echo/other"]
    fal.will("slow", operation="status_stream", seconds=0.5)
    calls = []
    for endpoint_id in ids:
        handle = v1.RequestHandle(endpoint_id=endpoint_id, request_id="no-such-request")
        calls.append(messages_and_failure(gateway.stub.StreamStatus(v1.StreamStatusRequest(handle=handle))))
    ended = await asyncio.gather(*calls)
    assert [failed.info.metadata["endpoint_id"] for _, failed in ended] == ids
    assert {(failed.code, failed.info.reason) for _, failed in ended} == {("NOT_FOUND", "REQUEST_NOT_FOUND")}
    assert len(fal.received(operation="status_stream")) == 1


async def test_an_unknown_state_is_noticed_once(emulator_url: str, fal: Fal) -> None:
    """A state that we don't know is logged when it is first seen, not at each look."""
    pace = {"poll_first_seconds": 0.05, "poll_seconds_max": 0.05}
    async with running_gateway(emulator_url=emulator_url, **pace) as gateway:
        handle = await submitted(gateway, "emulator/cancellable")
        fal.will("fail", operation="status_stream", kind="internal_server_error")
        for word in ("PAUSED", "THAWING"):
            fal.will("answer", operation="status", status=200, body=json.dumps({"status": word}), times=4)
        call = gateway.stub.StreamStatus(v1.StreamStatusRequest(handle=handle), timeout=LONG)
        await arrived(fal, "status", 9)
        told = [(line["what"], line["value"]) for line in gateway.logged("fal.noticed")]
        assert told == [("unknown_state", "PAUSED"), ("unknown_state", "THAWING")]
        call.cancel()


@pytest.mark.parametrize("streams", [True, False], ids=["status streams", "polls"])
async def test_the_budget_of_status_calls(emulator_url: str, fal: Fal, streams: bool) -> None:
    """However many requests are watched, fal sees no more status calls a second than allowed, and all end."""
    rate, count = 50.0, 200
    limits = {"status_calls_per_second": rate, "breaker_failures": 1_000_000}
    async with running_gateway(emulator_url=emulator_url, **limits) as gateway:
        if not streams:
            fal.will("edge_page", operation="status_stream", times=None)
        handles = await asyncio.gather(*(submitted(gateway, "emulator/cancellable") for _ in range(count)))
        calls = [
            gateway.stub.StreamStatus(v1.StreamStatusRequest(handle=handle), timeout=LONG)
            for handle in handles
        ]
        await asyncio.gather(*(call.read() for call in calls))
        await asyncio.gather(*(gateway.stub.Cancel(v1.CancelRequest(handle=handle)) for handle in handles))
        lasts = await asyncio.gather(*map(last_of, calls))
        assert {m.status.state for m in lasts} == {v1.RequestState.REQUEST_STATE_COMPLETED}
        records = [*fal.received(operation="status_stream"), *fal.received(operation="status")]
        moments = sorted(record["at"] for record in records)
        # Over all of it: a second in which this machine stood still shows more of them than left.
        assert len(moments) - 1 <= rate * 1.1 * (moments[-1] - moments[0])

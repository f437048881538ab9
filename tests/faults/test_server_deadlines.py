"""The server's own limit on a call's time: what callers without a deadline, or with a late one, are told."""

import asyncio
import time
from typing import Any

import pytest
from tests.conftest import Fal, running_gateway
from tests.failures import Failure, unpacked
from tests.faults.broken_servers import full_listener
from tests.faults.processes import unix_seconds
from tests.faults.test_deadlines import HANGING, LONG, outcome, silent_calls, upload
from tests.service.test_leaving import is_idle, logged
from tests.service.test_queue_calls import request
from tests.service.test_run import run
from tests.service.test_stream_calls import replayed, stream

from falrpc import v1

CAP_SECONDS = 1.0  # time enough to reach fal
BLOCKED_SECONDS_MAX = 1.5  # more than the cap: for a caller that does not read


@pytest.mark.parametrize("settings", ["default_deadline_seconds", "deadline_seconds_max"])
async def test_the_servers_own_limit(emulator_url: str, fal: Fal, settings: str) -> None:
    """A call without a deadline ends at the server's, told what is known of its request; so does its exchange."""
    async with running_gateway(emulator_url=emulator_url, **{settings: CAP_SECONDS}) as gateway:
        calls = await silent_calls(gateway, settings)
        for operation in HANGING:
            fal.will("hang", operation=operation, times=None)
        del calls["Upload, PUT"]
        # With a cap even a caller that is more patient is ended.
        timeout = LONG if settings == "deadline_seconds_max" else None
        failures = await asyncio.gather(
            *(
                failed(gateway.stub, method, asked or upload(way), timeout)
                for way, (method, asked, _) in calls.items()
            )
        )
        told = dict(zip(calls, failures, strict=True))
        await is_idle(fal)
    assert {failure.code for failure in failures} == {"DEADLINE_EXCEEDED"}
    assert {failure.info.reason for failure in failures} == {"CALL_DEADLINE_EXCEEDED"}
    paid = ("Run", "Submit", "Stream", "StreamWorkflow", "Subscribe, submit")
    assert {way: told[way].delivery for way in paid} == dict.fromkeys(paid, "UNKNOWN")
    attached = calls["Subscribe, attach"][1].attach
    assert told["Subscribe, attach"].info.metadata["request_id"] == attached.request_id
    assert {record["outcome"] for record in fal.received()} == {
        "answered",
        "client_closed",
    }


@pytest.mark.parametrize("method", ["Run", "Submit", "Stream", "StreamWorkflow", "Subscribe"])
async def test_the_limit_while_connecting(method: str) -> None:
    """A paid call whose time is over before there is a connection to fal is told NOT_SENT."""
    asked = {
        "Run": run("emulator/echo"),
        "Submit": request("emulator/echo"),
        "Stream": stream("emulator/events"),
        "StreamWorkflow": replayed(),
        "Subscribe": v1.SubscribeRequest(submit=request("emulator/echo")),
    }[method]
    with full_listener() as url:
        async with running_gateway(emulator_url=url, default_deadline_seconds=0.3) as gateway:
            failure = await failed(gateway.stub, method, asked)
    assert (failure.code, failure.info.reason) == ("DEADLINE_EXCEEDED", "CALL_DEADLINE_EXCEEDED")
    assert failure.delivery == "NOT_SENT"


@pytest.mark.parametrize("method", ["Run", "Stream", "StreamWorkflow", "Subscribe"])
async def test_the_limit_after_an_id(emulator_url: str, fal: Fal, method: str) -> None:
    """A paid call whose time is over after fal gave it an id is told ACCEPTED and the id."""
    hanging = '{"events":[1],"end":"hang"}'
    asked = {
        # the stream of another model: an answer whose body takes for ever
        "Run": run("emulator/events/stream", hanging),
        "Stream": stream("emulator/events", hanging),
        "StreamWorkflow": replayed("1", end="hang"),
        "Subscribe": v1.SubscribeRequest(submit=request("emulator/cancellable")),
    }[method]
    async with running_gateway(emulator_url=emulator_url, default_deadline_seconds=CAP_SECONDS) as gateway:
        failure = await failed(gateway.stub, method, asked)
        [line] = gateway.logged("request.accepted")
    assert (failure.code, failure.info.reason) == ("DEADLINE_EXCEEDED", "CALL_DEADLINE_EXCEEDED")
    assert (failure.delivery, failure.info.metadata["request_id"]) == ("ACCEPTED", line["request_id"])
    await is_idle(fal)


async def test_a_caller_that_does_not_read(emulator_url: str, fal: Fal) -> None:
    """A stream whose caller reads nothing ends soon after the server's limit, though its writes are blocked."""
    text = '{"events":1000,"seconds":0,"bytes":900000}'
    async with running_gateway(emulator_url=emulator_url, deadline_seconds_max=1) as gateway:
        started = time.time()
        call = gateway.stub.Stream(stream("emulator/ticks", text))
        try:
            await logged(gateway, "call.finished")
            [line] = gateway.logged("call.finished")
            assert line["code"] == "DEADLINE_EXCEEDED"
            assert line["messages"] < 900  # it was blocked indeed
            assert unix_seconds(line) - started <= 1 + BLOCKED_SECONDS_MAX
            await is_idle(fal)
        finally:
            call.cancel()


async def failed(stub: Any, method: str, asked: Any, timeout: float | None = None) -> Failure:
    """Makes a whole call that must fail."""
    error = await outcome(stub, method, asked, timeout)
    assert error is not None
    return unpacked(error)

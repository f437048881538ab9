"""Calls that are stopped at each of their awaits in turn, until they run to their end untouched.

The calls run over real sockets, through all interceptors, to the emulator. The gateway has one connection to
fal, so that a slot that is lost is missed by the very next call.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from tests.conftest import Fal, Running, running_gateway
from tests.faults.history import History, Told
from tests.faults.leaks import State, all_heard, fal_is_idle
from tests.faults.stepping import Closed, Mode, Step, Stepper
from tests.faults.ways import WAYS, Caller, Way
from tests.service.test_run import WAIT_SECONDS_MAX

STEPS_MAX = 200
CALLS_AFTER = 20
SETTINGS = {
    "connections_max": 1,
    "keepalive_seconds": 0.001,  # each call connects
    "heartbeat_seconds": 3_600,
    "poll_first_seconds": 0.005,
    "resends_max": 1,
    "retry_reserve": 10_000,
}


@pytest.fixture(scope="module")
def stepper() -> Iterator[Stepper]:
    with Stepper.in_place() as stepper:
        yield stepper


@pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
async def test_stopped_at_every_await(
    emulator_url: str, fal: Fal, stepper: Stepper, way: Way, mode: Mode
) -> None:
    """A call that is stopped at whatever await ends, is logged once, and leaves nothing behind."""
    async with running_gateway(emulator_url=emulator_url, **{**SETTINGS, **way.settings}) as gateway:
        caller = Caller(gateway.stub, History(), fal)
        with all_heard():
            await caller.call_all_ways()
            await caller.put_scenarios(way)
            before = State()
            steps = await stepped_through(stepper, gateway, caller, way, mode)
            await fal_is_idle(fal)
            await before.is_back()
            for _ in range(CALLS_AFTER):
                assert (await caller.plain()).code == "OK"
            await before.is_back()
        await caller.history.finished(gateway.logged)
        if way.is_json_as_sent:
            caller.history.check(gateway.logged(), fal.received())
        if way.cancels_when_abandoned:
            abandoned_requests_are_cancelled(gateway, fal, steps)
        cuts = sum(record["outcome"] == "client_closed" for record in fal.received())
        assert cuts >= way.cuts_min, f"only {cuts} exchanges were cut when their calls were stopped"
    assert len(steps) - 1 >= way.suspensions_min, f"only {len(steps) - 1} awaits were seen"


async def stepped_through(
    stepper: Stepper, gateway: Running, caller: Caller, way: Way, mode: Mode
) -> list[Step]:
    """Makes the call again and again, stopped one await later each time, until one is not stopped."""
    steps: list[Step] = []
    for number in range(STEPS_MAX):
        asked = await way.ask(caller)
        step = stepper.next_call(number, mode)
        steps.append(step)
        told = await stopped(caller, way, asked, step)
        await fal_is_idle(caller.fal)
        lines = gateway.logged("call.finished")
        [line] = [line for line in lines if line["call_id"] == step.call_id]
        assert line["method"] == way.method
        if step.stopped_at is None:
            assert (told.code, line["code"]) == (way.code, way.code)
            return steps
        kind = Closed if mode is Mode.CLOSED else asyncio.CancelledError
        assert isinstance(step.error, kind), f"stopped at await {number}, it ended with {step.error!r}"
        is_known = mode is not Mode.CLOSED  # to the log: nothing that runs on ends like that
        logged = {"CANCELLED", way.code} - {"OK"}  # its own code when its status was on the way already
        assert not is_known or line["code"] in logged, f"stopped at await {number}, it was logged {line}"
    raise AssertionError(f"after {STEPS_MAX} awaits the call still does not run to its end")


async def stopped(caller: Caller, way: Way, asked: Any, step: Step) -> Told:
    """Makes one call. A handler that was stopped sends no status: then its client leaves, too."""
    told, call, reading = caller.begin(way.method, asked)
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        await step.ended.wait()
        if step.stopped_at is not None:
            told.was_cancelled = True
            call.cancel()
        await reading
    return told


def abandoned_requests_are_cancelled(gateway: Running, fal: Fal, steps: list[Step]) -> None:
    """A request whose id was known when its caller left is cancelled at fal once, and the log has it."""
    cancels = Counter(record["path"].split("/")[-2] for record in fal.received(operation="cancel"))
    logged = Counter(line["request_id"] for line in gateway.logged("request.cancelled"))
    assert cancels == logged
    assert set(cancels.values()) <= {1}
    stopped = {step.call_id for step in steps if step.stopped_at is not None}
    lines = [line for line in gateway.logged("call.finished") if line["call_id"] in stopped]
    known = {line["request_id"] for line in lines} - {""}
    # Once fal has said COMPLETED there is nothing to cancel, and whether that was read nobody else knows.
    completed = {
        record["path"].split("/")[-3]
        for record in fal.received(operation="status_stream")
        if record["outcome"] == "answered"
    }
    assert known - completed <= set(cancels) <= known
    assert known - completed, "no call was stopped while its request was in the queue"

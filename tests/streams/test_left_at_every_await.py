"""The flow that callers share is ended at each of its awaits: nothing of it is left."""

import asyncio
from typing import Any

import pytest
from tests.conftest import Fal, running_gateway
from tests.faults.leaks import State, all_heard, fal_is_idle
from tests.faults.stepping import Mode, Step
from tests.service.test_queue_calls import request
from tests.service.test_run import WAIT_SECONDS_MAX

from falrpc import v1
from falrpc_server.watchers import watcher
from falrpc_server.watchers.watcher import Watcher

STEPS_MAX = 200
SETTINGS = {"connections_max": 1, "keepalive_seconds": 0.001, "poll_first_seconds": 0.005}


@pytest.mark.parametrize("mode", [Mode.ONCE, Mode.TWICE], ids=lambda mode: mode.value)
@pytest.mark.parametrize("streams", [True, False], ids=["status stream", "polls"])
async def test_left_at_every_await(
    emulator_url: str, fal: Fal, monkeypatch: pytest.MonkeyPatch, streams: bool, mode: Mode
) -> None:
    """A flow whose last caller leaves while it waits for whatever it waits for gives everything back."""
    follow = Watcher._follow
    step = Step(0, mode)

    async def stepped(self: Watcher, logs: bool) -> None:
        await step.drive(follow(self, logs))

    monkeypatch.setattr(Watcher, "_follow", stepped)
    monkeypatch.setattr(watcher, "LATE_LOGS_SECONDS", (0.06, 0.01, 0.01))
    if not streams:
        fal.will("fail", operation="status_stream", kind="internal_server_error", times=None)
    async with running_gateway(emulator_url=emulator_url, **SETTINGS) as gateway:
        submit = request("emulator/logs", '{"count":2,"late":1}')
        await gateway.stub.Submit(submit)  # the channel and all that is kept for the next call
        before = State()
        with all_heard():
            for at in range(STEPS_MAX):
                handle = (await gateway.stub.Submit(submit)).handle
                step = Step(at, mode)
                asked = v1.StreamStatusRequest(handle=handle, include_logs=True)
                call = gateway.stub.StreamStatus(asked, timeout=60)
                reading = asyncio.create_task(last_of(call))
                async with asyncio.timeout(WAIT_SECONDS_MAX):
                    await step.ended.wait()
                    if step.stopped_at is None:
                        last = await reading
                        break
                    call.cancel()
                    await reading
                await fal_is_idle(fal)
            else:
                raise AssertionError(f"after {STEPS_MAX} awaits the flow still does not run to its end")
            await fal_is_idle(fal)
            await before.is_back()
        assert at >= 5, f"only {at} awaits were seen"
        assert last.status.state == v1.RequestState.REQUEST_STATE_COMPLETED
        assert last.status.outcome == v1.RequestOutcome.REQUEST_OUTCOME_SUCCEEDED


async def last_of(call: Any) -> Any:
    last = None
    try:
        async for message in call:
            last = message
    except asyncio.CancelledError:
        if not call.cancelled():
            raise
    return last

"""How a request that is followed ended: read once for all, with patience, and never for long."""

import asyncio
import time
from collections import Counter
from typing import Any

import pytest
from tests.conftest import Fal, Running
from tests.service.test_queue_calls import submitted
from tests.service.test_run import arrived
from tests.streams.test_shared_watching import LONG, flows, last_of, rest_of

from falrpc import v1
from falrpc_server.fal_http import results

COMPLETED = v1.RequestState.REQUEST_STATE_COMPLETED
SUCCEEDED = v1.RequestOutcome.REQUEST_OUTCOME_SUCCEEDED
UNSPECIFIED = v1.RequestOutcome.REQUEST_OUTCOME_UNSPECIFIED


def following(gateway: Running, handle: v1.RequestHandle) -> Any:
    return gateway.stub.StreamStatus(v1.StreamStatusRequest(handle=handle), timeout=LONG)


async def test_it_is_read_once_for_all(gateway: Running, fal: Fal) -> None:
    """However many follow a request that succeeds, its result is looked at once."""
    handle = await submitted(gateway, "emulator/sleep", '{"seconds":3}')  # time for all to join
    lasts = await asyncio.gather(*(last_of(following(gateway, handle)) for _ in range(50)))
    assert Counter((last.status.state, last.status.outcome) for last in lasts) == {(COMPLETED, SUCCEEDED): 50}
    assert len(fal.received(operation="result")) == 1
    assert flows(fal) == 1


async def test_who_joins_while_it_is_read(gateway: Running, fal: Fal) -> None:
    """Callers who come while the outcome is read wait for it with the others: no second flow is opened."""
    fal.will("slow", operation="result", seconds=3.0)  # it is given up after 5 s
    handle = await submitted(gateway, "emulator/echo")
    first = asyncio.create_task(last_of(following(gateway, handle)))
    await arrived(fal, "result")
    joined = [asyncio.create_task(rest_of(following(gateway, handle))) for _ in range(10)]
    assert (await first).status.outcome == SUCCEEDED
    for messages in await asyncio.gather(*joined):
        assert (messages[-1].status.state, messages[-1].status.outcome) == (COMPLETED, SUCCEEDED)
    assert flows(fal) == 1
    assert len(fal.received(operation="result")) == 1


async def test_a_result_that_hangs(gateway: Running, fal: Fal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end is told without the outcome when the result can't be read soon."""
    assert results.OUTCOME_SECONDS_MAX < 10
    monkeypatch.setattr(results, "OUTCOME_SECONDS_MAX", 0.5)
    fal.will("hang", operation="result", times=None)
    handle = await submitted(gateway, "emulator/echo")
    started = time.monotonic()
    last = await last_of(following(gateway, handle))
    assert (last.status.state, last.status.outcome) == (COMPLETED, UNSPECIFIED)
    assert time.monotonic() - started < 20  # a read may be silent for a minute


@pytest.mark.parametrize("status", [400, 202])
async def test_a_result_that_comes_late(gateway: Running, fal: Fal, status: int) -> None:
    """A result that is not there yet is looked at again, as Subscribe does."""
    body = '{"detail":"Request is still in progress"}'
    fal.will("answer", operation="result", status=status, body=body, times=2)
    handle = await submitted(gateway, "emulator/echo")
    last = await last_of(following(gateway, handle))
    assert (last.status.state, last.status.outcome) == (COMPLETED, SUCCEEDED)
    assert len(fal.received(operation="result")) == 3

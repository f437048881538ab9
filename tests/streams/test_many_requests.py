"""Many requests that are followed at once share what status calls there are."""

import asyncio
import itertools
import time
from collections import Counter

import pytest
from tests.conftest import Fal, running_gateway
from tests.processes.channels import own_channels
from tests.service.test_queue_calls import request
from tests.streams.test_shared_watching import rest_of

from falrpc import v1

REQUESTS = 1_000
CONNECTIONS = 2  # each has room for 500 calls
RATE = 50.0  # status calls in a second
WINDOW_SECONDS = 10  # a second in which this machine stood still shows more calls than left
ENDS_SECONDS = 20.0  # from the first end to the last
LATE_SECONDS_MAX = 40.0
LONG = 110  # seconds, beyond every limit here
AT_ONCE = 50


@pytest.mark.parametrize("streams", [True, False], ids=["status streams", "polls"])
async def test_a_thousand_requests(emulator_url: str, fal: Fal, streams: bool) -> None:
    """1,000 requests are followed with 50 status calls a second, and each end is seen within 40 s."""
    limits = {"status_calls_per_second": RATE, "breaker_failures": 1_000_000}
    async with (
        running_gateway(emulator_url=emulator_url, **limits) as gateway,
        own_channels(gateway.address, CONNECTIONS) as channels,
    ):
        followers = itertools.cycle(map(v1.FalServiceStub, channels))
        if not streams:
            fal.will("edge_page", operation="status_stream", times=None)
        gate = asyncio.Semaphore(AT_ONCE)

        async def submitted() -> v1.RequestHandle:
            async with gate:
                asked = request("emulator/cancellable", '{"seconds":600}')
                return (await gateway.stub.Submit(asked)).handle

        async def seen_late(handle: v1.RequestHandle) -> tuple[float, int]:
            """How long after its end the request's end was seen, and which state was seen."""
            following = asyncio.create_task(
                rest_of(next(followers).StreamStatus(v1.StreamStatusRequest(handle=handle), timeout=LONG))
            )
            # Ends at all times: before the first look, between looks, and long after.
            await asyncio.sleep(ends.pop())
            async with gate:
                await gateway.stub.Cancel(v1.CancelRequest(handle=handle))
            ended_at = time.monotonic()
            messages = await following
            return time.monotonic() - ended_at, messages[-1].status.outcome

        handles = await asyncio.gather(*(submitted() for _ in range(REQUESTS)))
        ends = [ENDS_SECONDS * n / REQUESTS for n in range(REQUESTS)]
        found = await asyncio.gather(*map(seen_late, handles))
    late = sorted(seconds for seconds, _ in found)
    outcomes = Counter(outcome for _, outcome in found)
    moments = sorted(
        record["at"]
        for operation in ("status_stream", "status")
        for record in fal.received(operation=operation)
    )
    per_second = busiest(moments, WINDOW_SECONDS) / WINDOW_SECONDS
    print(  # seen with -s
        f"{len(moments)} status calls, {per_second:.1f} a second in the busiest {WINDOW_SECONDS} s, "
        f"{busiest(moments, 1)} in the busiest second; ends seen after "
        f"{late[len(late) // 2]:.1f} s (half of them), {late[-1]:.1f} s (all)"
    )
    assert outcomes == {v1.RequestOutcome.REQUEST_OUTCOME_CANCELLED: REQUESTS}
    assert per_second <= RATE * 1.1
    assert late[-1] <= LATE_SECONDS_MAX


def busiest(moments: list[float], seconds: float) -> int:
    """The most moments within so many seconds."""
    most = first = 0
    for last, moment in enumerate(moments):
        while moments[first] <= moment - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most

"""Gateways that are killed under load: what their clients were told is in the log, and nothing is sent twice."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from tests.conftest import Fal
from tests.faults.history import History
from tests.faults.processes import gateway_process
from tests.processes.channels import own_channel
from tests.service.test_queue_calls import request
from tests.service.test_run import run
from tests.service.test_stream_calls import stream

from falrpc import v1

WORKERS = 200
CHANNELS = 4
SEEDS = range(5)
LOAD_SECONDS = (0.5, 2.0)  # after the first call has ended: the moment of the kill, or a little later
FEWEST_OF_EACH = 10  # calls of each method that have got an id by then, or the load was none
LONG = 60


@pytest.mark.parametrize("seed", SEEDS)
async def test_killed_under_load(emulator_url: str, fal: Fal, seed: int) -> None:
    """Every id that a client has is in the log, exactly once, and each POST was received at most once."""
    chance = random.Random(seed)
    history = History()
    inputs = requests(seed)
    async with contextlib.AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(gateway_process(emulator_url))
        channels = [await stack.enter_async_context(own_channel(gateway.address)) for _ in range(CHANNELS)]
        workers = [
            asyncio.create_task(calls_until_killed(channels[n % CHANNELS], inputs, history))
            for n in range(WORKERS)
        ]
        await gateway.has_logged("call.finished")
        await asyncio.sleep(chance.uniform(*LOAD_SECONDS))
        async with asyncio.timeout(LONG):
            while fewest_with_ids(history) < FEWEST_OF_EACH:
                await asyncio.sleep(0.01)
        await gateway.killed()
        async with asyncio.timeout(LONG):
            await asyncio.gather(*workers)

        log = gateway.logged()
        accepted = Counter(line["request_id"] for line in log if line["event"] == "request.accepted")
        told = set().union(*(call.request_ids for call in history.calls))
        assert told - accepted.keys() == set()
        assert [id for id, count in accepted.items() if count > 1] == []
        cut = [call for call in history.calls if call.code == "UNAVAILABLE"]
        assert len(cut) >= WORKERS  # each worker lost the call that it was in
        assert not any(call.has_error_info for call in cut)
        assert gateway.half_line == b""

        evidence = await fal.seen()
        posts = Counter(record["body_sha256"] for record in evidence if record["body_bytes"])
        assert [body for body, count in posts.items() if count > 1] == []
        history.check(log, evidence, died=True)


METHODS = ("Run", "Submit", "Stream", "Subscribe")


def fewest_with_ids(history: History) -> int:
    """How many calls have an id, of the method with the fewest."""
    with_ids = Counter(call.method for call in history.calls if call.request_ids)
    return min(with_ids[method] for method in METHODS)


def requests(seed: int) -> Iterator[tuple[str, Any]]:
    """Methods and requests without end; no two have the same input."""
    number = 0
    while True:
        for method in METHODS:
            number += 1
            mark = f'"seed":{seed},"number":{number}'
            match method:
                case "Run":
                    yield method, run("emulator/sleep", f'{{"seconds":0.2,{mark}}}')
                case "Submit":
                    yield method, request("emulator/echo", f"{{{mark}}}")
                case "Stream":
                    events = '{"n":0},{"n":1},{"n":2}'
                    yield method, stream("emulator/events", f'{{"events":[{events}],"delay":0.1,{mark}}}')
                case "Subscribe":
                    asked = request("emulator/sleep", f'{{"seconds":0.2,{mark}}}')
                    yield method, v1.SubscribeRequest(submit=asked)


async def calls_until_killed(
    channel: grpc.aio.Channel, inputs: Iterator[tuple[str, Any]], history: History
) -> None:
    """Makes call after call until one finds the gateway gone."""
    stub = v1.FalServiceStub(channel)
    while True:
        method, asked = next(inputs)
        told = await history.call(stub, method, asked, LONG)
        if told.code == "UNAVAILABLE" and not told.has_error_info:
            return

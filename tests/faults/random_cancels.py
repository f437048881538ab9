"""A program: calls of all kinds, cancelled by their clients at random moments, and what is left of them.

It is a process of its own because grpc runs on one event loop per process, and each kind of loop has its turn.

    python -m tests.faults.random_cancels LOOP CANCELS SEED EMULATOR_URL
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter
from typing import Any

from tests.conftest import Fal, Running, running_gateway
from tests.faults.history import History, Told
from tests.faults.leaks import State, all_heard, fal_is_idle
from tests.faults.stepping import Stepper
from tests.faults.ways import WAYS, Caller, Way, unique
from tests.service.test_run import WAIT_SECONDS_MAX, run

AT_ONCE = 50
CANCELS_OF_A_HISTORY = 500
CONNECTIONS = 20
WHEN_SECONDS = (0.001, 0.04)
IDLE_SECONDS = 1.0  # then idle connections are closed
MIXED = [way for way in WAYS if way.is_plain]


async def main(cancels: int, seed: int, emulator_url: str) -> dict[str, Any]:
    """Cancels so many calls. Raises AssertionError when they leave anything behind."""
    fal = Fal(emulator_url)
    fal.reset()
    choice = random.Random(seed)
    codes: Counter[str] = Counter()
    done = 0
    started = time.monotonic()
    settings = {"connections_max": CONNECTIONS, "keepalive_seconds": 0.2, "heartbeat_seconds": 0.01}
    with Stepper.in_place() as calls:
        async with running_gateway(emulator_url=emulator_url, **settings) as gateway:
            with all_heard():
                await all_connections_are_free(gateway, fal)
                await asyncio.sleep(IDLE_SECONDS)
                before = State()
                while left := cancels - done:
                    count = min(left, CANCELS_OF_A_HISTORY)
                    codes += await cancelled(gateway, fal, calls, choice, count)
                    done += count
                    await before.is_back()
                await all_connections_are_free(gateway, fal)
                await before.is_back()
    fal.close()
    return {"cancels": done, "codes": codes, "seconds": time.monotonic() - started}


async def cancelled(
    gateway: Running, fal: Fal, calls: Stepper, choice: random.Random, count: int
) -> "Counter[str]":
    """Cancels so many calls and checks their history. Returns the codes that were logged."""
    fal.reset()
    calls.begun.clear()
    caller = Caller(gateway.stub, History(), fal)
    logged_before = len(gateway.logged())
    hit: list[Told] = []

    async def cancel_some() -> None:
        while len(hit) < count:
            told = await cancelled_after(caller, choice.choice(MIXED), choice.uniform(*WHEN_SECONDS))
            if told.was_cancelled:
                hit.append(told)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(cancel_some())
    await fal_is_idle(fal)
    leave_out_absent(caller.history, calls.begun, hit)

    def logged(event: str) -> list[dict[str, Any]]:
        return [line for line in gateway.logged()[logged_before:] if line["event"] == event]

    await caller.history.finished(logged)
    log = gateway.logged()[logged_before:]
    caller.history.check(log, fal.received())
    return Counter(line["code"] for line in log if line["event"] == "call.finished")


def leave_out_absent(history: History, begun: "Counter[str]", hit: list[Told]) -> None:
    """Forgets calls that were cancelled before they reached the gateway: they have no part in this."""
    absent = Counter(told.method for told in history.calls) - begun
    for told in hit:
        if absent[told.method] and not told.messages:
            absent[told.method] -= 1
            history.calls.remove(told)


async def cancelled_after(caller: Caller, way: Way, seconds: float) -> Told:
    """Makes a call and cancels it so long afterwards, unless it has ended."""
    told, call, reading = caller.begin(way.method, await way.ask(caller))
    await asyncio.wait({reading}, timeout=seconds)
    is_cancelled = call.cancel()
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        await reading
    # grpc tells of it by a status or by an exception, depending on what was awaited.
    told.was_cancelled = is_cancelled and told.code == "CANCELLED"
    return told


async def all_connections_are_free(gateway: Running, fal: Fal) -> None:
    """Holds all connections at once, which a lost one would prevent."""
    held = [gateway.stub.Run(run("emulator/sleep", unique('"seconds":1'))) for _ in range(CONNECTIONS)]
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while await fal.open_requests() < CONNECTIONS:
            await asyncio.sleep(0.01)
        for call in held:
            assert (await call).output.json


if __name__ == "__main__":
    loop_name, cancels_text, seed_text, url = sys.argv[1:]
    factory = None
    if loop_name == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        print(json.dumps(runner.run(main(int(cancels_text), int(seed_text), url))))

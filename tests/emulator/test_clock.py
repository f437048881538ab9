"""Time and ids: what passes faster, what is skipped, and what is the same in every run."""

import asyncio
import contextlib
import time
from typing import Any

import pytest
from tests.emulator.queueing import known, queued
from tests.emulator.running import Emulator, running_emulator

from falrpc_server.emulator.clock import Clock
from falrpc_server.emulator.ids import Ids

STANDING = 0.0001
"""A speed at which nothing passes by itself while a test runs."""


async def turn() -> None:
    """Lets all that is ready run: who is woken needs a few turns of the loop to be over."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_advancing_wakes_who_is_due() -> None:
    """A sleeper wakes when the parts that time was moved by make up its sleep, and not before."""
    clock = Clock(STANDING)
    sleeper = asyncio.create_task(clock.sleep(100))
    await turn()
    for seconds in (50, 49.5):
        clock.advance(seconds)
        await turn()
        assert not sleeper.done()
    clock.advance(0.5)
    async with asyncio.timeout(5):
        await sleeper


async def test_sleepers_wake_in_order() -> None:
    """Whoever is due first wakes first, although all are overdue at once and none began in that order."""
    clock = Clock(STANDING)
    woken: list[int] = []

    async def sleep(seconds: int) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    order = [30, 10, 50, 20, 40, 15]
    sleepers = [asyncio.create_task(sleep(seconds)) for seconds in order]
    await turn()
    clock.advance(45)
    async with asyncio.timeout(5):
        await asyncio.gather(*(s for s, seconds in zip(sleepers, order, strict=True) if seconds <= 45))
    assert woken == [10, 15, 20, 30, 40]
    clock.advance(10)
    async with asyncio.timeout(5):
        await asyncio.gather(*sleepers)


async def test_advancing_does_not_shorten_later_sleeps() -> None:
    """What was skipped before a sleep begins is none of it."""
    clock = Clock(STANDING)
    clock.advance(1_000)
    sleeper = asyncio.create_task(clock.sleep(10))
    await turn()
    clock.advance(9)
    await turn()
    assert not sleeper.done()
    clock.advance(1)
    async with asyncio.timeout(5):
        await sleeper


async def test_a_cancelled_sleeper_is_forgotten() -> None:
    """Who stops sleeping leaves nothing behind, whether before time is moved, or in the same turn as it."""
    clock = Clock(STANDING)
    early, late = (asyncio.create_task(clock.sleep(10)) for _ in range(2))
    await turn()
    early.cancel()
    await turn()
    assert early.cancelled()
    assert len(clock._sleepers) == 1
    late.cancel()
    clock.advance(100)
    await turn()
    assert late.cancelled()
    assert not clock._sleepers


@pytest.mark.parametrize("speed", [0.5, 1, 50])
async def test_speed(speed: float) -> None:
    """So many emulated seconds pass in a real one, for who looks at the clock and for who sleeps."""
    clock = Clock(speed)
    assert clock.real(10) == 10 / speed
    real, emulated = time.monotonic(), clock.now()
    await clock.sleep(0.1 * speed)
    passed = clock.now() - emulated
    assert 0.099 * speed <= passed <= (time.monotonic() - real) * speed
    assert time.monotonic() - real >= 0.099


async def test_now() -> None:
    """The clock begins at 0, and what is skipped is part of the time."""
    clock = Clock(STANDING)
    assert 0 <= clock.now() < 1
    clock.advance(3_600)
    clock.advance(0.5)
    assert 3_600.5 <= clock.now() < 3_601.5


def test_ids_with_a_seed() -> None:
    """A seed fixes all ids, another seed gives others, and none gives new ones each time."""

    def some(seed: int | None) -> list[Any]:
        ids = Ids(seed)
        return [ids.uuid(), ids.token(), ids.bytes(32), ids.uuid()]

    assert some(7) == some(7)
    for one, other in ((7, 8), (7, None), (None, None)):
        assert all(a != b for a, b in zip(some(one), some(other), strict=True))
    assert len({*some(7)}) == 4


def ids_of_requests(emulator: Emulator) -> list[str]:
    """Everything in the answers to a few requests that is made up by the emulator."""
    by_name = {"host": "rest.fal.ai"}
    path = "/storage/upload/initiate"
    run = emulator.run("emulator/echo")
    submitted = emulator.submit("emulator/echo", headers=queued(retries=2))
    emulator.until_completed(submitted)
    picture = emulator.http.post("/fal-ai/fast-sdxl", json={"prompt": "a"}, headers={"host": "fal.run"})
    asked = {"file_name": "a.png", "content_type": "image/png"}
    target = emulator.http.post(f"{path}?storage_type=fal-cdn-v3", json=asked, headers=by_name)
    token = emulator.http.post("/storage/auth/token?storage_type=fal-cdn-v3", json={}, headers=by_name)
    steps = emulator.stream("workflows/emulator/failing-step", {"prompt": "a"}, headers={"host": "127.0.0.1"})
    return [
        run.headers["x-fal-request-id"],
        submitted.json()["request_id"],
        known(emulator, submitted)["gateway_request_id"],
        picture.json()["images"][0]["url"],
        target.json()["file_url"],
        token.json()["token"],
        emulator.http.get("/.well-known/jwks.json", headers=by_name).text,
        steps.text,
    ]


def test_runs_with_and_without_a_seed() -> None:
    """Two runs with a seed give the same ids to the same requests; without it all of them differ."""
    with contextlib.ExitStack() as stack:
        seen = [
            ids_of_requests(stack.enter_context(running_emulator("--speed", "50", *options))[0])
            for options in (["--seed", "7"], ["--seed", "7"], [], [])
        ]
    assert seen[0] == seen[1]
    for one, other in ((0, 2), (2, 3)):
        assert [a for a, b in zip(seen[one], seen[other], strict=True) if a == b] == []

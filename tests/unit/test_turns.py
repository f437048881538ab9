"""The turns of status calls."""

import asyncio
import time

from falrpc_server.watchers.turns import Turns

RATE = 200.0


async def test_they_are_spaced() -> None:
    """No more turns are given than the rate allows, and not many fewer."""
    waits, totals = [], []
    for _ in range(3):
        turns = Turns(RATE)
        started = time.monotonic()
        moments = []
        for _ in range(60):
            await turns.take()
            moments.append(time.monotonic())
        spans = [late - early for early, late in zip(moments, moments[10:], strict=False)]
        assert min(spans) >= 8 / RATE  # one of ten may make up for a late one, one may be noted late
        waits.append(moments[0] - started)
        totals.append(moments[-1] - moments[0])
    assert min(waits) < 0.1  # the first one is at once
    assert min(totals) < 59 / RATE * 2


async def test_first_come_first_served() -> None:
    """Turns are given in the order in which they were wanted; who comes later never overtakes."""
    turns = Turns(RATE)
    order: list[int] = []

    async def take(number: int) -> None:
        await turns.take()
        order.append(number)

    tasks = []
    for number in range(60):
        tasks.append(asyncio.create_task(take(number)))
        await asyncio.sleep(0.002 if number % 2 else 0)
    await asyncio.gather(*tasks)
    assert order == list(range(60))


async def test_who_gives_up_leaves_the_turn() -> None:
    """Tasks that are cancelled in the line take no turns."""
    turns = Turns(RATE)
    await turns.take()
    gone = [asyncio.create_task(turns.take()) for _ in range(1_000)]
    await asyncio.sleep(0)
    last = asyncio.create_task(turns.take())
    await asyncio.sleep(0)
    for task in gone:
        task.cancel()
    async with asyncio.timeout(2):  # 1,000 turns would take 5 s
        await last
    await asyncio.wait(gone)
    assert sum(task.cancelled() for task in gone) > 990  # the first ones may have been through

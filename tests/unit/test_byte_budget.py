"""The memory that all uploads share."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from falrpc_server.fal_http.byte_budget import ByteBudget


async def test_first_come_first_served() -> None:
    """Who wants little does not overtake who wants much."""
    budget = ByteBudget(10)
    await budget.take(8)
    order = []

    async def take(name: str, count: int) -> None:
        await budget.take(count)
        order.append(name)

    tasks = [asyncio.create_task(take("much", 9)), asyncio.create_task(take("little", 1))]
    await asyncio.sleep(0.01)
    assert order == []
    budget.give_back(8)
    await asyncio.gather(*tasks)
    assert order == ["much", "little"]
    assert budget.free_bytes == 0


@given(st.lists(st.tuples(st.integers(1, 10), st.booleans(), st.integers(0, 3)), max_size=30))
async def test_nothing_is_lost(takers: list[tuple[int, bool, int]]) -> None:
    """Whoever gives up at whatever moment, there are never more bytes out than there are, and all come back."""
    budget = ByteBudget(10)
    out = 0

    async def taker(count: int, turns: int) -> None:
        nonlocal out
        await budget.take(count)
        out += count
        assert out <= 10
        try:
            for _ in range(turns):
                await asyncio.sleep(0)
        finally:
            out -= count
            budget.give_back(count)

    tasks = []
    for count, is_cancelled, turns in takers:
        task = asyncio.create_task(taker(count, turns))
        tasks.append(task)
        if is_cancelled:
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
    async with asyncio.timeout(10):
        await asyncio.gather(*tasks, return_exceptions=True)
    assert budget.free_bytes == 10

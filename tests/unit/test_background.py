"""Work that outlives its call: held, awaited at the end, and bounded."""

import asyncio
import gc
import time

from falrpc_server.background import BackgroundTasks


async def test_nothing_to_wait_for() -> None:
    """Without work a drain is over at once."""
    started = time.monotonic()
    await BackgroundTasks().drain(30)
    assert time.monotonic() - started < 10


async def test_work_goes_on_without_whoever_started_it() -> None:
    """Work that nothing else refers to is not collected half-way."""
    background = BackgroundTasks()
    ended = []

    async def work() -> None:
        await asyncio.get_running_loop().create_future()  # only the task and this future know each other

    async def told() -> None:
        try:
            await work()
        finally:
            ended.append(True)

    background.spawn(told(), "work")
    await asyncio.sleep(0)
    gc.collect()
    assert ended == []
    await background.drain(0.01)
    assert ended == [True]


async def test_a_drain_waits_for_all_work() -> None:
    """A drain returns when all work is done, and not later."""
    background = BackgroundTasks()
    done = []

    async def work(seconds: float) -> None:
        await asyncio.sleep(seconds)
        done.append(seconds)

    for seconds in (0.1, 0.05):
        background.spawn(work(seconds), "work")
    started = time.monotonic()
    await background.drain(30)
    assert time.monotonic() - started < 10
    assert done == [0.05, 0.1]


async def test_late_work_is_cancelled_and_awaited() -> None:
    """After its seconds a drain cancels what is left, and returns when that has cleaned up."""
    background = BackgroundTasks()
    steps = []

    async def work() -> None:
        try:
            await asyncio.sleep(3_600)
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)
            steps.append("cleaned up")
            raise

    background.spawn(work(), "work")
    async with asyncio.timeout(20):
        await background.drain(0.05)
    assert steps == ["cleaned up"]


async def test_finished_work_is_let_go() -> None:
    """Work that is done is no longer held: a server that runs for months does not grow by it."""
    background = BackgroundTasks()

    async def work() -> None:
        pass

    for _ in range(3):
        background.spawn(work(), "work")
    await background.drain(30)
    await asyncio.sleep(0)  # the callbacks of finished tasks run in the next round
    assert background._tasks == set()
    assert [task for task in asyncio.all_tasks() if task.get_name() == "work"] == []

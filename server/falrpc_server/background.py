"""Work that outlives the call that started it: kept, bounded, and awaited when the server stops."""

import asyncio
from collections.abc import Coroutine
from typing import Any

__all__ = ["BackgroundTasks"]


class BackgroundTasks:
    """Holds on to tasks: the event loop alone would let them be collected half-way."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Starts work that handles its own errors."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self, seconds: float) -> None:
        """Waits until all work is done; after that many seconds cancels what is left."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self._tasks:  # work may start more work
            if loop.time() >= end:
                for task in self._tasks:
                    task.cancel()
            await asyncio.wait(self._tasks, timeout=max(0.0, end - loop.time()) or None)

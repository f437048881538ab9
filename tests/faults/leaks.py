"""What calls may leave behind in this process and at fal: nothing."""

import asyncio
import contextlib
import gc
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.conftest import Fal
from tests.service.test_leaving import tasks
from tests.service.test_run import WAIT_SECONDS_MAX

__all__ = ["FILES_SLACK", "State", "all_heard", "fal_is_idle", "files"]

FILES_SLACK = 2  # file descriptors: the event loop and grpc open and close some of their own


def files() -> int:
    """How many file descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


@dataclass(frozen=True)
class State:
    """What this process holds at a moment of rest."""

    tasks: "Counter[str]" = field(default_factory=tasks)
    files: int = field(default_factory=files)
    threads: int = field(default_factory=threading.active_count)

    def left(self) -> dict[str, Any]:
        """What there is now that was not there before. Threads that wait for work are none of it."""
        gc.collect()
        found: dict[str, Any] = {}
        if more := tasks() - self.tasks:
            found["tasks"] = dict(more)
        if abs(files() - self.files) > FILES_SLACK:
            found["files"] = files() - self.files
        return found

    async def is_back(self) -> None:
        """Waits until all is as it was."""
        deadline = asyncio.get_running_loop().time() + WAIT_SECONDS_MAX
        while left := self.left():
            assert asyncio.get_running_loop().time() < deadline, f"left: {left}"
            await asyncio.sleep(0.02)


async def fal_is_idle(fal: Fal) -> None:
    """Waits until fal has no open request: every connection that a call used is closed or free."""
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS_MAX
    while count := await fal.open_requests():
        assert asyncio.get_running_loop().time() < deadline, f"{count} requests are still open at fal"
        await asyncio.sleep(0.002)


@contextlib.contextmanager
def all_heard() -> Iterator[None]:
    """Fails if anything went wrong where nobody could catch it: in callbacks, finalizers, lost tasks."""
    unheard: list[str] = []
    loop = asyncio.get_running_loop()
    hook = sys.unraisablehook
    loop.set_exception_handler(lambda _, context: unheard.append(repr(context)))
    sys.unraisablehook = lambda lost: unheard.append(f"{lost.exc_value!r}: {lost.object!r}")
    try:
        yield
        gc.collect()
    finally:
        loop.set_exception_handler(None)
        sys.unraisablehook = hook
    assert not unheard, "\n".join(unheard)

"""Stops a call of the gateway at a chosen await: at the first, the second, … until it runs to its end.

A call is one coroutine from its outermost interceptor on. A Step stands between that coroutine and its task:
it counts how often the coroutine suspends and, at one of these, does what the mode says. What the call awaits
is real: sockets, timers, locks and grpc's own operations.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Coroutine, Generator, Iterator
from enum import Enum
from typing import Any

import pytest

from falrpc_server.interceptors.adapter import Chain
from falrpc_server.interceptors.call import Call

__all__ = ["Closed", "Mode", "Step", "Stepper"]


class Mode(Enum):
    """What happens to the call when it suspends for the chosen time."""

    ONCE = "once"
    """Its task is cancelled, as grpc does when the caller leaves."""
    TWICE = "twice"
    """The same, and once more when it next suspends: while it cleans up."""
    CLOSED = "closed"
    """It is ended like an abandoned generator: by what is neither an Exception nor a cancellation."""


class Closed(BaseException):
    """Stands for GeneratorExit, which can't be thrown into a coroutine that waits: Python closes what it
    waits for instead, and then no clean-up may await. Generators that are parked at a `yield` get the real
    one in every mode, from whoever closes them."""


class Step:
    """One call that is stopped when it suspends for the `at`-th time, counted from 0.

    Attributes:
        suspensions: How often it has suspended.
        stopped_at: How often it had when it was stopped; None when it was not.
        error: What it ended with; None for a result.
        ended: Set when it has ended, clean-up included.
        call_id: The gateway's own id of the call.
    """

    def __init__(self, at: int, mode: Mode) -> None:
        self.suspensions = 0
        self.stopped_at: int | None = None
        self.error: BaseException | None = None
        self.ended = asyncio.Event()
        self.call_id = ""
        self._at = at
        self._mode = mode

    @property
    def suspensions_of_clean_up(self) -> int:
        """How often it suspended after it was stopped."""
        return 0 if self.stopped_at is None else self.suspensions - self.stopped_at - 1

    async def drive(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Runs the call in the current task."""
        try:
            return await _Awaitable(self._steps(call))
        except BaseException as error:
            self.error = error
            if isinstance(error, Closed):
                raise asyncio.CancelledError from error  # for grpc, which would not know it
            raise
        finally:
            self.ended.set()

    def _steps(self, call: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                awaited = call.send(value) if error is None else call.throw(error)
            except StopIteration as stop:
                return stop.value
            value, error = None, self._suspended(awaited)
            if error is None:
                try:
                    value = yield awaited
                except BaseException as thrown:
                    error = thrown

    def _suspended(self, awaited: Any) -> BaseException | None:
        """Notes a suspension. Returns what to throw at once; a cancel comes when the task has seen it, too."""
        number, self.suspensions = self.suspensions, self.suspensions + 1
        if number == self._at:
            self.stopped_at = number
            if self._mode is Mode.CLOSED:
                if asyncio.isfuture(awaited):
                    awaited.cancel()  # else who was to answer would do so, and nobody would hear it
                return Closed()
        is_second = self._mode is Mode.TWICE and number == self._at + 1
        if self._mode is not Mode.CLOSED and (number == self._at or is_second):
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_soon(task.cancel)
        return None


class _Awaitable:
    def __init__(self, steps: Generator[Any, Any, Any]) -> None:
        self._steps = steps

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._steps


class Stepper:
    """Takes hold of the gateway's calls while it is in place."""

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        """How many calls have reached the gateway, by method."""
        self._steps: list[Step] = []

    def next_call(self, at: int, mode: Mode) -> Step:
        """The next call that no step has yet is stopped there."""
        step = Step(at, mode)
        self._steps.append(step)
        return step

    @classmethod
    @contextlib.contextmanager
    def in_place(cls) -> Iterator["Stepper"]:
        """Puts a stepper around all calls of gateways in this process."""
        stepper = cls()
        through = Chain._through

        async def stepped(self: Chain, call: Call, *arguments: Any) -> Any:
            stepper.begun[call.method] += 1
            if not stepper._steps:
                return await through(self, call, *arguments)
            step = stepper._steps.pop(0)
            step.call_id = call.call_id
            return await step.drive(through(self, call, *arguments))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Chain, "_through", stepped)
            yield stepper

"""The load generator (go/main.go), and what its figures say."""

import asyncio
import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.clients.languages import run

__all__ = ["CALL_SECONDS_MAX", "Calls", "Load", "Traffic", "built", "generated", "percentile"]

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "build/overload/load"
CALL_SECONDS_MAX = 20.0
RUN_SECONDS_MAX = 60.0


@dataclass(frozen=True)
class Traffic:
    """Calls of Run: so many a second whatever becomes of them, or all at once when that is 0."""

    name: str
    calls: int
    per_second: float = 0.0
    begin_seconds: float = 0.0
    endpoint: str = "emulator/sleep"
    input: str = '{"seconds":1}'
    token: str = ""
    timeout_seconds: float = CALL_SECONDS_MAX


@dataclass(frozen=True)
class Call:
    """What came of a call.

    Attributes:
        at: When it was due, in seconds from the begin of all.
        late_seconds: How much later it began: the generator's own affair.
        seconds: When it ended, counted from when it was due.
    """

    at: float
    late_seconds: float
    seconds: float
    code: str
    reason: str = ""
    retry_seconds: float | None = None
    message: str = ""

    @property
    def ended_at(self) -> float:
        return self.at + self.seconds


@dataclass(frozen=True)
class Calls:
    """What came of calls."""

    all: Sequence[Call]

    def __len__(self) -> int:
        return len(self.all)

    def where(self, is_wanted: Callable[[Call], bool]) -> "Calls":
        return Calls([call for call in self.all if is_wanted(call)])

    @property
    def ok(self) -> "Calls":
        return self.where(lambda call: call.code == "OK")

    @property
    def refused(self) -> "Calls":
        return self.where(lambda call: call.code == "RESOURCE_EXHAUSTED")

    @property
    def codes(self) -> Counter[str]:
        return Counter(f"{call.code} {call.reason}".strip() for call in self.all)

    def due(self, begin: float, end: float) -> "Calls":
        """Those that were due in a time."""
        return self.where(lambda call: begin <= call.at < end)

    def ended(self, begin: float, end: float) -> "Calls":
        """Those that ended in a time."""
        return self.where(lambda call: begin <= call.ended_at < end)

    def seconds(self, share: float) -> float:
        """What this share of the calls did not exceed; 0 without calls."""
        return percentile([call.seconds for call in self.all], share)


@dataclass(frozen=True)
class Load:
    """What came of all traffics, and of Health.Check in between."""

    traffics: dict[str, Calls]
    health: Calls


@dataclass(frozen=True)
class Plan:
    """What the generator is told."""

    address: str
    connections: int
    health_seconds: float
    traffics: list[dict[str, Any]] = field(default_factory=list)


def built() -> None:
    """Builds the generator; skips the tests when there is no Go."""
    if shutil.which("go") is None:
        pytest.skip("go is needed for the load generator")
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    run("go", "build", "-o", PROGRAM, ".", folder=Path(__file__).parent / "go")


async def generated(
    address: str, *traffics: Traffic, connections: int = 8, health_seconds: float = 0.05
) -> Load:
    """Has the generator make the calls. Returns when all have ended."""
    plan = Plan(address, connections, health_seconds, [asdict(traffic) for traffic in traffics])
    pipe = asyncio.subprocess.PIPE
    environment = {**os.environ, "GOGC": "400"}  # it shares the processors with those whom it measures
    program = await asyncio.create_subprocess_exec(
        PROGRAM, stdin=pipe, stdout=pipe, stderr=pipe, env=environment
    )
    try:
        async with asyncio.timeout(RUN_SECONDS_MAX):
            told, errors = await program.communicate(json.dumps(asdict(plan)).encode())
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()
    assert program.returncode == 0, errors.decode()
    found = json.loads(told)
    return Load({name: _calls(calls) for name, calls in found["traffics"].items()}, _calls(found["health"]))


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that this share of the values does not exceed; 0 without values."""
    if not values:
        return 0.0
    return sorted(values)[max(0, math.ceil(len(values) * share) - 1)]


def _calls(found: list[dict[str, Any]]) -> Calls:
    return Calls([Call(**one) for one in found])

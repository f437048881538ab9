"""The scenarios of tests/cases/clients: calls, and what a client in any language must see (see the README here)."""

import asyncio
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.clients.calling import Caller
from tests.conftest import Fal

__all__ = ["Scenario", "all_scenarios", "mismatch", "play"]

FOLDER = Path(__file__).parents[1] / "cases" / "clients"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario; its attributes are the members of its file."""

    name: str
    description: str
    steps: list[dict[str, Any]]
    received: dict[str, int]


@functools.cache
def all_scenarios() -> tuple[Scenario, ...]:
    """Every scenario, by name."""
    return tuple(
        Scenario(path.stem, **{"received": {}, **json.loads(path.read_text())})
        for path in sorted(FOLDER.glob("*.json"))
    )


async def play(scenario: Scenario, caller: Caller, fal: Fal) -> None:
    """Makes the calls of a scenario, and compares."""
    kept: dict[str, Any] = {}
    for step in scenario.steps:
        for act in step.get("fal", []):
            fal.will(**act)
        call = _filled(step["call"], kept)
        told = await caller.call(call.pop("method"), *call.pop("requests"), **call)
        wanted = _filled(step["want"], kept)
        difference = mismatch(told, wanted)
        assert difference is None, (
            f"{scenario.description}: {difference}\n{json.dumps(told, indent=1)[:5_000]}"
        )
        for name, path in step.get("keep", {}).items():
            kept[name] = functools.reduce(lambda value, key: value[key], path, told)
    assert await _received(scenario, fal) == scenario.received, scenario.description


async def _received(scenario: Scenario, fal: Fal) -> dict[str, int]:
    """What fal received of that; what a call leaves behind, such as a cancellation, may take a moment."""
    received: dict[str, int] = {}
    for _ in range(200):
        received = {name: len(await fal.seen(operation=name)) for name in scenario.received}
        if all(received[name] >= count for name, count in scenario.received.items()):
            break
        await asyncio.sleep(0.05)
    return received


def mismatch(told: Any, wanted: dict[str, Any]) -> str | None:
    """What is not as wanted of an answer, None when all is."""
    told = told | _derived(told)
    for name, value in wanted.items():
        if name == "some_messages":
            rest = iter(told["messages"])
            for message in value:
                if not any(_fits(one, message) for one in rest):
                    return f"no {message} in its place"
        elif name not in told or not _fits(told[name], value):
            return f"{name} is {told.get(name)}, not {value}"
    return None


def _derived(told: dict[str, Any]) -> dict[str, Any]:
    """What scenarios ask for besides: outputs as values, and with numbers as their digits; the violated fields."""
    outputs = [text for text in told["outputs"] if text is not None]
    return {
        "values": [json.loads(text) for text in outputs],
        "numbers": [json.loads(text, parse_int=str, parse_float=str) for text in outputs],
        "fields": [violation["field"] for violation in told.get("violations", [])],
    }


def _fits(told: Any, wanted: Any) -> bool:
    if wanted == "*":
        return isinstance(told, str) and told != ""
    if isinstance(wanted, dict) and isinstance(told, dict):
        names = wanted.keys() - {"*"}
        is_complete = "*" in wanted or told.keys() == names
        return is_complete and all(name in told and _fits(told[name], wanted[name]) for name in names)
    if isinstance(wanted, list) and isinstance(told, list):
        return len(told) == len(wanted) and all(map(_fits, told, wanted))
    return bool(told == wanted)


def _filled(value: Any, kept: dict[str, Any]) -> Any:
    """The value with `$name` replaced."""
    if isinstance(value, str) and value.startswith("$"):
        return kept[value[1:]]
    if isinstance(value, dict):
        return {name: _filled(one, kept) for name, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, kept) for one in value]
    return value

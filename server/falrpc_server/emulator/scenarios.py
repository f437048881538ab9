"""Scenarios: faults as data, put in place through the admin endpoint."""

import itertools
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from falrpc_server.emulator.answers import header_problem

__all__ = ["ACTS", "OPERATIONS", "BadScenario", "Scenario", "Scenarios"]

OPERATIONS = (
    "run",
    "stream",
    "submit",
    "status",
    "status_stream",
    "result",
    "cancel",
    "upload_initiate",
    "upload_put",
    "download",
)
ACTS = {
    "answer": "Answers with `status`, `headers` and `body` instead.",
    "edge_page": "Answers like fal's edge proxy: an HTML page with `status` 502, 503 or 504, no request id.",
    "hang": "Reads the request and never answers.",
    "slow": "Waits `seconds` before the real answer.",
    "reset_before_body": "Resets the connection as soon as the request's head is read.",
    "close_after_body": "Reads the whole request, then closes the connection without an answer.",
    "cut_body": "Sends the real answer's head and `after_bytes` bytes of its body, then closes.",
}


_INTEGERS = {
    "times": (1, 1_000_000_000),
    "after": (0, 1_000_000_000),
    "status": (200, 599),
    "after_bytes": (0, 1_000_000_000),
}


class BadScenario(ValueError):
    """The data is no scenario; the message says what would be."""


@dataclass(slots=True)
class Scenario:
    """What happens to some requests.

    Attributes:
        operation, endpoint: Which requests; an empty endpoint means any.
        times: How many of them; None means all.
        after: How many are let through first.
    """

    act: str
    operation: str = ""
    endpoint: str = ""
    times: int | None = 1
    after: int = 0
    status: int = 502
    headers: dict[str, str] | None = None
    body: str = ""
    seconds: float = 1.0
    after_bytes: int = 0
    id: int = 0

    @classmethod
    def read(cls, data: Any) -> "Scenario":
        """Reads a scenario. Raises BadScenario."""
        known = {f.name for f in fields(cls)} - {"id"}
        if not isinstance(data, dict) or not isinstance(data.get("act"), str):
            raise BadScenario(f"act is required: one of {', '.join(ACTS)}")
        if unknown := sorted(data.keys() - known):
            raise BadScenario(f"unknown fields: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        if data["act"] not in ACTS:
            raise BadScenario(f"unknown act: there are {', '.join(ACTS)}")
        if data.get("operation", "run") not in OPERATIONS:
            raise BadScenario(f"unknown operation: there are {', '.join(OPERATIONS)}")
        for name, (lowest, highest) in _INTEGERS.items():
            number = data.get(name, lowest)
            if name == "times" and number is None:
                continue
            if type(number) is not int or not lowest <= number <= highest:
                raise BadScenario(f"{name} must be a whole number from {lowest} to {highest}")
        seconds = data.get("seconds", 0)
        if type(seconds) not in (int, float) or not 0 <= seconds < math.inf:
            raise BadScenario("seconds must be a number, not negative")
        for name in ("endpoint", "body"):
            if not _is_text(data.get(name, "")):
                raise BadScenario(f"{name} must be text")
        headers = data.get("headers")
        if headers is not None and (problem := header_problem(headers)):
            raise BadScenario(problem)
        return cls(**data)


def _is_text(value: Any) -> bool:
    """Whether it is text that UTF-8 can hold: JSON can escape half a surrogate pair."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


class Scenarios:
    """The scenarios in place, oldest first."""

    def __init__(self) -> None:
        self._scenarios: list[Scenario] = []
        self._ids = itertools.count(1)

    def add(self, scenario: Scenario) -> None:
        """Puts a scenario in place."""
        scenario.id = next(self._ids)
        self._scenarios.append(scenario)

    def clear(self) -> None:
        """Removes all."""
        self._scenarios.clear()

    def listed(self) -> list[dict[str, Any]]:
        """All that are in place."""
        return [asdict(scenario) for scenario in self._scenarios]

    def take(self, operation: str, endpoint: str) -> Scenario | None:
        """The scenario that this request falls under; it is used up by that."""
        for scenario in self._scenarios:
            if scenario.operation not in ("", operation) or scenario.endpoint not in ("", endpoint):
                continue
            if scenario.after > 0:
                scenario.after -= 1
                continue
            if scenario.times is not None:
                scenario.times -= 1
                if scenario.times <= 0:
                    self._scenarios.remove(scenario)
            return scenario
        return None

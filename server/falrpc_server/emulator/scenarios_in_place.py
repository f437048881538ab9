"""The scenarios in place: which request or run of a model falls under which."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from falrpc_server.emulator.routes import queue_base
from falrpc_server.emulator.scenarios import (
    OF_A_REQUEST,
    OF_STREAMS,
    OF_THE_QUEUE,
    STREAMS,
    WORK,
    ConcurrencyLimit,
    QueueDelay,
    Scenario,
)

__all__ = ["Scenarios"]


class Scenarios:
    """The scenarios in place, oldest first."""

    def __init__(self, scenarios: list[Scenario] | None = None) -> None:
        self._scenarios: dict[int, Scenario] = {}
        self._ids = itertools.count(1)
        self.add(scenarios or [])

    def add(self, scenarios: list[Scenario]) -> None:
        """Puts scenarios in place."""
        for scenario in scenarios:
            self._scenarios[next(self._ids)] = scenario

    def clear(self) -> None:
        """Removes all."""
        self._scenarios.clear()

    def listed(self) -> list[Mapping[str, Any]]:
        """All that are in place."""
        return [{"id": id, **msgspec.to_builtins(scenario)} for id, scenario in self._scenarios.items()]

    def take(self, operation: str, endpoint: str) -> Scenario | None:
        """The scenario that a request falls under, or a model's run: it is used up by that."""
        for id, scenario in self._of(operation, endpoint):
            if isinstance(scenario, OF_THE_QUEUE):
                continue
            if isinstance(scenario, OF_STREAMS) and operation not in STREAMS:
                continue
            if scenario.operation == "" and operation == WORK:
                continue
            if self._use_up(id, scenario):
                return scenario
        return None

    def take_queue_delay(self, endpoint: str) -> QueueDelay | None:
        """What a submitted request has to wait for; it is used up by that."""
        for id, scenario in self._of("submit", endpoint):
            if isinstance(scenario, QueueDelay) and self._use_up(id, scenario):
                return scenario
        return None

    def concurrency_limits(self, endpoint: str) -> list[ConcurrencyLimit]:
        """The limits that runs of an endpoint fall under."""
        return [s for _, s in self._of(WORK, endpoint) if isinstance(s, ConcurrencyLimit)]

    def _of(self, operation: str, endpoint: str) -> Iterator[tuple[int, Scenario]]:
        for id, scenario in list(self._scenarios.items()):
            if scenario.operation in ("", operation) and _is_for(scenario.endpoint, operation, endpoint):
                yield id, scenario

    def _use_up(self, id: int, scenario: Scenario) -> bool:
        if scenario.after > 0:
            scenario.after -= 1
            return False
        if scenario.times is not None:
            scenario.times -= 1
            if scenario.times <= 0:
                del self._scenarios[id]
        return True


def _is_for(wanted: str, operation: str, endpoint: str) -> bool:
    """Whether a scenario's endpoint is that of a request."""
    if operation in OF_A_REQUEST:  # their URLs name owner and alias only (§3.2)
        wanted, endpoint = queue_base(wanted), queue_base(endpoint)
    return wanted in ("", endpoint)

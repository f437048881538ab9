"""The emulator's own endpoints, below /_emulator."""

import asyncio
import json
import math
from typing import Any

import msgspec

from falrpc_server.emulator import scenarios
from falrpc_server.emulator.answers import Answer, detail, json_answer
from falrpc_server.emulator.evidence import Evidence
from falrpc_server.emulator.failures import FAILURES
from falrpc_server.emulator.models.inputs import Field
from falrpc_server.emulator.models.registry import MODELS
from falrpc_server.emulator.routes import OPERATIONS
from falrpc_server.emulator.scenarios import ACTS, BadScenario
from falrpc_server.emulator.scenarios_in_place import Scenarios
from falrpc_server.emulator.service import Service
from falrpc_server.emulator.tls import Authority

__all__ = ["ENDPOINTS", "Admin", "catalogue"]

ENDPOINTS = {
    "GET /_emulator": "This list, as JSON.",
    "GET /_emulator/health": "Whether it serves; open connections and tasks, mistakes of its own.",
    "GET /_emulator/evidence": "What arrived, all or of an ?operation= or ?endpoint=, with counts.",
    "DELETE /_emulator/evidence": "Forgets what arrived.",
    "GET /_emulator/scenarios": "The scenarios in place.",
    "POST /_emulator/scenarios": "Puts a scenario in place, or a list of them.",
    "DELETE /_emulator/scenarios": "Removes all scenarios.",
    "GET /_emulator/requests": "The queue's requests: state, attempts, cancellation, outcome.",
    "GET /_emulator/webhooks": "Deliveries of webhooks, with their attempts.",
    "POST /_emulator/clock": 'Moves time forward: {"advance_seconds": 3600}.',
    "GET /_emulator/ca.pem": "The certificate to trust for TLS.",
}
NAMES = {endpoint.partition("/_emulator")[2].strip("/") for endpoint in ENDPOINTS}
ADVANCE_SECONDS_MAX = 1e9


def catalogue() -> dict[str, Any]:
    """Everything that can be asked for by name."""
    return {
        "models": {
            name: {
                "summary": model.summary,
                "input": {field.name: _described(field) for field in model.fields},
                "streams": model.stream is not None,
                "queue_seconds": model.queue_seconds,
                "seconds": model.seconds,
            }
            for name, model in MODELS.items()
        },
        "scenarios": {
            act: {
                "summary": " ".join((cls.__doc__ or "").split()),
                "fields": {
                    field.name: _shown(field)
                    for field in msgspec.structs.fields(cls)
                    if field.name not in scenarios.Scenario.__struct_fields__
                },
            }
            for act, cls in ACTS.items()
        },
        "scenario fields": {
            "operation": "which requests, of the operations below; any when empty",
            "endpoint": "of which endpoint; any when empty",
            "times": "how many requests; null for all; 1",
            "after": "how many requests are let through first; 0",
        },
        "operations": {**OPERATIONS, scenarios.WORK: "a model's run: in the queue its outcome is stored"},
        "failures": {name: answer.status for name, answer in FAILURES.items()},
        "endpoints": ENDPOINTS,
    }


def _described(field: Field) -> str:
    """What an input field takes."""
    text = field.kind
    if field.choices:
        text += f" {' | '.join(map(str, field.choices))}"
    if field.minimum is not None or field.maximum is not None:
        low, high = ("" if one is None else f"{one:g}" for one in (field.minimum, field.maximum))
        text += f" {low}..{high}"
    return text + (", required" if field.required else "")


def _shown(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return "required" if field.default is msgspec.NODEFAULT else field.default


class Admin:
    """Answers requests to the emulator itself."""

    def __init__(
        self, service: Service, scenarios: Scenarios, evidence: Evidence, authority: Authority | None
    ) -> None:
        self._service = service
        self._scenarios = scenarios
        self._evidence = evidence
        self._authority = authority

    def answer(self, method: str, name: str, query: dict[str, str], body: bytes) -> Answer:
        """Answers one request: `name` is the path below /_emulator."""
        match method, name:
            case "GET", "":
                return json_answer(catalogue())
            case "GET", "health":
                return json_answer(
                    {"status": "ok", "open_tasks": len(asyncio.all_tasks()), **self._evidence.health()}
                )
            case "GET", "evidence":
                return json_answer(self._evidence.report(query))
            case "DELETE", "evidence":
                self._evidence.reset()
                return Answer(204, b"")
            case "GET", "scenarios":
                return json_answer(self._scenarios.listed())
            case "POST", "scenarios":
                return self._add(body)
            case "DELETE", "scenarios":
                self._scenarios.clear()
                self._service.slots.look_again()
                return Answer(204, b"")
            case "GET", "requests":
                return json_answer(self._service.queue.listed())
            case "GET", "webhooks":
                return json_answer(self._service.webhooks.report())
            case "POST", "clock":
                return self._advance(body)
            case "GET", "ca.pem" if self._authority:
                return Answer(200, self._authority.pem, {"content-type": "application/x-pem-file"})
        if (method, name) == ("GET", "ca.pem"):
            return detail(404, "There is no TLS without --tls-port")
        if name in NAMES:
            return detail(405, "Method Not Allowed")
        return detail(404, f"There are {', '.join(ENDPOINTS)}")

    def _add(self, body: bytes) -> Answer:
        try:
            self._scenarios.add(scenarios.read(json.loads(body)))
        except (BadScenario, ValueError, RecursionError) as error:
            return detail(400, str(error))
        return Answer(204, b"")

    def _advance(self, body: bytes) -> Answer:
        try:
            seconds = json.loads(body)["advance_seconds"]
        except (ValueError, RecursionError, TypeError, KeyError):
            seconds = math.nan
        if type(seconds) not in (int, float) or not 0 <= seconds <= ADVANCE_SECONDS_MAX:
            return detail(400, f'{{"advance_seconds": N}} is needed, N from 0 to {ADVANCE_SECONDS_MAX:.0f}')
        self._service.clock.advance(seconds)
        return Answer(204, b"")

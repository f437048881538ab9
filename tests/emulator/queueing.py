"""What tests of the queue ask of an emulator."""

import json
from typing import Any

import httpx
from tests.emulator.running import Emulator, eventually

__all__ = ["NOT_FOUND", "advance", "known", "not_found", "queued", "reaches"]

NOT_FOUND = {"status": "NOT_FOUND"}


def queued(**scenario: Any) -> dict[str, str]:
    """The header that puts a `queue` scenario on the request that it comes with, and on no other."""
    return {"x-emulator-scenario": json.dumps({"act": "queue", **scenario})}


def known(emulator: Emulator, submitted: httpx.Response) -> dict[str, Any]:
    """What the emulator itself says of a request."""
    request_id = submitted.json()["request_id"]
    [request] = [
        one for one in emulator.http.get("/_emulator/requests").json() if one["request_id"] == request_id
    ]
    return dict(request)


def reaches(emulator: Emulator, submitted: httpx.Response, state: str) -> dict[str, Any]:
    """Waits until a request is in a state and returns what the emulator says of it."""
    return dict(eventually(lambda: known(emulator, submitted), lambda request: request["state"] == state))


def advance(emulator: Emulator, seconds: float) -> None:
    """Moves the emulator's clock forward."""
    answer = emulator.http.post("/_emulator/clock", json={"advance_seconds": seconds})
    assert answer.status_code == 204, answer.text


def not_found(emulator: Emulator, url: str) -> None:
    """Checks that a request is unknown, by every URL that it has."""
    for method, tail in (("GET", ""), ("GET", "/status"), ("GET", "/status/stream"), ("PUT", "/cancel")):
        answer = emulator.http.request(method, f"{url}{tail}")
        assert (answer.status_code, answer.json()) == (404, NOT_FOUND), tail

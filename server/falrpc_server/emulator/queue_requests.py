"""A request in fal's queue: what is known of it, and what its status says (docs/fal-http-api.md §7.3)."""

import asyncio
import contextlib
import datetime
import math
from dataclasses import dataclass, field
from typing import Any

import msgspec

from falrpc_server.emulator.answers import Answer, AppError
from falrpc_server.emulator.failures import request_error
from falrpc_server.emulator.models.work import Model
from falrpc_server.emulator.routes import Incoming
from falrpc_server.emulator.scenarios_in_place import Scenarios

__all__ = ["POSITION_AT_SUBMIT", "QueueRequest", "start_timeout"]

POSITION_AT_SUBMIT = 2

# How long a result can be read (§7.6), in seconds: by its size, unless payloads are stored.
LARGE_RESULT_BYTES = 10 * 1024
RESULT_SECONDS = 3_600
LARGE_RESULT_SECONDS = 360
STORED_PAYLOAD_SECONDS = 30 * 24 * 3_600
STORED_PAYLOAD_BYTES_MAX = 1024 * 1024


@dataclass(slots=True)
class QueueRequest:
    """One request in the queue.

    Attributes:
        incoming: The HTTP request that submitted it.
        user: The id of the key that it came with.
        scenarios: Those that it brought along.
        start_timeout_seconds: After so many real seconds it is too late to begin.
        gateway_request_id: Id of the last attempt (§11.1).
    """

    request_id: str
    model: Model
    base_url: str
    incoming: Incoming
    user: str
    scenarios: Scenarios
    start_timeout_seconds: float | None
    gateway_request_id: str = ""
    state: str = "IN_QUEUE"
    position: int = POSITION_AT_SUBMIT
    attempts: int = 0
    answer: Answer | None = None
    completed_at: float = 0.0
    error: str = ""
    error_type: str = ""
    inference_seconds: float | None = None
    logs: list[dict[str, str]] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def touch(self) -> None:
        """Wakes whoever watches."""
        self.changed.set()
        self.changed = asyncio.Event()

    def log(self, text: str, later: float) -> None:
        """Adds a log line, now or so many real seconds later."""
        now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=later)
        line = {"timestamp": now.isoformat(), "level": "INFO", "source": "USER", "message": text}

        def add() -> None:
            self.logs.append(line)
            self.touch()

        if later:
            asyncio.get_running_loop().call_later(later, add)
        else:
            add()

    def status(self, logs: list[dict[str, str]] | None) -> dict[str, Any]:
        """The status body (§7.3). `logs` is null unless they were asked for."""
        url = f"{self.base_url}/requests/{self.request_id}"
        body: dict[str, Any] = {
            "status": self.state,
            "request_id": self.request_id,
            "response_url": url,
            "status_url": f"{url}/status",
            "cancel_url": f"{url}/cancel",
        }
        if self.state == "IN_QUEUE":
            body["queue_position"] = self.position
        body["logs"] = logs
        body["metrics"] = {}
        if self.state == "COMPLETED" and self.inference_seconds is not None:
            body["metrics"] = {"inference_time": round(self.inference_seconds, 6)}
        if self.error:
            body["error"] = self.error
        if self.error_type:
            body["error_type"] = self.error_type
        return body

    def complete(self, answer: Answer, now: float) -> None:
        """Ends it with the answer of its last attempt."""
        self.answer, self.completed_at, self.state = answer, now, "COMPLETED"
        if answer.status >= 400:
            self.error_type = answer.headers.get("x-fal-error-type", "")
            self.error = f"Invalid status code: {answer.status}"
            if self.error_type:
                with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                    self.error = msgspec.json.decode(answer.body, type=_Detail).detail
        self.touch()

    @property
    def result_seconds(self) -> float:
        """How long its result lives at least: fal goes on calling a webhook as long."""
        size = len(self.answer.body) if self.answer else 0
        return RESULT_SECONDS if size < LARGE_RESULT_BYTES else LARGE_RESULT_SECONDS

    @property
    def expires_after_seconds(self) -> float:
        """How long its result can be read once it is there."""
        size = max(len(self.answer.body) if self.answer else 0, len(self.incoming.body))
        is_stored = self.incoming.headers.get("x-fal-store-io") != "0" and size <= STORED_PAYLOAD_BYTES_MAX
        return STORED_PAYLOAD_SECONDS if is_stored else self.result_seconds

    @property
    def wants_no_retry(self) -> bool:
        """Whether its caller switched retries off (§4)."""
        return self.incoming.headers.get("x-fal-no-retry", "").lower() in ("1", "true", "yes")


def start_timeout(headers: dict[str, str]) -> float | None:
    """Seconds of the start timeout (§4): the newer name wins. Raises AppError for a bad value."""
    value = headers.get("x-fal-request-start-timeout", headers.get("x-fal-request-timeout"))
    if value is None:
        return None
    try:
        seconds = math.nan if "_" in value else float(value)
    except ValueError:
        seconds = math.nan
    if not 0.1 < seconds < math.inf:
        raise AppError(request_error("bad_request", f"Invalid request timeout: {value[:40]}"))
    return seconds


class _Detail(msgspec.Struct):
    detail: str

"""fal's queue (docs/fal-http-api.md §7): requests that wait, run and end, as time goes by."""

import asyncio
import contextlib
import datetime
import math
import re
import time
import traceback
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from falrpc_server.emulator.answers import Answer, AppError, detail, json_answer, request_error, sse
from falrpc_server.emulator.work import Model

__all__ = ["Queue", "QueueRequest", "StartTimeout"]

REQUESTS_MAX = 20_000
STORED_BYTES_MAX = 1024 * 1024 * 1024  # of inputs and answers
POSITION_AT_SUBMIT = 2

Perform = Callable[["QueueRequest"], Awaitable[Answer]]


@dataclass(slots=True)
class QueueRequest:
    """One request in the queue."""

    request_id: str
    model: Model
    base_url: str
    body: bytes
    start_timeout_seconds: float | None
    created: float = field(default_factory=time.monotonic)
    state: str = "IN_QUEUE"
    position: int = POSITION_AT_SUBMIT
    answer: Answer | None = None
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
        """Adds a log line, now or later."""
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
        """The status body (§7.3): `logs` is null unless asked for, absent while IN_QUEUE is not told."""
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
        if self.error_type:
            body["error"], body["error_type"] = self.error, self.error_type
        return body


class StartTimeout:
    """The start timeout headers (§4): the newer name wins; a bad value is a bad request."""

    @staticmethod
    def read(headers: dict[str, str]) -> float | None:
        """Returns seconds, None when there is no such header. Raises AppError."""
        value = headers.get("x-fal-request-start-timeout", headers.get("x-fal-request-timeout"))
        if value is None:
            return None
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not 0.1 < seconds < math.inf:
            raise AppError(request_error("bad_request", f"Invalid request timeout: {value[:40]}"))
        return seconds


class Queue:
    """All requests. `perform` runs a request's model."""

    def __init__(self, perform: Perform, speed: float, keepalive_seconds: float) -> None:
        self._perform = perform
        self._speed = speed
        self._keepalive_seconds = keepalive_seconds
        self._requests: dict[str, QueueRequest] = {}
        self._stored_bytes = 0

    def get(self, request_id: str) -> QueueRequest | None:
        """A request, None when it is not known (any more)."""
        return self._requests.get(request_id)

    def submit(
        self, model: Model, base_url: str, body: bytes, headers: dict[str, str], query: dict[str, str]
    ) -> Answer:
        """Accepts a request. The input is not looked at (§7.2). Raises AppError."""
        timeout = StartTimeout.read(headers)
        limit = query.get("fal_max_queue_length")
        if limit is not None:
            if not re.fullmatch(r"[0-9]{1,9}", limit):
                raise AppError(request_error("bad_request", "Invalid fal_max_queue_length"))
            waiting = sum(
                request.state == "IN_QUEUE" and request.base_url == base_url
                for request in self._requests.values()
            )
            if waiting > int(limit):
                return json_answer({"detail": "Queue is too long"}, 429, {"x-fal-needs-retry": "1"})
        request = QueueRequest(str(uuid.uuid4()), model, base_url, body, timeout)
        self._requests[request.request_id] = request
        self._stored_bytes += len(body)
        while len(self._requests) > REQUESTS_MAX or self._stored_bytes > STORED_BYTES_MAX:
            self._forget(next(iter(self._requests)))
        request.task = asyncio.create_task(self._live(request))
        return json_answer(request.status(None), headers={"x-fal-request-id": request.request_id})

    async def close(self) -> None:
        """Ends all requests."""
        for request_id in list(self._requests):
            self._forget(request_id)

    def cancel(self, request: QueueRequest) -> Answer:
        """Cancels a request (§7.7)."""
        if request.state == "COMPLETED":
            return json_answer({"status": "ALREADY_COMPLETED"}, 400)
        request.cancelled.set()
        if request.state == "IN_PROGRESS":
            return json_answer({"status": "CANCELLATION_REQUESTED"}, 202)
        if request.task:
            request.task.cancel()
        self._complete(request, request_error("client_cancelled"))
        return json_answer({"status": "OK"})

    def result(self, request: QueueRequest) -> Answer:
        """The outcome of a request (§7.6)."""
        if request.answer is None:
            return json_answer({"detail": "Request is still in progress"}, 400)
        return request.answer

    async def events(self, request: QueueRequest, with_logs: bool) -> AsyncIterator[bytes]:
        """The status stream (§7.5): each change, new log lines only, comments meanwhile."""
        shown, sent = "", 0
        while True:
            changed = request.changed
            new = request.logs[sent:]
            sent += len(new)
            is_over = request.state == "COMPLETED"
            text = json_answer(request.status(new if with_logs else None)).body.decode()
            if text != shown:
                shown = text
                yield sse(text)
            if is_over:
                return
            while not changed.is_set():
                try:
                    async with asyncio.timeout(self._keepalive_seconds):
                        await changed.wait()
                except TimeoutError:
                    yield b": keepalive\n\n"

    async def _live(self, request: QueueRequest) -> None:
        if not await self._wait_turn(request):
            expired = {"x-fal-request-timeout-type": "user"}
            self._complete(request, request_error("startup_timeout", "Request timed out", expired))
            return
        request.state = "IN_PROGRESS"
        request.touch()
        started = time.monotonic()
        try:
            answer = await self._perform(request)
        except AppError as error:
            answer = error.answer
        except Exception:  # our own mistake: told, and no request stays IN_PROGRESS for ever
            traceback.print_exc()
            answer = detail(500, "Internal Server Error")
        request.inference_seconds = time.monotonic() - started
        self._complete(request, answer)

    async def _wait_turn(self, request: QueueRequest) -> bool:
        """Moves a request to the head of the queue. Returns whether it got there in time."""
        step = request.model.queue_seconds / self._speed / (POSITION_AT_SUBMIT + 1)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(request.start_timeout_seconds):
                for position in range(POSITION_AT_SUBMIT, -1, -1):
                    request.position = position
                    request.touch()
                    await asyncio.sleep(step)
                return True
        return False

    def _complete(self, request: QueueRequest, answer: Answer) -> None:
        if request.answer is None:
            request.answer = answer
            self._stored_bytes += len(answer.body) if request.request_id in self._requests else 0
            request.error_type = answer.headers.get("x-fal-error-type", "")
            request.error = "Request failed" if request.error_type else ""
            request.state = "COMPLETED"
            request.touch()

    def _forget(self, request_id: str) -> None:
        request = self._requests.pop(request_id)
        self._stored_bytes -= len(request.body) + len(request.answer.body if request.answer else b"")
        if request.task:
            request.task.cancel()

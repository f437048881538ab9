"""fal's queue (docs/fal-http-api.md §7): requests that wait, run, are tried again and end."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from falrpc_server.emulator.answers import Answer, AppError, json_answer, sse
from falrpc_server.emulator.clock import Clock
from falrpc_server.emulator.failures import FAILURES, request_error
from falrpc_server.emulator.ids import Ids
from falrpc_server.emulator.queue_requests import POSITION_AT_SUBMIT, QueueRequest
from falrpc_server.emulator.routes import queue_base
from falrpc_server.emulator.scenarios import QueueDelay
from falrpc_server.emulator.slots import Slots
from falrpc_server.emulator.webhooks import Delivery, Webhooks

__all__ = ["Queue"]

REQUESTS_MAX = 20_000
STORED_BYTES_MAX = 1024 * 1024 * 1024  # of inputs and answers
ATTEMPTS_MAX = 10  # §7.1
RETRY_SECONDS = 0.5
FAILURE_SECONDS = 0.1  # an attempt that a scenario lets fail: long enough for watchers to see that it ran

_DISTURBED = frozenset(  # request errors after which fal tries again, whatever their status (§7.1)
    {
        "runner_scheduling_failure",
        "runner_connection_timeout",
        "runner_disconnected",
        "runner_connection_refused",
        "runner_connection_error",
        "runner_incomplete_response",
        "request_timeout",
        "startup_timeout",
    }
)


class Queue:
    """All requests. `perform` runs a request's model once, `mistake` is told of exceptions of our own."""

    def __init__(
        self,
        perform: Callable[[QueueRequest], Awaitable[Answer]],
        mistake: Callable[[], None],
        clock: Clock,
        ids: Ids,
        slots: Slots,
        webhooks: Webhooks,
        keepalive_seconds: float,
    ) -> None:
        self._perform = perform
        self._mistake = mistake
        self._clock = clock
        self._ids = ids
        self._slots = slots
        self._webhooks = webhooks
        self._keepalive_seconds = keepalive_seconds
        self._requests: dict[str, QueueRequest] = {}
        self._stored_bytes = 0

    def get(self, request_id: str) -> QueueRequest | None:
        """A request, None when it is not known (any more)."""
        request = self._requests.get(request_id)
        if request and request.answer:
            age = self._clock.now() - request.completed_at
            if age > request.expires_after_seconds:
                self._forget(request_id)
                return None
        return request

    def listed(self) -> list[dict[str, Any]]:
        """All requests, for evidence."""
        return [
            {
                "request_id": request.request_id,
                "gateway_request_id": request.gateway_request_id,
                "endpoint": request.model.endpoint_id,
                "state": request.state,
                "attempts": request.attempts,
                "cancelled": request.cancelled.is_set(),
                "status": request.answer.status if request.answer else None,
            }
            for request in self._requests.values()
        ]

    def submit(self, request: QueueRequest, delay: QueueDelay | None) -> Answer:
        """Accepts a request. The input is not looked at (§7.2). Raises AppError."""
        limit = request.incoming.query.get("fal_max_queue_length")
        if limit is not None:
            if not re.fullmatch(r"[0-9]{1,9}", limit):
                raise AppError(request_error("bad_request", "Invalid fal_max_queue_length"))
            base = queue_base(request.model.endpoint_id)
            waiting = sum(
                other.state == "IN_QUEUE" and queue_base(other.model.endpoint_id) == base
                for other in self._requests.values()
            )
            if waiting > int(limit):
                return FAILURES["queue_too_long"]
        request.gateway_request_id = request.request_id
        request.position = delay.position if delay else POSITION_AT_SUBMIT
        self._requests[request.request_id] = request
        self._stored_bytes += len(request.incoming.body)
        while len(self._requests) > REQUESTS_MAX or self._stored_bytes > STORED_BYTES_MAX:
            self._make_room()
        request.task = asyncio.create_task(self._live(request, delay))
        body = request.status(None)
        if "fal_webhook" in request.incoming.query:
            body["gateway_request_id"] = request.gateway_request_id
        return json_answer(body, headers={"x-fal-request-id": request.request_id})

    async def close(self) -> None:
        """Ends all requests."""
        tasks = [request.task for request in self._requests.values() if request.task]
        for request_id in list(self._requests):
            self._forget(request_id)
        await asyncio.gather(*tasks, return_exceptions=True)

    def cancel(self, request: QueueRequest) -> Answer:
        """Cancels a request (§7.7)."""
        if request.state == "COMPLETED":
            return FAILURES["already_completed"]
        request.cancelled.set()
        if request.state == "IN_PROGRESS":
            return json_answer({"status": "CANCELLATION_REQUESTED"}, 202)
        if request.task:
            request.task.cancel()
        self._complete(request, request_error("client_cancelled"))
        return json_answer({"status": "OK"})

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

    async def _live(self, request: QueueRequest, delay: QueueDelay | None) -> None:
        try:
            answer = await self._outcome(request, delay)
        except Exception:  # our own mistake: told, and no request stays IN_PROGRESS for ever
            self._mistake()
            answer = FAILURES["unhandled_exception"]
        self._complete(request, answer)

    async def _outcome(self, request: QueueRequest, delay: QueueDelay | None) -> Answer:
        """A request's way through the queue, attempt by attempt, to the answer of the last one."""
        started = asyncio.get_running_loop().time()
        deadline = None if request.start_timeout_seconds is None else started + request.start_timeout_seconds
        seconds = request.model.queue_seconds
        if delay and delay.delay_seconds is not None:
            seconds = delay.delay_seconds
        while True:
            if not await self._wait_turn(request, seconds, deadline):
                return FAILURES["user_start_timeout"]
            with self._slots.taken(request.model.endpoint_id):
                answer = await self._attempt(request, delay)
            is_last = request.attempts >= ATTEMPTS_MAX or request.wants_no_retry
            if is_last or request.cancelled.is_set() or not _is_tried_again(answer):
                return answer
            request.gateway_request_id = self._ids.uuid()
            request.state, request.position, seconds = "IN_QUEUE", 0, RETRY_SECONDS

    async def _attempt(self, request: QueueRequest, delay: QueueDelay | None) -> Answer:
        request.attempts += 1
        request.state = "IN_PROGRESS"
        request.touch()
        started = self._clock.now()
        try:
            if delay and request.attempts <= delay.retries:
                await self._clock.sleep(FAILURE_SECONDS)
                return request_error(delay.error_type)
            return await self._perform(request)
        except AppError as error:
            return error.answer
        finally:
            request.inference_seconds = self._clock.now() - started

    async def _wait_turn(self, request: QueueRequest, seconds: float, deadline: float | None) -> bool:
        """Moves a request to the head of the queue. Returns whether it got there in time."""
        step, due = seconds / (request.position + 1), self._clock.now()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                while True:
                    request.touch()
                    due += step
                    await self._clock.sleep(max(0.0, due - self._clock.now()))
                    if request.position == 0:
                        break
                    request.position -= 1
                await self._slots.free(request.model.endpoint_id)
                return True
        return False

    def _complete(self, request: QueueRequest, answer: Answer) -> None:
        if request.answer is not None:
            return
        request.complete(answer, self._clock.now())
        self._stored_bytes += len(answer.body) if request.request_id in self._requests else 0
        if url := request.incoming.query.get("fal_webhook"):
            ids = request.request_id, request.gateway_request_id
            self._webhooks.send(url, Delivery(*ids, request.user, answer, request.result_seconds))

    def _make_room(self) -> None:
        """Forgets the oldest request, one that has ended if there is one."""
        oldest = next((r for r in self._requests.values() if r.answer), next(iter(self._requests.values())))
        self._complete(oldest, FAILURES["internal_error"])  # whoever follows it is told
        self._forget(oldest.request_id)

    def _forget(self, request_id: str) -> None:
        request = self._requests.pop(request_id)
        self._stored_bytes -= len(request.incoming.body) + len(request.answer.body if request.answer else b"")
        if request.task:
            request.task.cancel()


def _is_tried_again(answer: Answer) -> bool:
    """Whether fal gives a failed attempt to another runner (§7.1, §12.5)."""
    if answer.headers.get("x-fal-request-timeout-type", "").lower() == "user":
        return False
    if error_type := answer.headers.get("x-fal-error-type"):  # fal's own word (§12.1)
        return answer.status in (503, 504) or error_type in _DISTURBED
    if hint := answer.headers.get("x-fal-needs-retry", "").lower():
        return hint in ("1", "true") and (answer.status >= 500 or answer.status == 429)
    return answer.status in (503, 504)

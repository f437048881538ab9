"""The funnel: every request to fal goes through here.

It holds requests back where limits are reached or a host only fails, commits before paid work is handed to
the transport, goes to the backup host when no connection can be made, decides about repeats (retry.py), and
raises FalError for whatever is not a 2xx answer. It knows httpx and how exchanges fail, and nothing of what
fal's answers mean.
"""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

import httpx

from falrpc_server.fal_http import retry
from falrpc_server.fal_http.endpoint_limits import EndpointLimits, LimitReached
from falrpc_server.fal_http.error_bodies import Failure, FalError
from falrpc_server.fal_http.host_health import HostHealth, origin
from falrpc_server.fal_http.incoming import About, Answer, OpenAnswer, read_refusal, redacted
from falrpc_server.fal_http.models import Operation, Scope
from falrpc_server.fal_http.transport import Progress
from falrpc_server.fal_http.wire import Request

__all__ = ["Exchanges", "Guards"]

_NOT_SENT = (Failure.UNREACHABLE, Failure.SUSPENDED)

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True, slots=True)
class Guards:
    """What is sent again, and what is not sent at all. All of it counts for this process only.

    Attributes:
        retries: How much is sent again.
        breaker_failures: After so many failures in a row a host is suspended.
        breaker_seconds: For so long, until one request probes it.
        endpoint_limits: Paid requests in flight, by endpoint pattern (endpoint_limits.py).
        place_seconds: How long a request waits for its place among them.
    """

    retries: retry.Policy = dataclasses.field(default_factory=retry.Policy)
    breaker_failures: int = 20
    breaker_seconds: float = 5.0
    endpoint_limits: Mapping[str, int] = dataclasses.field(default_factory=dict)
    place_seconds: float = 10.0


class Exchanges:
    """Sends requests, each with the key of its scope's account."""

    def __init__(
        self, transport: httpx.AsyncBaseTransport, user_agent: str, guards: Guards | None = None
    ) -> None:
        self._transport = transport
        self._standard_headers = (("User-Agent", user_agent), ("Accept-Encoding", "identity"))
        self._guards = guards or Guards()
        self._budget = retry.Budget(self._guards.retries)
        self._budget_of_uploads = retry.Budget(retry.OF_UPLOADS)
        self._endpoints = EndpointLimits(self._guards.endpoint_limits, self._guards.place_seconds)
        self._hosts = HostHealth(self._guards.breaker_failures, self._guards.breaker_seconds)

    async def fetch(
        self,
        request: Request | Callable[[], Request],
        about: About,
        scope: Scope,
        *,
        idle_seconds: float | None,
        bytes_max: int,
        total_seconds: float | None = None,
        chunks: AsyncIterator[bytes] | Callable[[], AsyncIterator[bytes]] | None = None,
    ) -> Answer:
        """Sends a request and reads the whole answer. Raises FalError.

        Args:
            request: What to send, or what makes it for each attempt anew.
            about: What it is about.
            scope: The caller's call.
            idle_seconds: Longest silence, None for no limit.
            bytes_max: Largest body.
            total_seconds: How long each attempt may take, None for no limit but the call's.
            chunks: The request's body, when it comes piece by piece; it can't be sent again then, unless
                it is made anew for each attempt.
        """

        sending = _Sending(request, about, scope, idle_seconds, chunks)

        async def attempt() -> Answer:
            try:
                async with asyncio.timeout(total_seconds) as limit:
                    response = await self._send(sending)
                    try:
                        body = await OpenAnswer(response, about).body(bytes_max)
                        return Answer(response.status_code, response.headers, body)
                    finally:
                        await response.aclose()
            except TimeoutError as error:
                if not limit.expired():
                    raise
                may_have_left = scope.paid_bytes_may_have_left or not about.operation.is_paid
                failure = Failure.INTERRUPTED if may_have_left else Failure.UNREACHABLE
                raise about.failed(failure, f"not over after {total_seconds:g} s") from error

        async with self._place(about):
            if chunks is not None and not callable(chunks):
                return await attempt()
            return await self._repeating(attempt, about, scope)

    @asynccontextmanager
    async def open(
        self,
        request: Request | Callable[[], Request],
        about: About,
        scope: Scope,
        *,
        idle_seconds: float | None,
    ) -> AsyncIterator[OpenAnswer]:
        """Sends a request and gives the answer with its head read. Raises FalError."""
        sending = _Sending(request, about, scope, idle_seconds)
        async with self._place(about):
            response = await self._repeating(lambda: self._send(sending), about, scope)
            try:
                yield OpenAnswer(response, about)
            finally:
                await response.aclose()

    @asynccontextmanager
    async def _place(self, about: About) -> AsyncIterator[None]:
        """Holds a paid request's place among those of its endpoint."""
        if not about.operation.is_paid:
            yield
            return
        try:
            async with self._endpoints.place(about.endpoint_id):
                yield
        except LimitReached as error:
            raise about.failed(Failure.BUSY, f"the limit of {error}") from error

    async def _repeating(self, attempt: Callable[[], Awaitable[_T]], about: About, scope: Scope) -> _T:
        """Attempts an exchange until it succeeds or must not be repeated."""
        now = asyncio.get_running_loop().time
        policy, budget = self._guards.retries, self._budget
        if about.operation.has_own_credential:
            policy, budget = retry.OF_UPLOADS, self._budget_of_uploads
        budget.sent(now())
        while True:
            try:
                return await attempt()
            except FalError as error:
                left = None if scope.deadline is None else scope.deadline - now()
                delay = retry.delay_seconds(error, about.resends, left, policy)
                if delay is None or not scope.repeats or not budget.take(now()):
                    raise
            about.resends += 1
            await asyncio.sleep(delay)

    async def _send(self, sending: "_Sending") -> httpx.Response:
        """One attempt, at the backup host if nothing could be sent to the first one, whose error counts."""
        request = sending.request() if callable(sending.request) else sending.request
        try:
            return await self._send_to(request.url, request, sending)
        except FalError as error:
            if not request.backup_url or error.failure not in _NOT_SENT:
                raise
            primary = error
        self._hosts.replaced(origin(request.url), origin(request.backup_url), sending.scope)
        try:
            return await self._send_to(request.backup_url, request, sending)
        except FalError as error:
            if error.failure in _NOT_SENT:
                raise primary from error
            raise

    async def _send_to(self, url: str, request: Request, sending: "_Sending") -> httpx.Response:
        """Sends the request to one host: a 2xx response with its head read."""
        about, scope = sending.about, sending.scope
        if about.operation.is_paid:
            about.request_id = ""  # each attempt has its own
        is_put = about.operation in (Operation.UPLOAD_PUT, Operation.UPLOAD_PART)
        is_at_storage = about.operation.has_own_credential
        host = "uploads" if is_at_storage else origin(url)  # fal names hosts of uploads as it likes
        progress = Progress()
        if wait := self._hosts.enter(host, progress, scope):
            raise about.failed(Failure.SUSPENDED, host, retry_after_seconds=wait)
        outgoing = httpx.Request(
            request.method,
            url,
            headers=[*self._standard_headers, *_credential(about, scope), *request.headers],
            content=sending.body(request),
            extensions={"progress": progress, "timeout": {"read": sending.idle_seconds}},
        )
        try:
            await _commit(about, scope)
            scope.attempts += 1
            response = await self._transport.handle_async_request(outgoing)
        except httpx.PoolTimeout as error:
            raise about.failed(Failure.BUSY, str(error) or "no free connection") from error
        except httpx.TransportError as error:
            if not (is_put and progress.connected):  # the sender of the bytes may have broken it off
                self._hosts.failed(host, progress, scope)
            failure = Failure.INTERRUPTED if progress.connected else Failure.UNREACHABLE
            raise about.failed(failure, f"{type(error).__name__}: {error}") from error
        finally:
            self._hosts.gave_up(host, progress)
            if about.operation.is_paid and progress.connected:
                scope.paid_bytes_may_have_left = True
        if about.operation.is_paid or not about.request_id:
            about.request_id = redacted(response.headers.get("x-fal-request-id", ""), _secrets(scope))
        _tell_id(response.status_code, about, scope)
        if 200 <= response.status_code < 300:
            self._hosts.succeeded(host, scope)
            return response
        try:
            refusal = await read_refusal(response, about, _secrets(scope))
        finally:
            await response.aclose()
        if not (refusal.answer and refusal.answer.is_from_edge):
            self._hosts.succeeded(host, scope)
        elif about.operation is not Operation.STATUS_STREAM:  # the poll behind it tells
            self._hosts.failed(host, progress, scope)
        if retry.was_refused(refusal):
            scope.paid_bytes_may_have_left = False  # they did, and nothing came of them
        refusal.is_callers_key = scope.account is not None and scope.account.is_callers
        try:
            raise refusal
        finally:
            del refusal  # its traceback names this frame: a ring that keeps what was sent


@dataclasses.dataclass(frozen=True, slots=True)
class _Sending:
    """What is to be sent, as often as it takes."""

    request: Request | Callable[[], Request]
    about: About
    scope: Scope
    idle_seconds: float | None
    chunks: AsyncIterator[bytes] | Callable[[], AsyncIterator[bytes]] | None = None

    def body(self, request: Request) -> bytes | AsyncIterator[bytes] | None:
        """What an attempt sends."""
        if self.chunks is None:
            return request.body
        return self.chunks() if callable(self.chunks) else self.chunks


def _credential(about: About, scope: Scope) -> tuple[tuple[str, str], ...]:
    """The key of the account that pays. It stays with fal's own hosts."""
    if about.operation.has_own_credential:
        return ()
    if scope.account is None:  # a method that forgot to ask for permission
        raise RuntimeError("no account was lent to this call")
    return scope.account.credential


def _secrets(scope: Scope) -> tuple[str, ...]:
    return scope.account.secrets if scope.account else ()


async def _commit(about: About, scope: Scope) -> None:
    """From here on nobody before us repeats the call."""
    if about.operation.is_paid and not scope.committed:
        await scope.commit()
        scope.committed = True


def _tell_id(status: int, about: About, scope: Scope) -> None:
    """Tells the id of work that fal has begun."""
    began = 200 <= status < 300 or (
        about.operation is not Operation.SUBMIT and (status == 422 or status >= 500)
    )
    if began and about.operation.is_paid and about.request_id:
        scope.accepted(about.request_id)

"""The funnel: every request to fal goes through here.

It commits before paid work is handed to the transport, decides about repeats (retry.py), and raises
FalError for whatever is not a 2xx answer. It knows httpx and how exchanges fail, and nothing of what fal's
answers mean.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import httpx

from falrpc_server.fal_http import error_bodies, retry
from falrpc_server.fal_http.encodings import BadEncoding, inflate, is_plain
from falrpc_server.fal_http.error_bodies import Failure, FalError
from falrpc_server.fal_http.events import BadEventStream, Event, EventTooLarge, read_events
from falrpc_server.fal_http.models import Operation, Scope
from falrpc_server.fal_http.transport import Progress
from falrpc_server.fal_http.wire import Request

__all__ = ["About", "Answer", "Exchanges", "OpenAnswer"]

ERROR_BODY_BYTES_MAX = 24 * 1024 * 1024  # a model may send the whole input back (§12.2)
REFUSAL_SECONDS_MAX = 5.0  # for the body of an error answer: its head says the most
SECRET_MIN = 8  # characters
REDACTED = "[key]"

_T = TypeVar("_T")
_TYPE = re.compile(r"[a-z0-9_.]{1,64}")


@dataclass(slots=True)
class About:
    """What an exchange is about, for its errors."""

    operation: Operation
    endpoint_id: str = ""
    request_id: str = ""

    def failed(self, failure: Failure, cause: str, http_status: int = 0) -> FalError:
        """The error of an exchange that failed without an error answer."""
        return FalError(
            self.operation,
            failure,
            cause,
            endpoint_id=self.endpoint_id,
            request_id=self.request_id,
            http_status=http_status,
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole 2xx answer. Header names are case-insensitive."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class OpenAnswer:
    """A 2xx answer whose body is still to come."""

    def __init__(self, response: httpx.Response, about: About) -> None:
        self._response = response
        self._about = about
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers

    async def body(self, bytes_max: int) -> bytes:
        """Reads the whole body. Raises FalError."""
        read: list[bytes] = []
        size = 0
        try:
            async with aclosing(_pieces(self._response)) as pieces:
                async for piece in pieces:
                    size += len(piece)
                    if size > bytes_max:
                        cause = f"more than {bytes_max} bytes"
                        raise self._about.failed(Failure.TOO_LARGE, cause, self.status)
                    read.append(piece)
        except httpx.TransportError as error:
            raise self._about.failed(Failure.TRUNCATED, str(error), self.status) from error
        return self._decoded(b"".join(read), bytes_max)

    async def events(self, event_bytes_max: int) -> AsyncGenerator[Event]:
        """Yields the body's events as they come, without empty ones. Raises FalError."""
        if not is_plain(self._encoding):
            raise self._about.failed(Failure.MALFORMED, "an encoding nobody asked for", self.status)
        try:
            async with aclosing(read_events(_pieces(self._response), event_bytes_max)) as events:
                async for event in events:
                    if event.data:
                        yield event
        except httpx.TransportError as error:
            raise self._about.failed(Failure.STREAM_TRUNCATED, str(error), self.status) from error
        except BadEventStream as error:
            raise self._about.failed(Failure.MALFORMED, str(error), self.status) from error
        except EventTooLarge as error:
            raise self._about.failed(Failure.TOO_LARGE, str(error), self.status) from error

    @property
    def _encoding(self) -> str:
        return self.headers.get("content-encoding", "")

    def _decoded(self, body: bytes, bytes_max: int) -> bytes:
        """No encoding was asked for, but a paid answer is not dropped because it has one."""
        try:
            decoded, is_whole = inflate(body, self._encoding, bytes_max)
        except BadEncoding as error:
            raise self._about.failed(Failure.MALFORMED, str(error), self.status) from error
        if len(decoded) > bytes_max:
            raise self._about.failed(Failure.TOO_LARGE, f"more than {bytes_max} bytes", self.status)
        if not is_whole:
            raise self._about.failed(Failure.TRUNCATED, "unfinished encoding", self.status)
        return decoded


class Exchanges:
    """Sends requests with one account's key."""

    def __init__(self, transport: httpx.AsyncBaseTransport, key: str, user_agent: str) -> None:
        self._transport = transport
        self._credential = (("Authorization", f"Key {key}"),)
        # Its second half is the secret. Short ones, as in tests, would be found in ordinary words.
        self._secrets = [part for part in (key, key.partition(":")[2]) if len(part) >= SECRET_MIN]
        self._standard_headers = (("User-Agent", user_agent), ("Accept-Encoding", "identity"))

    async def fetch(
        self,
        request: Request,
        about: About,
        scope: Scope,
        *,
        idle_seconds: float | None,
        bytes_max: int,
        chunks: AsyncIterator[bytes] | None = None,
    ) -> Answer:
        """Sends a request and reads the whole answer. Raises FalError.

        Args:
            request: What to send.
            about: What it is about.
            scope: The caller's call.
            idle_seconds: Longest silence, None for no limit.
            bytes_max: Largest body.
            chunks: The request's body, when it comes piece by piece; it can't be sent again then.
        """

        async def attempt() -> Answer:
            response = await self._send(request, about, scope, idle_seconds, chunks)
            try:
                body = await OpenAnswer(response, about).body(bytes_max)
                return Answer(response.status_code, response.headers, body)
            finally:
                await response.aclose()

        return await attempt() if chunks else await _repeating(attempt, scope)

    @asynccontextmanager
    async def open(
        self, request: Request, about: About, scope: Scope, *, idle_seconds: float | None
    ) -> AsyncIterator[OpenAnswer]:
        """Sends a request and gives the answer with its head read. Raises FalError."""

        async def attempt() -> httpx.Response:
            return await self._send(request, about, scope, idle_seconds, None)

        response = await _repeating(attempt, scope)
        try:
            yield OpenAnswer(response, about)
        finally:
            await response.aclose()

    async def _send(
        self,
        request: Request,
        about: About,
        scope: Scope,
        idle_seconds: float | None,
        chunks: AsyncIterator[bytes] | None,
    ) -> httpx.Response:
        """One attempt: a 2xx response with its head read."""
        # A signed upload URL carries its own credential; the key stays with fal's own hosts.
        credential = () if about.operation is Operation.UPLOAD_PUT else self._credential
        progress = Progress()
        outgoing = httpx.Request(
            request.method,
            request.url,
            headers=[*self._standard_headers, *credential, *request.headers],
            content=request.body if chunks is None else chunks,
            extensions={"progress": progress, "timeout": {"read": idle_seconds}},
        )
        if about.operation.is_paid and not scope.committed:
            await scope.commit()
            scope.committed = True
        scope.attempts += 1
        try:
            response = await self._transport.handle_async_request(outgoing)
        except httpx.TransportError as error:
            failure = Failure.INTERRUPTED if progress.connected else Failure.UNREACHABLE
            raise about.failed(failure, f"{type(error).__name__}: {error}") from error
        finally:
            if about.operation.is_paid and progress.connected:
                scope.paid_bytes_may_have_left = True
        about.request_id = about.request_id or self._redacted(response.headers.get("x-fal-request-id", ""))
        if 200 <= response.status_code < 300:
            if about.operation in (Operation.RUN, Operation.STREAM) and about.request_id:
                scope.accepted(about.request_id)
            return response
        try:
            raise await self._refusal(response, about)
        finally:
            await response.aclose()

    async def _refusal(self, response: httpx.Response, about: About) -> FalError:
        """The error of an answer that is not 2xx. What can't be read of it is left out, and so is our key."""
        body = bytearray()
        try:
            async with asyncio.timeout(REFUSAL_SECONDS_MAX), aclosing(_pieces(response)) as pieces:
                async for piece in pieces:
                    body += piece
                    if len(body) > ERROR_BODY_BYTES_MAX:
                        break
        except (httpx.TransportError, TimeoutError):
            pass  # the status was read: it is the answer, however little of its text came
        headers = {name.lower(): self._redacted(value) for name, value in response.headers.items()}
        text = b""
        with contextlib.suppress(BadEncoding):
            text, _ = inflate(bytes(body), headers.get("content-encoding", ""), ERROR_BODY_BYTES_MAX)
        for secret in self._secrets:
            text = text.replace(secret.encode(), REDACTED.encode())
        answer = error_bodies.read(response.status_code, headers, text)
        known = answer.error_type if _TYPE.fullmatch(answer.error_type) else ""
        return FalError(
            about.operation,
            Failure.ANSWER,
            f"HTTP {response.status_code} {known}".strip(),
            answer=answer,
            is_stored=about.operation is Operation.RESULT and answer.is_outcome,
            endpoint_id=about.endpoint_id,
            request_id=about.request_id,
        )

    def _redacted(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        return text


async def _repeating(attempt: Callable[[], Awaitable[_T]], scope: Scope) -> _T:
    """Attempts an exchange until it succeeds or must not be repeated."""
    resends = 0
    while True:
        try:
            return await attempt()
        except FalError as error:
            left = None if scope.deadline is None else scope.deadline - asyncio.get_running_loop().time()
            delay = retry.delay_seconds(error, resends, left)
            if delay is None:
                raise
        resends += 1
        await asyncio.sleep(delay)


def _pieces(response: httpx.Response) -> AsyncGenerator[bytes]:
    """The bytes of a response as they come, undecoded: no encoding was asked for."""
    return response.stream.__aiter__()  # type: ignore[union-attr,return-value] # Transport's is a generator

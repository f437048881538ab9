"""Answers as they come in: 2xx bodies within bounds, error answers read into FalError.

It knows httpx's responses and how reading them fails, and nothing of what fal's answers mean.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import httpx

from falrpc_server.fal_http import error_bodies
from falrpc_server.fal_http.encodings import BadEncoding, inflate, is_plain
from falrpc_server.fal_http.error_bodies import Failure, FalError
from falrpc_server.fal_http.event_stream import read_events
from falrpc_server.fal_http.events import BadEventStream, Event, EventTooLarge
from falrpc_server.fal_http.models import Operation
from falrpc_server.fal_http.retry import CONCURRENCY

__all__ = ["About", "Answer", "OpenAnswer", "read_refusal", "redacted"]

ERROR_BODY_BYTES_MAX = 24 * 1024 * 1024  # a model may send the whole input back (§12.2)
REFUSAL_SECONDS_MAX = 5.0  # for the body of an error answer: its head says the most
REDACTED = "[key]"

_TYPE = re.compile(r"[a-z0-9_.]{1,64}")


@dataclass(slots=True)
class About:
    """What an exchange is about, for its errors.

    Attributes:
        operation: What is done.
        endpoint_id, request_id: With what, where known; of a paid one the id comes with each answer.
        has_queue_limit: Whether a submission names a longest queue.
        resends: How often it was sent again so far.
    """

    operation: Operation
    endpoint_id: str = ""
    request_id: str = ""
    has_queue_limit: bool = False
    resends: int = 0

    def failed(
        self, failure: Failure, cause: str, http_status: int = 0, retry_after_seconds: float | None = None
    ) -> FalError:
        """The error of an exchange that failed without an error answer."""
        return FalError(
            self.operation,
            failure,
            cause,
            endpoint_id=self.endpoint_id,
            request_id=self.request_id,
            http_status=http_status,
            retry_after_seconds=retry_after_seconds,
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
        """Yields the body's events as they come, without blank ones. Raises FalError."""
        if not is_plain(self._encoding):
            raise self._about.failed(Failure.MALFORMED, "an encoding nobody asked for", self.status)
        try:
            async with aclosing(read_events(_pieces(self._response), event_bytes_max)) as events:
                async for event in events:
                    if event.data and not event.data.isspace():
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


async def read_refusal(response: httpx.Response, about: About, secrets: Sequence[str]) -> FalError:
    """The error of an answer that is not 2xx. What can't be read of it is left out, and so are secrets."""
    body = bytearray()
    try:
        async with asyncio.timeout(REFUSAL_SECONDS_MAX), aclosing(_pieces(response)) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) > ERROR_BODY_BYTES_MAX:
                    break
    except (httpx.TransportError, TimeoutError):
        pass  # the status was read: it is the answer, however little of its text came
    headers = {name.lower(): redacted(value, secrets) for name, value in response.headers.items()}
    text = b""
    with contextlib.suppress(BadEncoding):
        text, _ = inflate(bytes(body), headers.get("content-encoding", ""), ERROR_BODY_BYTES_MAX)
    for secret in secrets:
        text = text.replace(secret.encode(), REDACTED.encode())
    answer = error_bodies.read(response.status_code, headers, text)
    known = answer.error_type if _TYPE.fullmatch(answer.error_type) else ""
    is_account = answer.error_type == CONCURRENCY
    return FalError(
        about.operation,
        Failure.ANSWER,
        f"HTTP {response.status_code} {known}".strip(),
        answer=answer,
        is_stored=about.operation is Operation.RESULT and answer.is_outcome,
        endpoint_id=about.endpoint_id,
        request_id=about.request_id,
        hit_queue_limit=about.has_queue_limit and answer.http_status == 429 and not is_account,
    )


def redacted(text: str, secrets: Sequence[str]) -> str:
    """The text without secrets."""
    for secret in secrets:
        text = text.replace(secret, REDACTED)
    return text


def _pieces(response: httpx.Response) -> AsyncGenerator[bytes]:
    """The bytes of a response as they come, undecoded: no encoding was asked for."""
    return response.stream.__aiter__()  # type: ignore[union-attr,return-value] # Transport's is a generator

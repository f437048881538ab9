"""The messages of Upload as a header and chunks, within the time that their sender may take."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import structlog

from falrpc import v1
from falrpc_server.fal_http.models import Scope
from falrpc_server.fal_http.upload_errors import UploadMismatch, UploadStalled
from falrpc_server.translate.violations import InvalidRequest, Violation

__all__ = ["chunks", "header", "progress"]

PROGRESS_SECONDS = 5.0  # between two log lines about one upload


async def header(messages: AsyncIterator[v1.UploadRequest], idle_seconds: float) -> v1.UploadHeader:
    """Reads the header, which comes first. Raises InvalidRequest, UploadStalled."""
    message = await _next(messages, idle_seconds)
    if message is None or message.WhichOneof("part") != "header":
        raise InvalidRequest([Violation("header", "must be the first message")])
    return message.header


async def chunks(
    messages: AsyncIterator[v1.UploadRequest], idle_seconds: float, scope: Scope
) -> AsyncGenerator[bytes]:
    """Yields what comes behind the header. Raises UploadMismatch, UploadStalled."""
    while message := await _next(messages, idle_seconds, skips_empty=True):
        if message.WhichOneof("part") != "chunk":
            raise UploadMismatch("chunk", "is required in every message after the header")
        held = [message.chunk]
        del message  # large ones are not kept while the next one is awaited
        yield held.pop()
    # grpc tells the end before it tells that the call was cancelled, or cut off by a message that is too
    # large. To such a call nothing can be sent: so half a file is never taken for a whole one.
    await scope.commit()


async def _next(
    messages: AsyncIterator[v1.UploadRequest], idle_seconds: float, *, skips_empty: bool = False
) -> v1.UploadRequest | None:
    try:
        async with asyncio.timeout(idle_seconds) as limit:
            message = await anext(messages, None)
            while message and skips_empty and message.WhichOneof("part") == "chunk" and not message.chunk:
                message = await anext(messages, None)
            return message
    except TimeoutError:
        if not limit.expired():
            raise
        raise UploadStalled from None
    except InvalidRequest:
        if not skips_empty:
            raise
        # What came before may have been sent.
        raise UploadMismatch("chunk", "is no message of this method") from None


def progress(log: structlog.typing.FilteringBoundLogger, size: int | None) -> Callable[[int], None]:
    """What logs how far an upload is, now and then."""
    clock = asyncio.get_running_loop().time
    next_at = clock() + PROGRESS_SECONDS

    def note(sent: int) -> None:
        nonlocal next_at
        if clock() >= next_at:
            next_at = clock() + PROGRESS_SECONDS
            log.info("upload.progress", sent=sent, size=size)

    return note

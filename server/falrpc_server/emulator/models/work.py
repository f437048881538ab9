"""What a model is, and what it is given to work with."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TypeVar

import aiohttp

from falrpc_server.emulator.answers import Answer
from falrpc_server.emulator.clock import Clock
from falrpc_server.emulator.files.blobs import Blob
from falrpc_server.emulator.files.storage import File, Lifecycle, Storage
from falrpc_server.emulator.ids import Ids
from falrpc_server.emulator.models.inputs import Field, Input, model_error

__all__ = ["Downloads", "Model", "Run", "Stream", "Work"]

FETCH_BYTES_MAX = 64 * 1024 * 1024
FETCH_SECONDS_MAX = 5.0

_T = TypeVar("_T")


class Downloads:
    """Files from elsewhere, over one HTTP session that opens with the first of them."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def get(self, url: str) -> File | None:
        """Reads a file, None when that fails or it is too large."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS_MAX)
            self._session = aiohttp.ClientSession(
                timeout=timeout, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
            )
        data = bytearray()
        try:
            async with self._session.get(url) as response:
                if response.status != 200:
                    return None
                async for piece in response.content.iter_any():
                    data += piece
                    if len(data) > FETCH_BYTES_MAX:
                        return None
                return File("download", response.content_type, Blob(bytes(data)))
        except (aiohttp.ClientError, OSError, ValueError, OverflowError):  # odd URLs raise the last two
            return None

    async def close(self) -> None:
        """Closes the session."""
        if self._session is not None:
            await self._session.close()


@dataclass(slots=True)
class Work:
    """One run of a model.

    Attributes:
        input: The checked input.
        seconds: How long it should take.
        storage: Where files are.
        cdn_url: The base of URLs of files, as the caller reaches it.
        lifecycle: What the caller wants of the files that come out.
        owner: Whose files those are: the id of the caller's key.
        downloads: Where files that are elsewhere come from.
        threads: Runs what would block the event loop.
        log: Takes log lines: text and how many seconds later it appears.
        cancelled: Set when the caller asks the model to stop.
    """

    input: Input
    seconds: float
    storage: Storage
    cdn_url: str
    lifecycle: Lifecycle
    owner: str
    downloads: Downloads
    clock: Clock
    ids: Ids
    threads: Executor
    log: Callable[[str, float], None] = lambda text, later: None
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def sleep(self, seconds: float) -> None:
        """Takes time, as a real model would."""
        await self.clock.sleep(seconds)

    async def compute(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Runs a function that computes for long."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, function, *arguments)

    def keep(self, name: str, content_type: str, data: bytes) -> str:
        """Stores a file that came out and returns its URL."""
        path = self.storage.add(name, content_type, data, self.lifecycle, self.owner)
        return f"{self.cdn_url}/{path}"

    async def fetch(self, name: str) -> File:
        """Reads the file at the URL in an input field. Raises AppError like fal's apps (§12.2)."""
        url = self.input.get(name)
        file = self.storage.by_url(url, self.owner)
        if file is None and not url.startswith("data:"):
            file = await self.downloads.get(url)
        if file is None:
            raise model_error(
                "file_download_error",
                name,
                "Failed to download the file. Please check if the URL is accessible and try again.",
                url,
            )
        return file


Run = Callable[[Work], Awaitable[Answer]]
Stream = Callable[[Work], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class Model:
    """An endpoint.

    Attributes:
        endpoint_id: Its full id.
        summary: What it does, in one sentence.
        run: Makes the answer.
        fields: Its input.
        stream: Makes the pieces of an event stream; None when it does not stream.
        answers_stream: Whether `run` answers where a stream was asked, too.
        queue_seconds: How long a queue request waits.
        billable_units: What a stream costs, as its headers say.
        seconds: How long a run takes; 0 when the input says it, or nearly nothing.
    """

    endpoint_id: str
    summary: str
    run: Run
    fields: Sequence[Field] = ()
    stream: Stream | None = None
    answers_stream: bool = False
    queue_seconds: float = 0.0
    seconds: float = 0.0
    billable_units: int = 1

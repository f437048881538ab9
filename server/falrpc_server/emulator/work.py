"""What a model is, and what it is given to work with."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TypeVar

import aiohttp

from falrpc_server.emulator.answers import Answer
from falrpc_server.emulator.inputs import Field, Input, model_error
from falrpc_server.emulator.storage import File, Storage

__all__ = ["CutHere", "Downloads", "Model", "Work"]

FETCH_BYTES_MAX = 64 * 1024 * 1024
FETCH_SECONDS_MAX = 5.0

_T = TypeVar("_T")


class CutHere(Exception):
    """Breaks the connection in the middle of a body.

    Attributes:
        resets: Whether by RST, which may overtake what was sent, or by an early FIN behind it.
    """

    def __init__(self, *, resets: bool) -> None:
        super().__init__()
        self.resets = resets


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
                return File("download", response.content_type, bytes(data))
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
        storage: Where files are.
        downloads: Where files that are elsewhere come from.
        speed: Durations are divided by it.
        pictures: Runs what would block the event loop.
        log: Takes log lines: text, level and how many seconds later it appears.
        cancelled: Set when the caller asks the model to stop.
        new_id: Gives ids for a workflow's steps.
    """

    input: Input
    storage: Storage
    downloads: "Downloads"
    speed: float
    pictures: Executor
    new_id: Callable[[], str]
    log: Callable[[str, float], None] = lambda text, later: None
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def sleep(self, seconds: float) -> None:
        """Takes time, as a real model would."""
        await asyncio.sleep(seconds / self.speed)

    async def draw(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Runs a function that computes."""
        return await asyncio.get_running_loop().run_in_executor(self.pictures, function, *arguments)

    async def fetch(self, name: str) -> File:
        """Reads the file at the URL in an input field. Raises AppError like fal's apps (§12.2)."""
        url = self.input.get(name)
        is_own = self.storage.is_own(url)
        file = self.storage.by_url(url) if is_own else await self.downloads.get(url)
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
    """

    endpoint_id: str
    summary: str
    run: Run
    fields: Sequence[Field] = ()
    stream: Stream | None = None
    answers_stream: bool = False
    queue_seconds: float = 0.0

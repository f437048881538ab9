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

__all__ = ["CutHere", "Model", "Work"]

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


@dataclass(slots=True)
class Work:
    """One run of a model.

    Attributes:
        input: The checked input.
        storage: Where files are.
        speed: Durations are divided by it.
        pictures: Runs what would block the event loop.
        log: Takes log lines: text, level and how many seconds later it appears.
        cancelled: Set when the caller asks the model to stop.
        new_id: Gives ids for a workflow's steps.
    """

    input: Input
    storage: Storage
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
        if self.storage.is_own(url):
            if file := self.storage.by_url(url):
                return file
        else:
            timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS_MAX)
            try:
                async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
                    data = await response.content.read(FETCH_BYTES_MAX)
                    if response.status == 200:
                        return File("download", response.content_type, data)
            except (aiohttp.ClientError, TimeoutError, ValueError):
                pass
        raise model_error(
            "file_download_error",
            name,
            "Failed to download the file. Please check if the URL is accessible and try again.",
            url,
        )


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
        queue_seconds: How long a queue request waits.
        heeds_cancel: Whether it stops when asked to.
    """

    endpoint_id: str
    summary: str
    run: Run
    fields: Sequence[Field] = ()
    stream: Stream | None = None
    queue_seconds: float = 0.0
    heeds_cancel: bool = False

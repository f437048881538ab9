"""Reads the events of a stream of bytes as they come. What they are is events.py's affair."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from falrpc_server.fal_http.events import Event, EventReader

__all__ = ["read_events"]

SLICE_BYTES = 16 * 1024  # of a piece, between which others have their turn


async def read_events(pieces: AsyncGenerator[bytes], event_bytes_max: int) -> AsyncGenerator[Event]:
    """Yields the events of a stream of bytes as they come, and closes it.

    What breaks the stream off is raised after the event that it leaves unfinished: a line that came whole
    is not lost for the blank line that did not.

    Raises BadEventStream, EventTooLarge.
    """
    reader = EventReader(event_bytes_max)
    failure: Exception | None = None
    async with aclosing(pieces):
        while True:
            try:
                piece = await anext(pieces)
            except StopAsyncIteration:
                break
            except Exception as error:
                failure = error
                break
            for start in range(0, len(piece), SLICE_BYTES):
                if start:
                    await asyncio.sleep(0)
                for event in reader.feed(piece[start : start + SLICE_BYTES]):
                    yield event
    for event in reader.finish(is_cut=failure is not None):
        yield event
    if failure:
        try:
            raise failure
        finally:
            failure = None  # named by a frame of its own traceback it would wait for a garbage collection

"""fal-client's two clients behind one blocking manner of calling them, so that each test is written once.

It calls what the client offers, by the client's own names, and changes nothing of what comes back.
"""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import fal_client

__all__ = ["KEY", "KINDS", "Calling"]

KEY = "test-id:test-secret"
KINDS = ("sync", "async")

_END = object()
_CALLED = (
    fal_client.SyncClient,
    fal_client.AsyncClient,
    fal_client.SyncRequestHandle,
    fal_client.AsyncRequestHandle,
)


class Calling:
    """A client or request handle of fal-client.

    Its methods return what the client's return: awaited, a generator when it is an async one, and in a Calling
    of its own when it is a handle.

    Attributes:
        target: The client or handle itself.
    """

    def __init__(self, target: Any, runner: asyncio.Runner) -> None:
        self.target = target
        self._runner = runner

    @classmethod
    def client(cls, kind: str, runner: asyncio.Runner, key: str = KEY) -> "Calling":
        """A new client of one of KINDS."""
        return cls(fal_client.SyncClient(key) if kind == "sync" else fal_client.AsyncClient(key), runner)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.target, name)
        if not inspect.ismethod(found):
            return found
        return lambda *given, **named: self._finish(found(*given, **named))

    def close(self) -> None:
        """Closes the connections, for which the client itself has no method."""
        if isinstance(self.target, fal_client.SyncClient):
            self.target._client.close()
        else:
            self._runner.run(_close(self.target))

    def _finish(self, value: Any) -> Any:
        if inspect.iscoroutine(value):
            value = self._runner.run(value)
        elif inspect.isasyncgen(value):
            value = self._iterated(value)
        return Calling(value, self._runner) if isinstance(value, _CALLED) else value

    def _iterated(self, generator: AsyncGenerator[Any, None]) -> Iterator[Any]:
        try:
            while (value := self._runner.run(_next(generator))) is not _END:
                yield value
        finally:
            self._runner.run(generator.aclose())


async def _next(generator: AsyncGenerator[Any, None]) -> Any:
    return await anext(generator, _END)


async def _close(client: fal_client.AsyncClient) -> None:
    await (await client._client).aclose()

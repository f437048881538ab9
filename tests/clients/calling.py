"""A program of tests/clients that makes calls as it is told (see the README there)."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.clients.languages import Language

__all__ = ["Caller", "calling"]

_ANSWER_SECONDS_MAX = 60
_ANSWER_BYTES_MAX = 256 * 1024 * 1024


@dataclass(frozen=True)
class Caller:
    """The program, running."""

    process: asyncio.subprocess.Process
    errors: Path

    def said(self) -> str:
        """What it wrote to its standard error: nothing, when all is well."""
        return self.errors.read_text()

    async def call(
        self, method: str, *requests: dict[str, Any], timeout_seconds: float = 30, **more: Any
    ) -> dict[str, Any]:
        """Makes a call, and returns what the program tells of it."""
        asked = {"method": method, "requests": requests, "timeout_seconds": timeout_seconds, **more}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(asked).encode() + b"\n")
        await self.process.stdin.drain()
        try:
            async with asyncio.timeout(timeout_seconds + _ANSWER_SECONDS_MAX):
                line = await self.process.stdout.readline()
        except TimeoutError:
            self.process.kill()  # else the next call would get this one's answer
            raise
        assert line, f"the program has ended: {self.said()}"
        told: dict[str, Any] = json.loads(line)
        return told


@asynccontextmanager
async def calling(
    language: Language, address: str, errors: Path, **environment: str
) -> AsyncIterator[Caller]:
    """Starts the program; it ends with this context, and must do so well."""
    with errors.open("w") as stderr:
        process = await asyncio.create_subprocess_exec(
            *language.caller,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            cwd=language.caller_folder,
            env={**os.environ, **environment, "FALRPC_ADDRESS": address},
            limit=_ANSWER_BYTES_MAX,
        )
    caller = Caller(process, errors)
    try:
        yield caller
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(30):
            code = await process.wait()
        assert (code, caller.said()) == (0, "")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

"""Files that are read again when they change: certificates, keys, tokens, policies.

A change that does not hold is refused as a whole: what was in force stays in force, the log says why, and it
is counted. Files are compared by content, since mounted secrets change by a swap of links.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import structlog

from falrpc_server.config import ConfigError

__all__ = ["Files", "Reloader", "Source", "shown"]

SETTLING_SECONDS = 0.1  # for which files stay the same, before what they say counts
FILE_BYTES_MAX = 16 * 1024 * 1024

_T = TypeVar("_T")


class Files:
    """Reads files, and remembers what was in them."""

    def __init__(self) -> None:
        self.digests: dict[str, bytes] = {}

    def bytes(self, path: str) -> bytes:
        """The content of a file. Raises ConfigError, which names it."""
        content, problem = _read(path)
        self.digests[path] = hashlib.sha256(content + problem.encode()).digest()
        if problem:
            raise ConfigError([f"{shown(path)}: {problem}"])
        return content

    def text(self, path: str) -> str:
        """The same as text."""
        try:
            return self.bytes(path).decode()
        except UnicodeDecodeError:
            raise ConfigError([f"{path}: is no UTF-8 text"]) from None

    def have_changed(self) -> bool:
        """Whether any file that was read says something else now."""
        return any(
            hashlib.sha256(b"".join(_encoded(_read(path)))).digest() != digest
            for path, digest in self.digests.items()
        )


class Source(Generic[_T]):
    """Something that is read from files and put in force.

    Attributes:
        name: What it is, for the log.
        failures: How many of its changes were refused.
    """

    def __init__(self, name: str, read: Callable[[Files], _T], apply: Callable[[_T], None]) -> None:
        """Takes what reads and checks it, raising ConfigError, and what puts it in force."""
        self.name = name
        self.failures = 0
        self._read = read
        self._apply = apply
        self._files = Files()

    def load(self) -> None:
        """Reads it and puts it in force. Raises ConfigError; then nothing changes."""
        self.apply(self.read())

    def read(self) -> _T:
        """Reads it. Raises ConfigError."""
        files = Files()
        try:
            return self._read(files)
        finally:
            self._files = files

    def attempt(self) -> tuple[_T | None, Exception | None]:
        """Reads it: what it says, or what is wrong with it."""
        try:
            return self.read(), None
        except Exception as error:
            return None, error

    def apply(self, value: _T) -> None:
        """Puts it in force."""
        self._apply(value)

    def have_files_changed(self) -> bool:
        """Whether it is worth reading again."""
        return self._files.have_changed()


class Reloader:
    """Looks at files now and then."""

    def __init__(self, sources: Sequence[Source[Any]], log: structlog.typing.FilteringBoundLogger) -> None:
        self._sources = sources
        self._log = log
        self._wake = asyncio.Event()

    def look_now(self) -> None:
        """Does not wait for the next time."""
        self._wake.set()

    async def run(self, seconds: float) -> None:
        """Looks at the files every so many seconds."""
        while True:
            try:
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            for source in self._sources:
                try:
                    await self._look(source)
                except ConfigError as error:
                    self._refused(source, error.problems)
                except Exception as error:  # a bug must not end all looking
                    self._refused(source, [f"can't be read: {type(error).__name__}"])

    async def _look(self, source: Source[Any]) -> None:
        # Reading may take long where the disk is a network's.
        if not await asyncio.to_thread(source.have_files_changed):
            return
        is_settled = False
        while not is_settled:  # half of what is being written may look whole
            value, error = await asyncio.to_thread(source.attempt)
            await asyncio.sleep(SETTLING_SECONDS)
            is_settled = not await asyncio.to_thread(source.have_files_changed)
        if error:
            raise error
        source.apply(value)
        self._log.info("reload.done", what=source.name)

    def _refused(self, source: Source[Any], problems: Sequence[str]) -> None:
        source.failures += 1
        self._log.error("reload.refused", what=source.name, problems=problems, refused=source.failures)


def shown(path: str) -> str:
    """A path for people; not what is most likely the secret itself, given where its file's name belongs."""
    return path if path.startswith(("/", "./", "../")) or Path(path).exists() else "(not shown: no such file)"


def _read(path: str) -> tuple[bytes, str]:
    """A file's content, or what is wrong with it."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        return b"", error.strerror or "can't be read"
    if len(content) > FILE_BYTES_MAX:
        return b"", f"is larger than {FILE_BYTES_MAX} bytes"
    return content, ""


def _encoded(read: tuple[bytes, str]) -> tuple[bytes, bytes]:
    return read[0], read[1].encode()

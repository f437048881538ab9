"""Files that are read again: whole or not at all, and never for the last time."""

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from falrpc_server.config import ConfigError
from falrpc_server.observability import make_logger
from falrpc_server.reloading import SETTLING_SECONDS, Files, Reloader, Source, shown


class Watched:
    """A file that says a number, what is in force of it, and what the log says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.in_force: list[str] = []
        self.log = io.StringIO()
        path.write_text("1")
        self.source: Source[str] = Source("numbers", self.read, self.in_force.append)
        self.source.load()

    def read(self, files: Files) -> str:
        text = files.text(str(self.path))
        if text == "bug":
            raise ZeroDivisionError("secret-of-the-file")
        if not text.isdigit():
            raise ConfigError(["is no number"])
        return text

    def lines(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]

    async def told(self, event: str, count: int) -> list[dict[str, Any]]:
        """Waits for lines of the log."""
        async with asyncio.timeout(20):
            while len(lines := self.lines(event)) < count:
                await asyncio.sleep(0.01)
        return lines


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    """A file that is looked at all the time."""
    one = Watched(tmp_path / "number")
    looking = asyncio.create_task(Reloader([one.source], make_logger("info", one.log)).run(0.01))
    yield one
    looking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await looking


async def test_changes(watched: Watched) -> None:
    """A good change counts once, a bad one is told once, and what was in force stays."""
    watched.path.write_text("2")
    await watched.told("reload.done", 1)
    watched.path.write_text("two")
    [line] = await watched.told("reload.refused", 1)
    assert (line["what"], line["problems"], line["refused"]) == ("numbers", ["is no number"], 1)
    watched.path.write_text("3")
    await watched.told("reload.done", 2)
    await asyncio.sleep(5 * SETTLING_SECONDS)
    assert watched.in_force == ["1", "2", "3"]
    assert len(watched.lines("reload.refused")) == 1


async def test_a_bug_is_not_the_end(watched: Watched) -> None:
    """What nobody expected is told without its text, which may be the file's, and the next change counts."""
    watched.path.write_text("bug")
    [line] = await watched.told("reload.refused", 1)
    assert line["problems"] == ["can't be read: ZeroDivisionError"]
    assert "secret" not in watched.log.getvalue()
    watched.path.write_text("2")
    await watched.told("reload.done", 1)
    assert watched.in_force == ["1", "2"]


async def test_a_file_that_is_being_written(watched: Watched) -> None:
    """What a file says while it is being written never counts, though it looks whole."""
    for length in range(1, 30):
        watched.path.write_text("4" * length)
        await asyncio.sleep(SETTLING_SECONDS / 10)
    await watched.told("reload.done", 1)
    assert watched.in_force == ["1", "4" * 29]


def test_a_secret_where_its_file_belongs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A problem names a path, but not what is given in its place and is no file."""
    (tmp_path / "here").touch()
    monkeypatch.chdir(tmp_path)
    assert [shown(path) for path in ("/run/secrets/x", "./x", "here")] == ["/run/secrets/x", "./x", "here"]
    with pytest.raises(ConfigError) as caught:
        Files().bytes("0123456789abcdef:a-fal-key")
    assert caught.value.problems == ["(not shown: no such file): No such file or directory"]

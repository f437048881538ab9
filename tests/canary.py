"""Searches everything that tests have the service write for secrets that were planted: the canaries.

A gateway's log is searched when the gateway ends, what pytest captured with each test, and at the end of each
process of pytest's all files that its tests made. What is found fails the test; for files that is the last one
of the process, and the message names the file. Tests make secrets of their own with MARK in them.
"""

import mmap
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

__all__ = ["MARK", "heard", "plant", "pytest_runtest_makereport", "pytest_runtest_teardown"]

MARK = "c4n4ry"
"""Stands in every secret that a test makes up; in no other text."""

SECRETS = {MARK, "test-secret-1f0c", "an-ownership-key-of-forty-characters"}
"""The mark, the secret half of the key of all gateways (conftest.py), and the beginning of ownership keys."""

SETTINGS = ("*.key", "*.keys", "keys.json", "*.toml", "*.jsonl")
"""Files that tests give the service, by name: settings and secrets, which hold what must not get out."""

_found: list[str] = []


def plant(secret: str) -> str:
    """Has a secret without the mark searched for, too, from now on; returns it."""
    SECRETS.add(secret)
    return secret


def heard(what: str, text: str) -> None:
    """Notes what was written; it fails the test that is under way when a secret is in it."""
    _found.extend(f"{what} has {name!r}: {place}" for name, place in _in(text))


def _in(text: str) -> Iterator[tuple[str, str]]:
    """Each secret that is in a text, and where."""
    for secret in SECRETS:
        position = text.find(secret)
        if position >= 0:
            yield secret, repr(text[max(0, position - 80) : position + len(secret) + 80])


def _search_files(*directories: Path) -> None:
    """Notes files with secrets below directories."""
    for directory in directories:
        for path in sorted(directory.rglob("*")):
            if path.is_symlink() or not path.is_file() or any(map(path.match, SETTINGS)):
                continue
            with path.open("rb") as file:
                if file.seek(0, 2) == 0:
                    continue
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    _found.extend(
                        f"{path} has {secret!r}" for secret in SECRETS if content.find(secret.encode()) >= 0
                    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, None, None]:
    """Looks at files when the last test of the process, and all that it used, has ended."""
    yield
    if nextitem is None:
        factory: pytest.TempPathFactory = item.config._tmp_path_factory  # type: ignore[attr-defined]
        _search_files(factory.getbasetemp(), item.config.rootpath / "demo-output")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fails the test that is over when something of it has a secret."""
    report = yield
    if call.when == "teardown":
        for name, text in report.sections:
            if name.startswith("Captured"):
                heard(name, text)
        if _found and not item.get_closest_marker("spills"):
            report.outcome = "failed"
            report.longrepr = "secrets got out:\n" + "\n".join(_found)
        _found.clear()
    return report

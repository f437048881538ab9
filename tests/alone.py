"""Keeps tests that measure from running beside others, where pytest-xdist runs tests in several processes.

A test marked `alone` begins when no other runs, and none begins before it has ended.
"""

import contextlib
import fcntl
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

__all__ = ["pytest_collection_modifyitems", "pytest_runtest_protocol", "turn"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Puts tests that run alone last, so that processes seldom wait for each other."""
    if is_one_of_several(config):
        items.sort(key=is_alone)  # a file of which only some are alone keeps its place


@pytest.hookimpl(wrapper=True, tryfirst=True)  # outside of pytest-timeout's: others may take long
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Waits for the test's turn. Its fixtures are part of it."""
    if not is_one_of_several(item.config):
        return (yield)
    gate, room = item.config.inipath, item.config.rootpath
    assert gate is not None
    with turn(gate, room, is_alone=is_alone(item)):
        return (yield)


def is_one_of_several(config: pytest.Config) -> bool:
    """Whether this is a process of pytest-xdist's."""
    return hasattr(config, "workerinput")


def is_alone(item: pytest.Item) -> bool:
    """Whether the test is marked."""
    return item.get_closest_marker("alone") is not None


@contextlib.contextmanager
def turn(gate: Path, room: Path, *, is_alone: bool) -> Iterator[None]:
    """A turn alone, or one beside others that are not alone.

    Args:
        gate: Locked while one waits for a turn: nobody overtakes who waits to be alone.
        room: Locked for the turn. Both exist, and nothing is written to them.
        is_alone: Which of the two.
    """
    with opened(room) as in_room:
        with opened(gate) as at_gate:
            fcntl.flock(at_gate, fcntl.LOCK_EX)
            fcntl.flock(in_room, fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor to lock. The lock ends with it, or with the process."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)

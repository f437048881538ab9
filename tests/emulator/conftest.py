"""Emulators for the tests of this folder."""

from collections.abc import Iterator

import pytest
from tests.emulator.running import Emulator, running_emulator


@pytest.fixture(scope="session")
def one_emulator() -> Iterator[Emulator]:
    """A quick emulator."""
    with running_emulator("--speed", "20") as (emulator, _):
        yield emulator


@pytest.fixture
def emulator(one_emulator: Emulator) -> Emulator:
    """The quick emulator, without scenarios and records of other tests."""
    one_emulator.reset()
    return one_emulator


@pytest.fixture(scope="session")
def slow_emulator() -> Iterator[Emulator]:
    """An emulator whose queue stands still for a test's eyes, with a keep-alive comment every 50 ms."""
    with running_emulator("--speed", "0.01", "--keepalive-seconds", "0.05") as (emulator, _):
        yield emulator

"""Tests that run alone, and tests that run beside others."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.alone import turn

WAIT_SECONDS_MAX = 20
IN_VAIN_SECONDS = 0.2

NOTING = """
import time
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range(3))
def test_noted(number):
    began = time.monotonic()
    time.sleep(0.3)
    Path(__file__).with_suffix(f".{number}").write_text(f"{began} {time.monotonic()}")
"""


@pytest.fixture
def taking(tmp_path: Path) -> Callable[..., tuple[threading.Event, threading.Event]]:
    """Starts a thread that takes a turn: an event that tells that it has it, and one that ends it."""
    gate = tmp_path / "gate"
    gate.touch()

    def start(*, is_alone: bool) -> tuple[threading.Event, threading.Event]:
        has_it, over = threading.Event(), threading.Event()

        def take() -> None:
            with turn(gate, tmp_path, is_alone=is_alone):
                has_it.set()
                over.wait(WAIT_SECONDS_MAX)

        threading.Thread(target=take, daemon=True).start()
        return has_it, over

    return start


def test_side_by_side(taking: Callable[..., tuple[threading.Event, threading.Event]]) -> None:
    """Turns that are not alone are taken at the same time."""
    turns = [taking(is_alone=False) for _ in range(2)]
    assert all(has_it.wait(WAIT_SECONDS_MAX) for has_it, _ in turns)
    for _, over in turns:
        over.set()


@pytest.mark.parametrize("first_is_alone", [True, False])
def test_alone(taking: Callable[..., tuple[threading.Event, threading.Event]], first_is_alone: bool) -> None:
    """Whoever takes a turn alone waits for the others, and they for it."""
    has_it, over = taking(is_alone=first_is_alone)
    assert has_it.wait(WAIT_SECONDS_MAX)
    second_has_it, second_over = taking(is_alone=not first_is_alone)
    assert not second_has_it.wait(IN_VAIN_SECONDS)
    over.set()
    assert second_has_it.wait(WAIT_SECONDS_MAX)
    second_over.set()


def test_nobody_overtakes(taking: Callable[..., tuple[threading.Event, threading.Event]]) -> None:
    """Who comes while one waits to be alone comes after it: else it might wait for ever."""
    has_it, over = taking(is_alone=False)
    assert has_it.wait(WAIT_SECONDS_MAX)
    alone_has_it, alone_over = taking(is_alone=True)
    assert not alone_has_it.wait(IN_VAIN_SECONDS)
    late_has_it, late_over = taking(is_alone=False)
    assert not late_has_it.wait(IN_VAIN_SECONDS)
    over.set()
    assert alone_has_it.wait(WAIT_SECONDS_MAX)
    assert not late_has_it.is_set()
    alone_over.set()
    assert late_has_it.wait(WAIT_SECONDS_MAX)
    late_over.set()


def test_in_two_processes(tmp_path: Path) -> None:
    """Of tests in two processes those that are marked run while no other does."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = alone: alone\n")
    (tmp_path / "conftest.py").write_text("from tests.alone import *\n")
    (tmp_path / "test_alone.py").write_text(NOTING.replace("@pytest", "@pytest.mark.alone\n@pytest", 1))
    (tmp_path / "test_beside.py").write_text(NOTING)
    side_by_side = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
    command = [sys.executable, "-m", "pytest", "-q", *side_by_side, str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    ran = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 0, ran.stdout
    alone, beside = (
        [tuple(map(float, path.read_text().split())) for path in tmp_path.glob(f"test_{name}.[0-9]")]
        for name in ("alone", "beside")
    )
    assert len(alone) == len(beside) == 3
    assert all(
        end <= other_begin or other_end <= begin for begin, end in alone for other_begin, other_end in beside
    )

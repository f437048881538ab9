"""What outside checks said the last time, in files beside this one. A change fails, and shows itself."""

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

__all__ = ["assert_frozen", "frozen"]

FOLDER = Path(__file__).parent


def assert_frozen(name: str, verdicts: Sequence[str], explained: Mapping[str, str] | None = None) -> None:
    """Compares verdicts, a line each, with those in the file. With FREEZE=1 writes them instead.

    Args:
        name: The file.
        verdicts: What was said now.
        explained: Of a verdict, what was said in detail.
    """
    path = FOLDER / name
    heading = (
        [line for line in path.read_text().splitlines() if line.startswith("#")] if path.exists() else []
    )
    if os.environ.get("FREEZE"):
        path.write_text("\n".join([*heading, *verdicts]) + "\n")
        return
    before = frozen(name)
    if list(verdicts) == before:
        return
    changes = list(difflib.unified_diff(before, list(verdicts), "frozen", "now", lineterm="", n=0))
    details = [explained[line[1:]] for line in changes if explained and line[1:] in explained]
    pytest.fail("\n".join([f"{name} has changed:", *changes, *details]), pytrace=False)


def frozen(name: str) -> list[str]:
    """The verdicts in the file."""
    lines = (FOLDER / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]

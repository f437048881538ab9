"""The demo's account of itself: numbered steps with what happened in each. No IO but the console's."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from falrpc_server.cli.printing import plain

__all__ = ["Account", "StepFailed"]


TEXT_CHARACTERS_MAX = 150


class StepFailed(Exception):
    """An answer is not what it should be. The text is for the user."""


class Account:
    """Prints the steps. Without a terminal the same text comes without any control codes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._number = 0
        self.step_title = ""

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """A step: its title, what is told inside, and a mark when it is done."""
        self._number += 1
        self.step_title = f"{self._number} {title}"
        started = time.monotonic()
        self._print(Text.assemble((f"{self._number} ", "bold"), (title, "bold")))
        yield
        self._print(Text.assemble("  ", ("✓", "bold green"), (f" {time.monotonic() - started:.1f} s", "dim")))

    def tell(self, what: str, text: str = "") -> None:
        """A line inside a step, cut where it gets too long to read."""
        line = plain(text).replace("\n", " ")
        if len(line) > TEXT_CHARACTERS_MAX:
            line = f"{line[: TEXT_CHARACTERS_MAX - 1]}…"
        self._print(Text.assemble("    ", (f"{what:<12}", "cyan"), line))

    def say(self, text: str, style: str = "") -> None:
        """A line outside the steps."""
        self._print(Text(text, style))

    def _print(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)

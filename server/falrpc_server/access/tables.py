"""A table of a TOML file, read key by key; what is wrong is noted with its place. Pure."""

import difflib
from collections.abc import Callable, Collection, Iterable
from typing import Any

__all__ = ["Table", "shown", "suggestion"]

SHOWN_CHARACTERS_MAX = 64
LIST_LENGTH_MAX = 1_000

Note = Callable[[str, str], None]
"""Takes the place of a problem and what it is."""


class Table:
    """A table. Each reader returns the value, or None when it is absent or wrong, which it notes."""

    def __init__(self, values: Any, place: str, note: Note) -> None:
        """Takes what stands at `place`, which may be no table at all."""
        self._place = place
        self._note = note
        self._read: set[str] = set()
        self._values: dict[str, Any] = values if isinstance(values, dict) else {}
        self.is_table = isinstance(values, dict)
        if not self.is_table:
            note(place, f"must be a table: {shown(values)} is none")

    def has(self, key: str) -> bool:
        """Whether the key is there, right or wrong."""
        self._read.add(key)
        return key in self._values

    def any(self, key: str) -> Any:
        """The value as it stands."""
        return self._values.get(key) if self.has(key) else None

    def text(self, key: str, *, is_secret: bool = False) -> str | None:
        """A text that is not empty."""
        value = self.any(key)
        if value is None or (isinstance(value, str) and value):
            return value
        self.wrong(
            key, "must be a text that is not empty" + ("" if is_secret else f": {shown(value)} is none")
        )
        return None

    def boolean(self, key: str) -> bool | None:
        """true or false."""
        value = self.any(key)
        if value is None or isinstance(value, bool):
            return value
        self.wrong(key, f"must be true or false, not {shown(value)}")
        return None

    def whole(self, key: str, lowest: int, highest: int) -> int | None:
        """A whole number."""
        value = self.any(key)
        if value is None or (type(value) is int and lowest <= value <= highest):
            return value
        self.wrong(key, f"must be a whole number from {lowest} to {highest}, not {shown(value)}")
        return None

    def number(self, key: str, lowest: float, highest: float) -> float | None:
        """A number."""
        value = self.any(key)
        if value is None:
            return None
        if type(value) in (int, float) and lowest <= value <= highest:
            return float(value)
        self.wrong(key, f"must be a number from {lowest:g} to {highest:g}, not {shown(value)}")
        return None

    def choice(self, key: str, allowed: Collection[str], *, is_secret: bool = False) -> Any:
        """One of some words."""
        value = self.any(key)
        if value is None or value in tuple(allowed):
            return value
        words = " or ".join(f'"{word}"' for word in allowed)
        self.wrong(key, f"must be {words}" + ("" if is_secret else f", not {shown(value)}"))
        return None

    def texts(self, key: str) -> list[tuple[int, str]] | None:
        """A list of texts, each once, with their places in it."""
        value = self.any(key)
        if value is None:
            return None
        if not isinstance(value, list):
            self.wrong(key, f"must be a list of texts, not {shown(value)}")
            return None
        if len(value) > LIST_LENGTH_MAX:
            self.wrong(key, f"must have at most {LIST_LENGTH_MAX} entries")
            return None
        found: dict[str, int] = {}
        for number, one in enumerate(value):
            if not isinstance(one, str):
                self.wrong(f"{key}[{number}]", f"must be a text, not {shown(one)}")
            elif one in found:
                self.wrong(f"{key}[{number}]", f"{shown(one)} stands at {key}[{found[one]}] already")
            else:
                found[one] = number
        return [(number, one) for one, number in found.items()]

    def wrong(self, key: str, problem: str) -> None:
        """Notes a problem with a key."""
        self._note(f"{self._place}.{key}".removeprefix("."), problem)

    def finish(self) -> None:
        """Notes the keys that nobody has asked for."""
        for key in [key for key in self._values if key not in self._read]:
            self.wrong(_key(key), f"there is no such setting{suggestion(key, self._read)}")


def suggestion(word: str, known: Iterable[str]) -> str:
    """`; ...?` with the known word that was probably meant, or nothing."""
    by_folded = {one.casefold(): one for one in known}
    last = word.casefold().rpartition("/")[2].rpartition(".")[2]
    close = difflib.get_close_matches(last, by_folded, n=1)
    return f"; {by_folded[close[0]]}?" if close else ""


def shown(value: Any) -> str:
    """A value of a TOML file as it is written there, short."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and value.bit_length() > 256:
        return "a number of that size"  # Python would not write it
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[: SHOWN_CHARACTERS_MAX - 3] + "..."


def _key(name: str) -> str:
    """A key as TOML writes it, short and printable."""
    is_bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name[:SHOWN_CHARACTERS_MAX] if is_bare else shown(name)

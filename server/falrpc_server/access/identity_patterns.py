"""Patterns of callers' identities. Pure.

`*` is any text within one part, parts being what `/` separates; `**` is any text; everything else stands
for itself, upper and lower case told apart. A match costs at most wildcards times the identity's length.
"""

import re
from dataclasses import dataclass, field

__all__ = ["IDENTITY_CHARACTERS_MAX", "IdentityPattern"]

IDENTITY_CHARACTERS_MAX = 2_048  # of a SPIFFE id, and more than any other needs
PATTERN_CHARACTERS_MAX = 512
WILDCARDS_MAX = 8

_WILDCARD = re.compile(r"(\*\*?)")


@dataclass(frozen=True, slots=True)
class IdentityPattern:
    """A checked pattern. Made by parse()."""

    text: str
    _pieces: tuple[str, ...] = field(repr=False)
    """Literals at even places, the wildcards between them at odd ones."""

    @classmethod
    def parse(cls, text: str) -> "IdentityPattern":
        """Reads a pattern. Raises ValueError, whose text says what is allowed."""
        if not text:
            raise ValueError("must not be empty")
        if len(text) > PATTERN_CHARACTERS_MAX:
            raise ValueError(f"must be at most {PATTERN_CHARACTERS_MAX} characters long")
        if not text.isprintable() or text != text.strip():
            raise ValueError("must be printable characters without spaces around them")
        if "***" in text:
            raise ValueError("must use `*` (within one part) or `**` (anything)")
        pieces = tuple(_WILDCARD.split(text))
        if len(pieces) // 2 > WILDCARDS_MAX:
            raise ValueError(f"must have at most {WILDCARDS_MAX} wildcards")
        return cls(text, pieces)

    def matches(self, identity: str) -> bool:
        """Whether it admits the identity. Nothing admits an empty or overlong one."""
        first, last = self._pieces[0], self._pieces[-1]
        if not 0 < len(identity) <= IDENTITY_CHARACTERS_MAX:
            return False
        if self.is_literal:
            return identity == first
        if not identity.startswith(first) or not identity.endswith(last):
            return False
        ends = {len(first)}  # where what has been matched so far may end
        for wildcard, literal in zip(self._pieces[1::2], self._pieces[2::2], strict=True):
            starts = _reach(identity, ends, crosses_parts=wildcard == "**")
            ends = {start + len(literal) for start in starts if identity.startswith(literal, start)}
        return len(identity) in ends

    @property
    def is_literal(self) -> bool:
        """Whether it admits one identity only: itself."""
        return len(self._pieces) == 1


def _reach(identity: str, ends: set[int], *, crosses_parts: bool) -> set[int]:
    """Where a wildcard may end that starts at one of `ends`."""
    if crosses_parts:
        return set(range(min(ends, default=len(identity) + 1), len(identity) + 1))
    reached: set[int] = set()
    for end in sorted(ends):
        if end not in reached:
            slash = identity.find("/", end)
            reached.update(range(end, (len(identity) if slash < 0 else slash) + 1))
    return reached

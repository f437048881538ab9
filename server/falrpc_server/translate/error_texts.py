"""Texts of fal's in the forms of google.rpc's details: reasons, field paths, cut, printable. Pure."""

import json
import re
from collections.abc import Sequence

__all__ = ["cut_bytes", "field_path", "printable", "reason_word"]

REASON_CHARACTERS_MAX = 63  # of google.rpc.ErrorInfo
FIELD_BYTES_MAX = 200

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_NOT_IN_REASON = re.compile(r"[^A-Z0-9]+")


def reason_word(text: str) -> str:
    """The text in ErrorInfo's alphabet, `[A-Z][A-Z0-9_]+[A-Z0-9]`; empty when nothing is left."""
    word = _NOT_IN_REASON.sub("_", text.upper()).strip("_")[:REASON_CHARACTERS_MAX].strip("_")
    return word if re.fullmatch(r"[A-Z][A-Z0-9_]+[A-Z0-9]", word) else ""


def field_path(loc: Sequence[str | int]) -> str:
    """A model error's `loc` as a field path: `["body", "loras", 0, "path"]` is `input.loras[0].path`.

    A key that is no identifier is quoted: `input["a.b"]`.
    """
    parts = list(loc)
    path = "input"
    if parts and parts[0] == "body":
        parts = parts[1:]
    elif parts and parts[0] in ("query", "header", "path", "cookie"):
        path, parts = str(parts[0]), parts[1:]
    for part in parts:
        if isinstance(part, str) and _IDENTIFIER.fullmatch(part):
            path += f".{part}"
        else:
            path += f"[{part if isinstance(part, int) else json.dumps(printable(part), ensure_ascii=False)}]"
    return cut_bytes(path, FIELD_BYTES_MAX)


def cut_bytes(text: str, bytes_max: int) -> str:
    """Cuts a text to so many bytes of UTF-8, on a character's boundary, and marks the cut."""
    encoded = text.encode()
    if len(encoded) <= bytes_max:
        return text
    return encoded[: bytes_max - 3].decode(errors="ignore") + "…"


def printable(text: str) -> str:
    """The text with a question mark for whatever can't be printed."""
    return "".join(c if c.isprintable() else "?" for c in text)

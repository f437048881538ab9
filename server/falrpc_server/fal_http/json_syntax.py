"""JSON as fal and its callers write it. Pure.

msgspec is strict about one thing that RFC 8259 §8.2 admits and JavaScript writes for an emoji that was cut
in half: the escape of a lone surrogate. And Python writes NaN, which is no JSON at all. A text that fails is
therefore looked at once more, without the former, or where it matters by a parser that takes both.
"""

import json
import re
from typing import TypeVar

import msgspec

__all__ = ["decode", "is_json", "members"]

VALUES_MAX = 200_000  # about 0.1 s, in which the event loop does nothing else

_PAIR_OR_LONE = re.compile(
    rb"((?:\\\\)+|(?:\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})+)"
    rb"|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
_REPLACEMENT = rb"\ufffd"
_SPACE = re.compile(r"[ \t\r\n]*")
_STANDARD = json.JSONDecoder(parse_int=str, parse_float=str)  # numbers of any length

_T = TypeVar("_T")
_Shape = TypeVar("_Shape", bound=msgspec.Struct)


def decode(text: bytes, shape: type[_T]) -> _T:
    """Decodes a text; the escapes of lone surrogates in strings come as U+FFFD.

    Raises msgspec.DecodeError (of which ValidationError means: JSON, but of another shape),
    UnicodeDecodeError or RecursionError.
    """
    try:
        return msgspec.json.decode(text, type=shape)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        mended = _PAIR_OR_LONE.sub(lambda found: found[1] or _REPLACEMENT, text)
        if mended == text:
            raise
        return msgspec.json.decode(mended, type=shape)


def is_json(text: bytes) -> bool:
    """Whether the text is one whole JSON value."""
    try:
        decode(text, msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def members(text: str, shape: type[_Shape]) -> _Shape | None:
    """An object's members, for each field of the shape a msgspec.Raw: slices of the text. None for no object.

    What msgspec refuses is read by the standard parser, which admits lone surrogates and Python's NaN. It is
    slow: a text of very many values is not read again.

    Raises msgspec.DecodeError or RecursionError.
    """
    if not text.startswith("{", _space(text, 0)):
        return None
    try:
        return msgspec.json.decode(text, type=shape)
    except msgspec.DecodeError as error:
        if sum(map(text.count, ",[{")) > VALUES_MAX:
            raise
        try:
            found = _slices(text)
        except ValueError:
            raise error from None
    return shape(
        **{name: msgspec.Raw(found[name].encode()) for name in shape.__struct_fields__ if name in found}
    )


def _slices(text: str) -> dict[str, str]:
    """An object's members as slices of its text. Raises ValueError."""
    _STANDARD.decode(text)  # so that all of it is known to be well-formed
    found = {}
    at = text.index("{")
    while text[at] != "}":
        name, end = _STANDARD.raw_decode(text, _space(text, at + 1))
        start = _space(text, text.index(":", end) + 1)
        _, end = _STANDARD.raw_decode(text, start)
        found[name] = text[start:end]
        at = _space(text, end)
    return found


def _space(text: str, start: int) -> int:
    """Where the white space from there on ends."""
    found = _SPACE.match(text, start)
    return found.end() if found else start

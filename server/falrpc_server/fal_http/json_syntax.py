"""JSON as fal and its callers write it. Pure.

msgspec is strict about one thing that RFC 8259 §8.2 admits and JavaScript writes for an emoji that was cut
in half: the escape of a lone surrogate. A text that fails is therefore looked at once more without them.
"""

import re
from typing import TypeVar

import msgspec

__all__ = ["decode", "is_json", "text_slice"]

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_REPLACEMENT = rb"\\ufffd"  # as long as what it replaces, so that positions stay

_T = TypeVar("_T")


def decode(text: bytes, shape: type[_T]) -> _T:
    """Decodes a text; escaped surrogates in strings come as U+FFFD where they have to.

    Raises msgspec.DecodeError (of which ValidationError means: JSON, but of another shape),
    UnicodeDecodeError or RecursionError.
    """
    try:
        return msgspec.json.decode(text, type=shape)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        mended = _mended(text)
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


def text_slice(text: bytes, part: msgspec.Raw) -> str:
    """The part of a text that decode() found, as the text has it."""
    found = bytes(part)
    if found in text:
        return found.decode()
    start = _mended(text).find(found)
    return text[start : start + len(found)].decode()


def _mended(text: bytes) -> bytes:
    return _SURROGATE.sub(_REPLACEMENT, text)

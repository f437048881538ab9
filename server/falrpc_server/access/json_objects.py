"""JSON that someone may have forged, read so that there is only one way to read it. Pure."""

import json
from typing import Any

__all__ = ["read_object", "shown"]

SHOWN_CHARACTERS_MAX = 64


def read_object(text: str | bytes) -> dict[str, Any]:
    """Reads a JSON object.

    Raises ValueError, which repeats nothing of the text, for anything else: for names that are there twice,
    too, of which others might take the first one, and for numbers that JSON does not have.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode()  # json itself would take UTF-16, too
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_no_number)
    except _NotOneWay as error:
        raise ValueError(str(error)) from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({type(error).__name__})") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def shown(text: str) -> str:
    """A name out of something forged, as the log may have it."""
    return ascii(text[:SHOWN_CHARACTERS_MAX])


class _NotOneWay(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _NotOneWay("a name is there twice")
    return value


def _no_number(name: str) -> Any:
    raise _NotOneWay("a number is not finite")

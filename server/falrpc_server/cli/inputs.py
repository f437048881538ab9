"""A model's input from the command line. Pure: text in, text out.

Numbers are never converted: the seed 15860307465884635512 and the number 1e3 reach the service as
they were typed.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

__all__ = ["InputError", "Pair", "compose", "is_json", "parse_pairs", "parse_tags"]


class InputError(ValueError):
    """What the user typed is no input. The text is for the user."""


@dataclass(frozen=True)
class Pair:
    """One `KEY=VALUE`. Either `json_text` or `upload` is set."""

    key: str
    json_text: str = ""
    upload: Path | None = None


def parse_pairs(pairs: Iterable[str]) -> list[Pair]:
    """Reads `KEY=VALUE` arguments: VALUE is JSON if it is JSON, `@FILE`, else text.

    Raises:
        InputError: a pair has no key or no `=`, is not Unicode, or a key comes twice.
    """
    parsed: list[Pair] = []
    for key, value in _split(pairs, "-i"):
        if value.startswith("@"):
            parsed.append(Pair(key, upload=Path(value[1:])))
        elif is_json(value):
            parsed.append(Pair(key, json_text=value.strip()))
        else:
            parsed.append(Pair(key, json_text=json.dumps(value, ensure_ascii=False)))
    return parsed


def parse_tags(pairs: Iterable[str]) -> dict[str, str]:
    """Reads `KEY=VALUE` tags.

    Raises:
        InputError: as parse_pairs.
    """
    return dict(_split(pairs, "--tag"))


def compose(base: str | None, fields: Mapping[str, str]) -> str:
    """The JSON object `base` with `fields` (JSON texts) put over it. No value is re-encoded.

    Raises:
        InputError: `base` is not a JSON object.
    """
    members: dict[str, msgspec.Raw] = {}
    if base is not None:
        if not is_json(base):
            raise InputError("--input-json is not valid JSON")
        try:
            members = msgspec.json.decode(base, type=dict[str, msgspec.Raw])
        except msgspec.ValidationError:
            raise InputError("--input-json is not a JSON object") from None
        if not fields:
            return base
    members |= {key: msgspec.Raw(text.encode()) for key, text in fields.items()}
    return msgspec.json.encode(members).decode()


def is_json(text: str) -> bool:
    """Whether `text` is one JSON value. NaN and Infinity are none, whatever Python thinks."""
    try:
        json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _split(pairs: Iterable[str], option: str) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise InputError(f"{option} takes KEY=VALUE, not {pair!r}")
        if key in found:
            raise InputError(f"{option} has the key {key!r} twice")
        if any("\ud800" <= character <= "\udfff" for character in pair):
            raise InputError(f"{option} {key!r} is not UTF-8")
        found[key] = value
    return list(found.items())

"""Inputs as JSON text. Pure.

The text that a caller sends reaches fal byte for byte; a Struct is written so that no number changes.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from google.protobuf import struct_pb2

from falrpc_server.fal_http import json_syntax

__all__ = ["BadJson", "Problem", "attachment_names", "check_object", "struct_to_json", "with_attachments"]

INTEGER_LIMIT = 2**53  # from here on a double no longer holds every integer
PROBLEMS_MAX = 100
ATTACHMENT_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

# A string, and the colon that makes it an object's key.
_STRING = re.compile(rb'("[^"\\]*(?:\\.[^"\\]*)*")([ \t\r\n]*:)?', re.DOTALL)
_PREFIX = b'"attachment:'
_REFERENCE = re.compile(rf"attachment:({ATTACHMENT_NAME.pattern})")
_BYTE_POSITION = re.compile(r"\(byte (\d+)\)")


class BadJson(ValueError):
    """The text is not a JSON object; the message says what is wrong, with the position."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a value inside a Struct. The path is relative to it: `loras[0].seed`."""

    path: str
    description: str


def check_object(text: bytes) -> None:
    """Checks that the text is one JSON object. Raises BadJson."""
    try:
        json_syntax.decode(text, dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        raise BadJson("must be a JSON object") from None
    except msgspec.DecodeError as error:
        message = str(error)
        if position := _BYTE_POSITION.search(message):
            reason = message.removeprefix("JSON is malformed: ").partition(" (byte")[0]
            raise BadJson(f"is malformed JSON: {reason} at {_place(text, int(position[1]))}") from None
        raise BadJson(f"is malformed JSON: it ends too early, at {_place(text, len(text))}") from None
    except UnicodeDecodeError as error:
        raise BadJson(f"is malformed JSON: invalid UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise BadJson("is nested too deeply") from None


def _place(text: bytes, position: int) -> str:
    line = text.count(b"\n", 0, position) + 1
    column = position - (text.rfind(b"\n", 0, position) + 1) + 1
    return f"byte {position} (line {line}, column {column})"


def struct_to_json(struct: struct_pb2.Struct) -> tuple[bytes, list[Problem]]:
    """Returns the Struct as JSON text, and every value in it that JSON text can't carry faithfully."""
    problems: list[Problem] = []
    value = _plain(struct, "", problems)
    if len(problems) >= PROBLEMS_MAX:
        problems.append(Problem("", "may hold further values like these"))
    return (b"{}" if problems else msgspec.json.encode(value)), problems


def _plain(value: Any, path: str, problems: list[Problem]) -> Any:
    """The value as JSON has it. Its depth is bounded: protobuf reads a hundred nested messages at most."""
    if len(problems) >= PROBLEMS_MAX:
        return None
    if isinstance(value, struct_pb2.Struct):
        dot = "." if path else ""
        fields = sorted(value.fields.items())
        return {k: _plain(v, f"{path}{dot}{k}", problems) for k, v in fields}
    if isinstance(value, struct_pb2.ListValue):
        return [_plain(v, f"{path}[{n}]", problems) for n, v in enumerate(value.values)]
    kind = value.WhichOneof("kind")
    if kind in ("struct_value", "list_value"):
        return _plain(getattr(value, kind), path, problems)
    if kind == "number_value":
        return _number(value.number_value, path, problems)
    if kind in ("string_value", "bool_value"):
        return getattr(value, kind)
    return None


def _number(number: float, path: str, problems: list[Problem]) -> int | float:
    if not math.isfinite(number):
        problems.append(Problem(path, "is no finite number"))
        return 0
    if not number.is_integer():
        return number
    if abs(number) >= INTEGER_LIMIT:
        problems.append(
            Problem(path, "is an integer of 2^53 or more, which a Struct can't hold exactly: use input.json")
        )
    return int(number)


def with_attachments(text: bytes, urls: Mapping[str, str]) -> bytes:
    """Replaces the strings `attachment:NAME` of declared names by URLs; all other bytes stay."""
    pieces, end = [], 0
    for start, stop, name in _references(text):
        if name in urls:
            pieces += [text[end:start], msgspec.json.encode(urls[name])]
            end = stop
    return b"".join([*pieces, text[end:]])


def attachment_names(text: bytes) -> set[str]:
    """Returns the names that the strings `attachment:NAME` in a valid JSON text refer to."""
    return {name for _, _, name in _references(text)}


def _references(text: bytes) -> Iterator[tuple[int, int, str]]:
    """Yields start, end and name of every string value `attachment:NAME`; object keys are none."""
    for match in _STRING.finditer(text):
        string = match[1]
        if match[2] is not None or not (string.startswith(_PREFIX) or b"\\" in string):
            continue
        if reference := _REFERENCE.fullmatch(json_syntax.decode(string, str)):
            yield match.start(), match.end(), reference[1]

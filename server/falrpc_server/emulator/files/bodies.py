"""What comes as JSON with an upload, read and checked (docs/fal-http-api.md §10.2-10.8). Pure."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from falrpc_server.emulator.answers import AppError, detail

__all__ = ["parts_problem", "read_object", "read_seconds", "read_text", "refuse"]

DAY_SECONDS = 86_400


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises AppError: 422 for anything else (§12.2)."""
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        refuse("", "JSON decode error", "json_invalid")
    if not isinstance(asked, dict):
        refuse("", "Input should be a valid dictionary", "dict_type")
    return asked


def read_text(asked: Mapping[str, Any], name: str, default: str) -> str:
    """A member that is text. Raises AppError: 422 for anything else."""
    value = asked.get(name)
    if value is not None and not isinstance(value, str):
        refuse(name, "Input should be a valid string", "string_type")
    return value or default


def read_seconds(asked: Mapping[str, Any], name: str, seconds_max: float) -> float:
    """A lifetime: a day unless another is asked (§10.2, §10.8). Raises AppError: 422 for a bad one."""
    value = asked.get(name)
    if value is None:
        return DAY_SECONDS
    if not isinstance(value, int | float) or isinstance(value, bool):
        refuse(name, "Input should be a valid number", "float_type")
    if not 0 < value <= seconds_max:
        refuse(name, f"Input should be above 0 and at most {seconds_max:.0f}", "value_error")
    return value


def refuse(name: str, message: str, error_type: str) -> NoReturn:
    """Raises AppError: 422 for a member, or for the whole body when it has no name (§12.2)."""
    loc = ["body", name] if name else ["body"]
    raise AppError(detail(422, [{"type": error_type, "loc": loc, "msg": message}]))


def parts_problem(body: bytes, etags: Mapping[int, str]) -> str:
    """What is wrong with a list of parts (§10.4, §10.7).

    Args:
        body: `{"parts": [{"partNumber": n, "etag": "..."}, ...]}` in any order. An ETag may be as it was
            in the header, with quotes, or as in the body, without.
        etags: The ETags of the parts that came, by number.

    Returns:
        One sentence; empty when every part from 1 on came and is listed once.
    """
    try:
        listed = [(part["partNumber"], part["etag"]) for part in json.loads(body)["parts"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        return "Expected a JSON object with parts, each with its partNumber and etag"
    if not listed:
        return "The list of parts is empty"
    numbers = set()
    for number, etag in listed:
        if type(number) is not int or number not in etags:
            return f"Part {str(number)[:40]} was not uploaded"
        if not isinstance(etag, str) or etag.strip('"') != etags[number]:
            return f"The ETag of part {number} does not match"
        if number in numbers:
            return f"Part {number} is listed twice"
        numbers.add(number)
    missing = set(range(1, max(etags) + 1)) - numbers
    return f"Part {min(missing)} is missing" if missing else ""

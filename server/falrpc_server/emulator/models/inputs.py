"""What models make of their input: declared fields, and the errors that fal's apps give (§12.2).

Pure. The errors are those of Pydantic 2, which fal's apps are built on.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from falrpc_server.emulator.answers import Answer, AppError, Raw, json_answer
from falrpc_server.emulator.failures import ERRORS_URL

__all__ = ["Field", "Input", "invalid", "model_error", "read"]


@dataclass(frozen=True, slots=True)
class Field:
    """One input field of a model.

    Attributes:
        kind: `string`, `integer`, `number`, `boolean` or `any`.
        minimum, maximum: Bounds of a number.
        choices: The only values allowed.
    """

    name: str
    kind: str
    required: bool = False
    minimum: float | None = None
    maximum: float | None = None
    choices: Sequence[Any] = ()


@dataclass(frozen=True, slots=True)
class Input:
    """A model's input: its values, the text of each value, and the text of the whole."""

    values: dict[str, Any]
    texts: dict[str, str]
    body: bytes

    def get(self, name: str, default: Any = None) -> Any:
        """A value, or the default when it is absent or null."""
        value = self.values.get(name)
        return default if value is None else value

    def text(self, name: str) -> str | None:
        """A value's JSON text as the caller wrote it, None when it is absent."""
        return self.texts.get(name)

    def raw(self, name: str, default: str) -> Raw:
        """A value's JSON text for an output, or the default when it is absent or null."""
        text = self.texts.get(name, "null")
        return Raw(default if text == "null" else text)


def read(body: bytes, fields: Sequence[Field]) -> Input:
    """Reads and checks an input. Raises AppError with every problem (HTTP 422, nothing billed)."""
    try:
        whole = body.decode() or "{}"
        values = json.loads(whole)
        texts = msgspec.json.decode(whole, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        item = _item("model_attributes_type", ["body"], "Input should be a valid dictionary", Raw(whole))
        raise invalid(item) from None
    except (ValueError, RecursionError) as error:
        position = getattr(error, "pos", 0)
        item = _item("json_invalid", ["body", position], "JSON decode error", {}, {"error": str(error)})
        raise invalid(item) from error
    given = Input(values, {name: bytes(text).decode() for name, text in texts.items()}, body)
    problems = [problem for field in fields if (problem := _problem(field, given, whole))]
    if problems:
        raise invalid(*problems)
    return given


def invalid(*items: dict[str, Any]) -> AppError:
    """The error of a rejected input."""
    answer: Answer = json_answer({"detail": list(items)}, 422, {"x-fal-billable-units": "0"})
    return AppError(answer)


def model_error(
    kind: str, name: str, message: str, value: Any, context: dict[str, Any] | None = None
) -> AppError:
    """A model's own refusal of a field (§12.2)."""
    return invalid(_item(kind, ["body", name], message, value, context))


def _problem(field: Field, given: Input, whole: str) -> dict[str, Any] | None:
    loc = ["body", field.name]
    if field.name not in given.values:
        return _item("missing", loc, "Field required", Raw(whole)) if field.required else None
    value, shown = given.values[field.name], Raw(given.texts[field.name])
    if value is None and not field.required:
        return None
    if wrong := _type_problem(field.kind, value):
        return _item(wrong[0], loc, wrong[1], shown)
    if field.choices and value not in field.choices:
        expected = " or ".join(repr(choice) for choice in field.choices)
        return _item("literal_error", loc, f"Input should be {expected}", shown, {"expected": expected})
    if field.minimum is not None and value < field.minimum:
        text = f"Input should be greater than or equal to {field.minimum:g}"
        return _item("greater_than_equal", loc, text, shown, {"ge": field.minimum})
    if field.maximum is not None and value > field.maximum:
        text = f"Input should be less than or equal to {field.maximum:g}"
        return _item("less_than_equal", loc, text, shown, {"le": field.maximum})
    return None


def _type_problem(kind: str, value: Any) -> tuple[str, str] | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match kind:
        case "string" if not isinstance(value, str):
            return "string_type", "Input should be a valid string"
        case "integer" if not is_number:
            return "int_type", "Input should be a valid integer"
        case "integer" if isinstance(value, float) and not value.is_integer():
            return "int_from_float", "Input should be a valid integer, got a number with a fractional part"
        case "number" if not is_number:
            return "float_type", "Input should be a valid number"
        case "boolean" if not isinstance(value, bool):
            return "bool_type", "Input should be a valid boolean"
    return None


def _item(
    kind: str, loc: list[Any], message: str, value: Any, context: dict[str, Any] | None = None
) -> dict[str, Any]:
    item: dict[str, Any] = {
        "type": kind,
        "loc": loc,
        "msg": message,
        "input": value,
        "url": ERRORS_URL + kind,
    }
    if context:
        item["ctx"] = context
    return item

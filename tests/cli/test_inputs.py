"""What `-i KEY=VALUE` and `--input-json` become. Pure."""

import json
from pathlib import Path

import pytest

from falrpc_server.cli import inputs


def composed(*pairs: str, base: str | None = None) -> str:
    fields = {pair.key: pair.json_text for pair in inputs.parse_pairs(pairs)}
    return inputs.compose(base, fields)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param("15860307465884635512", "15860307465884635512", id="above 2^53"),
        pytest.param("9" * 5000, "9" * 5000, id="more digits than Python converts"),
        pytest.param("1e3", "1e3", id="exponent"),
        pytest.param("1.0", "1.0", id="integral float"),
        pytest.param("1e400", "1e400", id="larger than a double"),
        pytest.param("-0", "-0", id="negative zero"),
        pytest.param("true", "true", id="boolean"),
        pytest.param("null", "null", id="null"),
        pytest.param('"5"', '"5"', id="quoted number stays text"),
        pytest.param('"@name"', '"@name"', id="quoted at sign is no file"),
        pytest.param('[1,  {"a":1e3}]', '[1,  {"a":1e3}]', id="array verbatim"),
        pytest.param(" 5 ", "5", id="white space around JSON"),
        pytest.param("a cat", '"a cat"', id="text"),
        pytest.param("", '""', id="empty text"),
        pytest.param("a=b", '"a=b"', id="equals sign in the value"),
        pytest.param('say "hi"\n', r'"say \"hi\"\n"', id="text that needs escapes"),
        pytest.param("grün 🤖", '"grün 🤖"', id="not ASCII"),
        pytest.param("NaN", '"NaN"', id="NaN is no JSON"),
        pytest.param("-Infinity", '"-Infinity"', id="Infinity is no JSON"),
        pytest.param("01", '"01"', id="leading zero is no JSON"),
        pytest.param("[" * 100_000, json.dumps("[" * 100_000), id="unclosed nesting"),
    ],
)
def test_value(value: str, text: str) -> None:
    """A value that is JSON is sent as it was typed, any other is sent as a JSON string."""
    assert composed(f"x={value}") == f'{{"x":{text}}}'


def test_no_input() -> None:
    """Without options the input is the empty object."""
    assert composed() == "{}"


def test_base_verbatim() -> None:
    """--input-json alone is sent byte for byte."""
    base = '{ "seed" : 15860307465884635512,\n "x": 1e3 }'
    assert composed(base=base) == base


def test_pairs_over_base() -> None:
    """-i replaces and adds members of --input-json; the others keep their numbers as typed."""
    base = '{"seed": 15860307465884635512, "x": 1e3, "prompt": "old", "deep": {"y": 1.0}}'
    merged = composed("prompt=new", "n=2", base=base)
    assert merged == '{"seed":15860307465884635512,"x":1e3,"prompt":"new","deep":{"y": 1.0},"n":2}'


@pytest.mark.parametrize("base", ["[1]", '"text"', "5", "{", "", '{"a": NaN}', '{"a":1} {}'])
def test_base_refused(base: str) -> None:
    """--input-json that is not one JSON object is refused, with and without -i."""
    with pytest.raises(inputs.InputError):
        composed(base=base)
    with pytest.raises(inputs.InputError):
        composed("a=1", base=base)


@pytest.mark.parametrize("pair", ["x", "=1", "", "x=\udcff"])
def test_pair_refused(pair: str) -> None:
    """A pair without a key, without an equals sign or without a UTF-8 form is refused."""
    with pytest.raises(inputs.InputError):
        inputs.parse_pairs([pair])


def test_key_twice_refused() -> None:
    """A key that comes twice is refused instead of one of its values being lost."""
    with pytest.raises(inputs.InputError, match="'a' twice"):
        inputs.parse_pairs(["a=1", "a=2"])


def test_file() -> None:
    """@PATH names a file to upload."""
    assert inputs.parse_pairs(["image_url=@in/cat.png"]) == [
        inputs.Pair("image_url", upload=Path("in/cat.png"))
    ]


def test_tags() -> None:
    """Tags are text, whatever they look like."""
    assert inputs.parse_tags(["team=1", "env=a=b"]) == {"team": "1", "env": "a=b"}

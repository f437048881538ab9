"""Inputs as JSON text, and the names of attachments in them."""

import json

import pytest
from google.protobuf import struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from falrpc_server.translate import json_text
from falrpc_server.translate.json_text import BadJson, Problem


def struct(**fields: object) -> struct_pb2.Struct:
    message = struct_pb2.Struct()
    message.update(fields)
    return message


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b' \t\r\n{ "a" : 1 } \n',
        b'{"seed":15860307465884635512}',
        b'{"a":1e400,"b":-0.0,"c":1E-9}',
        b'{"a":1,"a":2}',
        b'{"":null}',
        '{"ü":"\u2028\U0001f600"}'.encode(),
        rb'{"a":"\u0000\ud83d\ude00\/"}',
        b'{"a":' + b"[" * 150 + b"]" * 150 + b"}",
    ],
)
def test_any_json_object_passes(text: bytes) -> None:
    """Every JSON object is accepted, whatever its numbers, keys and spacing."""
    json_text.check_object(text)


@pytest.mark.parametrize("text", [rb'{"a":"\ud83d"}', rb'{"\ud83d":1}'])
def test_lone_surrogates_pass(text: bytes) -> None:
    """RFC 8259 §8.2 admits lone surrogate escapes: JavaScript writes them for a cut emoji."""
    json_text.check_object(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(b"[]", "must be a JSON object", id="array"),
        pytest.param(b'"x"', "must be a JSON object", id="string"),
        pytest.param(b"5", "must be a JSON object", id="number"),
        pytest.param(b"null", "must be a JSON object", id="null"),
        pytest.param(b"", "too early, at byte 0 (line 1, column 1)", id="empty"),
        pytest.param(b'{"a":1', "too early, at byte 6 (line 1, column 7)", id="cut"),
        pytest.param(b'{\n "a": tru}', "(line 2, column 8)", id="word"),
        pytest.param(b"{'a':1}", "at byte 1 (line 1, column 2)", id="quotes"),
        pytest.param(b'{"a":1,}', "(line 1, column 8)", id="trailing-comma"),
        pytest.param(b'{"a":01}', "is malformed JSON", id="leading-zero"),
        pytest.param(b'{"a":NaN}', "is malformed JSON", id="nan"),
        pytest.param(b'{"a":1} {}', "is malformed JSON", id="two"),
        pytest.param(b'\xef\xbb\xbf{"a":1}', "is malformed JSON", id="bom"),
        pytest.param(b'{"a":"\n"}', "is malformed JSON", id="control-character"),
        pytest.param(b'{"a":' * 50_000, "nested too deeply", id="deep"),
        pytest.param(b'{"\xff":1}', "UTF-8", id="not-utf-8"),
    ],
)
def test_what_is_no_json_object_is_refused_with_its_place(text: bytes, message: str) -> None:
    """The message says what is wrong and where, and shows nothing of the text."""
    with pytest.raises(BadJson) as caught:
        json_text.check_object(text)
    assert message in str(caught.value)


@given(st.binary(max_size=60) | st.text('{}[]":,0123ae\\ud8+-. \n', max_size=30).map(str.encode))
def test_agrees_with_the_standard_parser(text: bytes) -> None:
    """What passes as UTF-8 is what Python's strict parser calls an object, too."""
    try:
        text.decode()
        value = json.loads(text, parse_constant=lambda name: 1 / 0)
        expected = isinstance(value, dict) and not text.startswith(b"\xef\xbb\xbf")
    except (ValueError, ZeroDivisionError, RecursionError):
        expected = False
    try:
        json_text.check_object(text)
        passed = True
    except BadJson:
        passed = False
    if expected and not passed:
        assert "\\ud8" in text.decode()  # test_lone_surrogates_pass
    elif passed:
        assert expected or not _is_utf_8(text)


def _is_utf_8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


# Structs


def test_a_struct_becomes_the_json_that_was_meant() -> None:
    """Integral numbers are written as integers, and nothing else changes."""
    message = struct(
        n=28, f=0.5, big=2**53 - 1, neg=-7.0, s="ü", t=True, f2=False, none=None, o={"l": [1, "a", {}]}
    )
    text, problems = json_text.struct_to_json(message)
    assert problems == []
    assert json.loads(text) == {
        "n": 28, "f": 0.5, "big": 2**53 - 1, "neg": -7, "s": "ü", "t": True, "f2": False, "none": None,
        "o": {"l": [1, "a", {}]},
    }  # fmt: skip
    assert b"28.0" not in text
    assert b"9007199254740991" in text


@pytest.mark.parametrize(
    ("fields", "paths"),
    [
        pytest.param({"seed": 15860307465884635512}, ["seed"], id="seed"),
        pytest.param({"seed": 2.0**53}, ["seed"], id="limit"),
        pytest.param({"seed": -(2.0**53)}, ["seed"], id="negative-limit"),
        pytest.param({"a": 1e300}, ["a"], id="large-float"),
        pytest.param({"a": float("nan"), "b": float("inf")}, ["a", "b"], id="not-finite"),
        pytest.param({"loras": [{"seed": 2.0**60}, 1, 2.0**61]}, ["loras[0].seed", "loras[2]"], id="nested"),
    ],
)
def test_numbers_that_a_struct_has_lost_are_refused(fields: dict[str, object], paths: list[str]) -> None:
    """Each number that JSON text can't carry faithfully is named by its path, all of them at once."""
    _, problems = json_text.struct_to_json(struct(**fields))
    assert [problem.path for problem in problems] == paths


def test_problems_are_bounded() -> None:
    """A Struct with very many bad numbers is refused without a list of all of them."""
    message = struct_pb2.Struct()
    message.update({"seeds": [2.0**60] * 10_000})
    _, problems = json_text.struct_to_json(message)
    assert len(problems) == json_text.PROBLEMS_MAX + 1
    assert problems[-1].description == "may hold further values like these"


def test_a_lone_surrogate_beside_an_attachment() -> None:
    """A string that is cut in the middle of an emoji is no reference, and no obstacle."""
    text = b'{"a":"\\ud83d","f":"attachment:x"}'
    assert json_text.attachment_names(text) == {"x"}
    assert json_text.with_attachments(text, {"x": "u"}) == b'{"a":"\\ud83d","f":"u"}'


def test_a_value_that_was_never_set_is_null() -> None:
    """A Value without a kind is written as null."""
    message = struct_pb2.Struct()
    message.fields["a"].SetInParent()
    assert json_text.struct_to_json(message) == (b'{"a":null}', [])


@given(
    st.dictionaries(st.text(max_size=3), st.floats(allow_nan=True) | st.integers(-(2**53), 2**53), max_size=4)
)
def test_no_number_changes_unnoticed(fields: dict[str, float]) -> None:
    """Every number of a Struct is either written with its own value or named as a problem."""
    text, problems = json_text.struct_to_json(struct(**fields))
    if problems:
        assert {p.path for p in problems} == {
            k
            for k, v in fields.items()
            if v != v or abs(v) == float("inf") or (v == int(v) and abs(v) >= 2**53)
        }
        assert all(isinstance(p, Problem) for p in problems)
    else:
        assert json.loads(text) == fields


# Attachments


@pytest.mark.parametrize(
    ("text", "replaced"),
    [
        pytest.param(b'{"a":"attachment:x"}', b'{"a":"U"}', id="value"),
        pytest.param(b'{ "a" : [ "attachment:x" , 1e3 ] }', b'{ "a" : [ "U" , 1e3 ] }', id="bytes-around"),
        pytest.param(b'{"attachment:x":1}', b'{"attachment:x":1}', id="key"),
        pytest.param(b'{"attachment:x" \n :1}', b'{"attachment:x" \n :1}', id="key-with-space"),
        pytest.param(b'{"attachment:x":"attachment:x"}', b'{"attachment:x":"U"}', id="key-and-value"),
        pytest.param(b'{"a":"see attachment:x"}', b'{"a":"see attachment:x"}', id="not-whole"),
        pytest.param(b'{"a":"attachment:x "}', b'{"a":"attachment:x "}', id="other-name"),
        pytest.param(b'{"a":"attachment:y"}', b'{"a":"attachment:y"}', id="undeclared"),
        pytest.param(rb'{"a":"\"attachment:x\""}', rb'{"a":"\"attachment:x\""}', id="quoted-inside"),
        pytest.param(rb'{"a":"\\","b":"attachment:x"}', rb'{"a":"\\","b":"U"}', id="after-backslash"),
        pytest.param(rb'{"a":"\u0061ttachment:x"}', b'{"a":"U"}', id="escaped"),
        pytest.param(b'{"a":"Attachment:x"}', b'{"a":"Attachment:x"}', id="case"),
    ],
)
def test_only_whole_values_are_replaced(text: bytes, replaced: bytes) -> None:
    """Exactly the string values equal to attachment:NAME are replaced; every other byte stays."""
    assert json_text.with_attachments(text, {"x": "U"}) == replaced


def test_a_key_far_from_its_colon_is_still_a_key() -> None:
    """White space before the colon does not make a key a value."""
    text = b'{"attachment:x"' + b" " * 100 + b":1}"
    assert json_text.with_attachments(text, {"x": "U"}) == text


def test_the_url_is_escaped() -> None:
    """A URL can't break out of its string."""
    text = json_text.with_attachments(b'{"a":"attachment:x"}', {"x": 'h"\\\n'})
    assert json.loads(text) == {"a": 'h"\\\n'}


def test_names_that_are_used() -> None:
    """Names are found in values at any depth, not in keys; what can't be a name is just text."""
    text = b'{"a":["attachment:x",{"attachment:z":"attachment:y"}],"b":"attachment:","c":"attachment:a b"}'
    assert json_text.attachment_names(text) == {"x", "y"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["attachment:x", "attachment:y"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3) | st.just("attachment:x"), inner)
    ),
    max_leaves=10,
)


def replaced(value: object) -> object:
    if isinstance(value, dict):
        return {key: replaced(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [replaced(inner) for inner in value]
    return "U" if value == "attachment:x" else value


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4), st.sampled_from([None, 1]), st.booleans())
def test_replacing_is_what_a_parser_would_do(
    value: dict[str, object], indent: int | None, ascii_only: bool
) -> None:
    """Replacing on bytes gives the same document as replacing in the parsed one."""
    try:
        text = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:
        return
    assert json.loads(json_text.with_attachments(text, {"x": "U"})) == replaced(value)

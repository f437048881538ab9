"""Whatever fal answers: one failure, its status within every client's limits, and nothing private in it."""

import base64
import json
import random
import re
from typing import Any
from urllib.parse import quote

import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.errors.cases import all_cases
from tests.failures import unpacked_details

from falrpc_server.fal_http import error_bodies
from falrpc_server.fal_http.error_bodies import Failure, FalError
from falrpc_server.fal_http.models import Operation
from falrpc_server.translate import error_texts, rpc_status, verdicts

BODIES = 100_000
SEED = 31
PRIVATE = "a-private-prompt-5f2c"  # the value of every `input`
TRAILERS_BYTES_MAX = 7_000
STATUS_BYTES_MAX = 4_096
MESSAGE_BYTES_MAX = 300
REASON = re.compile(r"[A-Z][A-Z0-9_]{1,61}[A-Z0-9]")
ENTRY_BYTES = 32  # what HTTP/2 adds for each header (RFC 9113 §6.5.2)
UNESCAPED = " !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"  # in grpc-message

TEXT = st.text(max_size=60) | st.text("漢é😀\n\x7f%", min_size=200, max_size=800)
JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
ITEM = st.fixed_dictionaries(
    {"input": st.just(PRIVATE)},
    optional={
        "loc": JSON_VALUE | st.lists(TEXT | st.integers(), max_size=6),
        "msg": JSON_VALUE,
        "type": JSON_VALUE,
        "url": JSON_VALUE,
        "ctx": JSON_VALUE,
    },
)
BODY = st.fixed_dictionaries(
    {},
    optional={
        "detail": st.lists(ITEM | JSON_VALUE, max_size=40) | ITEM | JSON_VALUE,
        "error_type": JSON_VALUE,
        "error": JSON_VALUE,
        "message": JSON_VALUE,
        "status": JSON_VALUE,
        "retry_after": JSON_VALUE,
        "errors": JSON_VALUE,
    },
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        name: TEXT | st.sampled_from(["1", "0", "true", "user", "runner_disconnected", "7"])
        for name in (
            "x-fal-request-id",
            "x-fal-error-type",
            "x-fal-needs-retry",
            "x-fal-retryable",
            "x-fal-request-timeout-type",
            "x-fal-billable-units",
            "retry-after",
        )
    },
)


def status_of(operation: Operation, status: int, headers: dict[str, str], body: bytes) -> status_pb2.Status:
    """What a caller is told of an answer."""
    answer = error_bodies.read(status, headers, body)
    is_stored = operation is Operation.RESULT and answer.is_outcome
    error = FalError(
        operation,
        Failure.ANSWER,
        "private cause",
        answer=answer,
        is_stored=is_stored,
        endpoint_id="fal-ai/flux/dev",
        request_id="7d1c2c0e-6a0b-4f6e-9b0e-0c6d0b1f2a11",
    )
    return rpc_status.status_of(verdicts.of_fal_error(error))


def trailers_bytes(status: status_pb2.Status) -> int:
    """The size of a status on its way, by the rule that HTTP/2's limits count with."""
    encoded = {
        "grpc-status": str(status.code),
        "grpc-message": quote(status.message, safe=UNESCAPED),
        "grpc-status-details-bin": base64.b64encode(status.SerializeToString()).decode(),
    }
    return sum(len(name) + len(value) + ENTRY_BYTES for name, value in encoded.items())


def assert_good(status: status_pb2.Status) -> None:
    """What holds for any status: a code that can be sent, ErrorInfo, legal paths, and its size."""
    assert status.code not in (code_pb2.OK, code_pb2.CANCELLED)
    assert trailers_bytes(status) <= TRAILERS_BYTES_MAX
    assert status.ByteSize() <= STATUS_BYTES_MAX
    assert len(quote(status.message, safe=UNESCAPED)) <= MESSAGE_BYTES_MAX
    details = unpacked_details(status)
    [info] = [detail for detail in details if isinstance(detail, error_details_pb2.ErrorInfo)]
    assert REASON.fullmatch(info.reason)
    assert info.metadata["delivery"] in ("REJECTED", "UNKNOWN", "ACCEPTED", "FAILED")
    for detail in details:
        if isinstance(detail, error_details_pb2.BadRequest):
            assert [v.field for v in detail.field_violations if not is_path(v.field)] == []


def is_path(field: str) -> bool:
    """Whether a field path is one: names after dots, positions and quoted keys in brackets, perhaps cut."""
    rest = field
    for root in ("input", "query", "header", "path", "cookie", "options"):
        if field.startswith(root):
            rest = field.removeprefix(root)
            break
    else:
        return False
    while rest:
        if rest[0] == ".":
            name = rest[1:].split(".", 1)[0].split("[", 1)[0]
            if not name or not all((c.isascii() and (c.isalnum() or c in "_-…")) or c == "…" for c in name):
                return False
            rest = rest[1 + len(name) :]
        elif rest[0] == "[":
            try:
                value, end = json.JSONDecoder().raw_decode(rest, 1)
            except ValueError:
                return rest.endswith("…")  # cut inside the key
            if not isinstance(value, str | int):
                return False
            rest = rest[end + 1 :] if rest[end : end + 1] == "]" else rest[end:]
            if rest and rest[0] not in ".[…":
                return False
        else:
            return rest == "…"
    return True


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(Operation), st.integers(300, 599), HEADERS, BODY)
def test_any_json(operation: Operation, status: int, headers: dict[str, str], body: Any) -> None:
    """Any JSON of fal's shapes becomes a good status, without the input that was refused."""
    told = status_of(operation, status, headers, json.dumps(body).encode())
    assert_good(told)
    assert PRIVATE.encode() not in told.SerializeToString()


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(Operation), st.integers(0, 999), HEADERS, st.binary(max_size=300))
def test_any_bytes(operation: Operation, status: int, headers: dict[str, str], body: bytes) -> None:
    """Any bytes become a good status."""
    assert_good(status_of(operation, status, headers, body))


@settings(max_examples=200)
@given(st.lists(st.text() | st.integers(), max_size=40))
def test_any_loc(loc: list[str | int]) -> None:
    """Any `loc` is a legal field path."""
    [item] = error_bodies.read(422, {}, json.dumps({"detail": [{"loc": loc, "msg": "m"}]}).encode()).items
    assert is_path(error_texts.field_path(item.loc))


@pytest.mark.parametrize(
    ("path", "legal"),
    [
        ("input", True),
        ("input.a[0].b-c", True),
        ('input["a.b"][1]', True),
        ("input.", False),
        ("input..a", False),
        ("input.a b", False),
        ("input[a]", False),
        ("inputs", False),
        ("other.a", False),
    ],
)
def test_what_a_path_is(path: str, legal: bool) -> None:
    """The check above can fail."""
    assert is_path(path) == legal


@pytest.mark.timeout(240)
def test_a_hundred_thousand_bodies() -> None:
    """The bodies of all cases, changed at random: no exception, good statuses, nothing private."""
    source = random.Random(SEED)
    known = [case.fal["body"] for case in all_cases() if "body" in case.fal]
    parsed = [value for value in map(loads, known) if isinstance(value, dict)]
    operations, texts = list(Operation), [*known, "", "null", "[]"]
    for number in range(BODIES):
        headers = {"x-fal-request-id": "r"} if source.random() < 0.7 else {}
        is_structured = number % 2
        if is_structured:
            body = json.dumps(changed(source.choice(parsed), source)).encode()
        else:
            body = damaged(source.choice(texts).encode(), source)
        told = status_of(
            source.choice(operations), source.choice((400, 404, 422, 429, 500, 503)), headers, body
        )
        if number % 20 < 2:  # of both kinds
            assert_good(told)
        assert not is_structured or PRIVATE.encode() not in told.SerializeToString(), body


def loads(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def changed(value: Any, source: random.Random, name: str = "") -> Any:
    """A JSON value with parts replaced, repeated or left out. What is called `input` is private."""
    if name == "input":
        return source.choice((PRIVATE, [PRIVATE], {"deep": {"er": PRIVATE}}))
    pick = source.random()
    if pick < 0.08:
        return source.choice((None, True, -1, 1e400, "", "text", [], {}, "é" * 400, 10**40, [[[[]]]]))
    if isinstance(value, dict):
        kept = {key: changed(inner, source, key) for key, inner in value.items() if source.random() < 0.92}
        return kept | ({"input": PRIVATE} if "loc" in kept else {})
    if isinstance(value, list):
        return [changed(inner, source) for inner in value for _ in range(source.choice((1, 1, 1, 2, 0)))]
    return value


def damaged(body: bytes, source: random.Random) -> bytes:
    """Bytes with some of them changed, and perhaps cut."""
    spoilt = bytearray(body)
    for _ in range(source.randrange(6)):
        if spoilt:
            spoilt[source.randrange(len(spoilt))] = source.randrange(256)
    return bytes(spoilt[: source.randrange(len(spoilt) + 1)] if source.random() < 0.2 else spoilt)

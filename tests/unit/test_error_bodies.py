"""fal's error answers, every shape of fal-http-api.md §12.4 and then some."""

import email.utils
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falrpc_server.fal_http import error_bodies
from falrpc_server.fal_http.error_bodies import DetailItem


def read(body: bytes, status: int = 400, **headers: str) -> error_bodies.ErrorAnswer:
    return error_bodies.read(status, {k.replace("_", "-"): v for k, v in headers.items()}, body)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param(b'{"detail":"no"}', "no", id="detail"),
        pytest.param(b'{"detail":{"message":"no"}}', "no", id="detail-object-message"),
        pytest.param(b'{"detail":{"msg":"no"}}', "no", id="detail-object-msg"),
        pytest.param(b'{"message":"no"}', "no", id="message"),
        pytest.param(b'{"error":"no"}', "no", id="error"),
        pytest.param(b'{"error":{"type":"t","message":"no"}}', "no", id="platform"),
        pytest.param(b'{"detail":"no","message":"other"}', "no", id="detail-wins"),
        pytest.param(b'{"detail":"","message":"no"}', "no", id="empty-detail"),
        pytest.param(b'{"status":"NOT_FOUND"}', "", id="status-word"),
        pytest.param(b'{"detail":null}', "", id="null"),
        pytest.param(b'{"detail":5}', "", id="number"),
        pytest.param(b'"no"', "", id="string-document"),
        pytest.param(b"<html>nginx</html>", "", id="html"),
        pytest.param(b"", "", id="empty"),
        pytest.param(b"\xff\xfe\x00", "", id="bytes"),
        pytest.param(b'{"detail":"a\xffb"}', "a\ufffdb", id="bad-utf-8-inside"),
        pytest.param(rb'{"detail":"a\ud800b"}', "a?b", id="lone-surrogate"),
    ],
)
def test_the_sentence_of_every_shape(body: bytes, text: str) -> None:
    """The most telling text of the body is found, and none is made up."""
    assert read(body).text == text


def test_a_request_error() -> None:
    """§12.1: the type comes from the body, else from the header."""
    assert read(b'{"detail":"x","error_type":"a"}', x_fal_error_type="b").error_type == "a"
    assert read(b"{}", x_fal_error_type="b").error_type == "b"


def test_a_model_error() -> None:
    """§12.2: each item is read without its input, with every field optional."""
    body = (
        b'{"detail":[{"loc":["body","loras",0,"path"],"msg":"m","type":"t","url":"u","ctx":{},"input":"S"},'
        b'{"msg":"only"},{"type":"only"},"text",5,null,{"loc":"body","msg":5}]}'
    )
    assert read(body, 422).items == (
        DetailItem(("body", "loras", 0, "path"), "m", "t", "u"),
        DetailItem((), "only"),
        DetailItem((), "", "only"),
        DetailItem((), "text"),
    )


def test_one_item_without_its_list() -> None:
    """A detail that is one item instead of a list of them is read as that item."""
    assert read(b'{"detail":{"loc":["body","a"],"msg":"m","type":"t"}}').items == (
        DetailItem(("body", "a"), "m", "t"),
    )


def test_the_queues_status_words() -> None:
    """The bodies without detail of §7.7 are told by their status word."""
    assert read(b'{"status":"ALREADY_COMPLETED"}').status_word == "ALREADY_COMPLETED"
    assert read(b'{"status":404}').status_word == ""


def test_legacy_field_errors_are_read() -> None:
    """§12.4: `errors` with field and message is unverified but parsed."""
    answer = read(b'{"detail":"bad","errors":[{"field":"prompt","message":"is empty"}]}')
    assert [(item.loc, item.msg) for item in answer.items] == [(("prompt",), "is empty")]


@pytest.mark.parametrize(
    ("newer", "older", "expected"),
    [
        ("1", None, True),
        ("0", None, False),
        ("true", None, True),
        ("False", None, False),
        (" 1 ", None, True),
        (None, "true", True),
        (None, "false", False),
        ("0", "true", False),
        ("maybe", "true", True),
        ("", None, None),
        (None, None, None),
        ("yes", None, None),
    ],
)
def test_the_retry_hints(newer: str | None, older: str | None, expected: bool | None) -> None:
    """Both hint headers are read with fal's four words; the newer one wins (§16.1 row 4)."""
    headers = {"x-fal-needs-retry": newer, "x-fal-retryable": older}
    present = {name: value for name, value in headers.items() if value is not None}
    assert error_bodies.read(500, present, b"").needs_retry is expected


@pytest.mark.parametrize(
    ("header", "body", "seconds"),
    [
        pytest.param("7", b"", 7.0, id="seconds"),
        pytest.param("0", b"", 0.0, id="zero"),
        pytest.param("-5", b"", 0.0, id="negative"),
        pytest.param("99999999", b"", 86_400.0, id="huge"),
        pytest.param("9" * 400, b"", 86_400.0, id="more-than-a-float-holds"),
        pytest.param("9" * 5_000, b"", None, id="more-than-an-int-may-have"),
        pytest.param("Wed, 21 Oct 2015 07:28:00 GMT", b"", 0.0, id="past-date"),
        pytest.param("Fri, 31 Dec 9999 23:59:59 GMT", b"", 86_400.0, id="far-date"),
        pytest.param("soon", b"", None, id="word"),
        pytest.param("", b"", None, id="empty"),
        pytest.param("nan", b"", None, id="nan"),
        pytest.param(None, b'{"retry_after":60}', 60.0, id="field"),
        pytest.param(None, b'{"retry_after":1.5}', 1.5, id="field-fraction"),
        pytest.param(None, b'{"retry_after":-1}', None, id="field-negative"),
        pytest.param(None, b'{"retry_after":1e999}', 86_400.0, id="field-infinite"),
        pytest.param(None, b'{"retry_after":NaN}', None, id="field-nan"),
        pytest.param(None, b'{"retry_after":true}', None, id="field-bool"),
        pytest.param("3", b'{"retry_after":60}', 3.0, id="header-wins"),
        pytest.param("soon", b'{"retry_after":60}', 60.0, id="bad-header"),
    ],
)
def test_how_long_to_wait(header: str | None, body: bytes, seconds: float | None) -> None:
    """Retry-After or retry_after gives 0 to 86,400 seconds, or nothing when it makes no sense."""
    answer = error_bodies.read(429, {} if header is None else {"retry-after": header}, body)
    assert answer.retry_after_seconds == seconds


def test_retry_after_as_a_date() -> None:
    """A date counts from now."""
    moment = email.utils.formatdate(time.time() + 60, usegmt=True)
    seconds = read(b"", 429, retry_after=moment).retry_after_seconds
    assert seconds is not None
    assert 50 < seconds <= 60


@pytest.mark.parametrize("status", [502, 503, 504])
def test_an_edge_page_is_told_by_the_missing_id(status: int) -> None:
    """A 502, 503 or 504 without fal's request id and type is the edge's own (§5)."""
    assert read(b"<html>nginx</html>", status).is_from_edge
    assert not read(b"<html>nginx</html>", status, x_fal_request_id="r").is_from_edge
    assert not read(b"", status, x_fal_error_type="runner_disconnected").is_from_edge
    assert not read(b"<html>nginx</html>", 500).is_from_edge


def test_huge_lists_are_cut_and_counted() -> None:
    """Of a list past the bound the first items are read, and the others are counted."""
    body = b'{"detail":[' + b",".join([b'{"msg":"m"}'] * 1_234) + b"]}"
    answer = read(body, 422)
    assert len(answer.items) == error_bodies.ITEMS_MAX
    assert answer.items_left_out == 1_234 - error_bodies.ITEMS_MAX


def test_long_texts_are_cut() -> None:
    """No text of an error answer is longer than the bound."""
    answer = read(b'{"detail":[{"msg":"%s","loc":[%s]}]}' % (b"x" * 9_999, b"1," * 99 + b"1"))
    assert len(answer.items[0].msg) == error_bodies.TEXT_CHARACTERS_MAX
    assert len(answer.items[0].loc) == error_bodies.LOC_PARTS_MAX


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"detail":' * 20_000, id="deep-objects"),
        pytest.param(b'{"detail":[{"input":' + b"9" * 5_000 + b',"msg":"m"}]}', id="5000-digits"),
        pytest.param(b'{"detail":[{"input":NaN,"msg":"m"},{"input":-Infinity}]}', id="not-finite"),
        pytest.param(b'{"detail":[{"loc":["body",-' + b"9" * 5_000 + b"]}]}", id="5000-digit-loc"),
    ],
)
def test_bodies_that_break_parsers(body: bytes) -> None:
    """Nesting, numbers of any length and NaN are survived, with the items that can be read."""
    answer = read(body, 422)
    assert answer.http_status == 422
    assert all(isinstance(item.msg, str) for item in answer.items)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["detail", "loc", "msg", "type", "error", "message", "errors", "retry_after", "field"]
            )
            | st.text(max_size=3),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["retry-after", "x-fal-needs-retry", "x-fal-retryable", "x-fal-request-id", "x-fal-error-type"]
    ),
    st.text(max_size=30) | st.from_regex(r"[-+]?\d{1,500}", fullmatch=True) | st.datetimes().map(str),
)


@given(st.integers(0, 999), HEADERS, st.binary(max_size=200) | JSON.map(lambda v: json.dumps(v).encode()))
def test_reading_is_total(status: int, headers: dict[str, str], body: bytes) -> None:
    """Any status, headers and bytes give an answer, whose texts can travel as UTF-8."""
    answer = error_bodies.read(status, headers, body)
    assert answer.http_status == status
    texts = [answer.text, answer.error_type, answer.status_word, answer.request_id]
    for item in answer.items:
        texts += [item.msg, item.type, item.url, *(part for part in item.loc if isinstance(part, str))]
    for text in texts:
        text.encode()
    assert answer.retry_after_seconds is None or 0 <= answer.retry_after_seconds <= 86_400

"""What is in a webhook (fal-http-api.md §11.1)."""

import json

import pytest
from tests.emulator.webhook_receiver import news

from falrpc_server.emulator.webhooks import payload

NOT_JSON = "Response payload is not JSON serializable."


def test_ok() -> None:
    """A success carries the model's JSON byte for byte: numbers, spaces and escapes as they were."""
    body = b'{"seed": 1.50, "big": 123456789012345678901234567890, "e": 1E+2, "t": "\\u00e9\xc3\xa9"}'
    assert payload(news(body)) == (
        b'{"request_id":"request-1","gateway_request_id":"attempt-2","status":"OK","payload":' + body + b"}"
    )


@pytest.mark.parametrize("body", [b"null", b"[]", b"1e400", b'"a"', b" {}\n", b'{"a":1,"a":2}'])
def test_any_json(body: bytes) -> None:
    """Every JSON text is embedded, odd ones too."""
    assert payload(news(body)).endswith(b'"status":"OK","payload":' + body + b"}")


@pytest.mark.parametrize("status", [422, 500, 503, 499, 404, 302])
def test_error(status: int) -> None:
    """A failure, the model's or the platform's, carries its status in the text and its body as payload."""
    assert payload(news(b'{"detail":[{"type":"missing"}]}', status)) == (
        b'{"request_id":"request-1","gateway_request_id":"attempt-2","status":"ERROR",'
        b'"error":"Invalid status code: %d","payload":{"detail":[{"type":"missing"}]}}' % status
    )


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x89PNG\r\n", id="picture"),
        pytest.param(b"<html>", id="html"),
        pytest.param(b'{"a":1', id="cut"),
        pytest.param(b"{} {}", id="two"),
        pytest.param(b'{"a":NaN}', id="nan"),
        pytest.param(b'"\xff"', id="not UTF-8"),
        pytest.param(b"\xef\xbb\xbf{}", id="byte order mark"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="deep"),
        pytest.param(b'1,"status":"OK"', id="more keys"),
    ],
)
@pytest.mark.parametrize("status", [200, 404])
def test_not_json(body: bytes, status: int) -> None:
    """A body that isn't JSON is left out and says so, whether the request succeeded or failed."""
    sent = json.loads(payload(news(body, status)))
    assert sent.pop("payload_error").startswith(NOT_JSON)
    failed = {"status": "ERROR", "error": "Invalid status code: 404"}
    ids = {"request_id": "request-1", "gateway_request_id": "attempt-2"}
    assert sent == {**ids, "payload": None, **({"status": "OK"} if status == 200 else failed)}

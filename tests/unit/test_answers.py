"""fal's envelopes and outputs as values (fal-http-api.md §5 to §7)."""

import pytest

from falrpc_server.fal_http import answers
from falrpc_server.fal_http.models import CancelOutcome, LogLine, QueueState, RequestOutcome


def test_reads_a_submission() -> None:
    """The id and position of §7.2's answer are read, whatever else it holds."""
    body = b'{"status":"IN_QUEUE","request_id":"r-1","queue_position":3,"logs":null,"metrics":{},"new":1}'
    answer = answers.read_submitted(body)
    assert (answer.request_id, answer.queue_position) == ("r-1", 3)
    assert answers.read_submitted(b'{"request_id":"r-1"}').queue_position is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"<html>nginx</html>",
        b'{"request_id":null}',
        b'{"request_id":""}',
        b'{"request_id":5}',
        b'{"request_id":"../x"}',
        b'{"request_id":"a b"}',
        b'{"request_id":"r-1"',
        b'{"request_id":"\xff"}',
        b"[" * 50_000,
    ],
)
def test_a_submission_without_a_usable_id_is_malformed(body: bytes) -> None:
    """A submission's answer whose id can't name a request is Malformed, however it is broken."""
    with pytest.raises(answers.Malformed):
        answers.read_submitted(body)


def test_reads_every_state() -> None:
    """fal's three states are read with their fields, and a later state is UNKNOWN instead of an error."""
    queued = answers.read_status(b'{"status":"IN_QUEUE","queue_position":0,"logs":null,"metrics":{}}')
    assert (queued.state, queued.queue_position) == (QueueState.IN_QUEUE, 0)
    entry = b'{"timestamp":"t","level":"INFO","source":"USER","message":"m","extra":[]}'
    running = answers.read_status(b'{"status":"IN_PROGRESS","logs":[' + entry + b',{"message":null}]}')
    assert running.logs == (LogLine("t", "INFO", "USER", "m"), LogLine())
    done = answers.read_status(b'{"status":"COMPLETED","metrics":{"inference_time":3.42}}')
    assert (done.state, done.inference_seconds) == (QueueState.COMPLETED, 3.42)
    assert answers.read_status(b'{"status":"PAUSED"}').state is QueueState.UNKNOWN


def test_a_legacy_status_without_metrics_is_read() -> None:
    """metrics may be missing, null or hold a null time (§7.3)."""
    for tail in (b"", b',"metrics":null', b',"metrics":{"inference_time":null}'):
        assert answers.read_status(b'{"status":"COMPLETED"' + tail + b"}").inference_seconds is None


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        pytest.param("", RequestOutcome.UNKNOWN, id="nothing-said"),
        pytest.param(',"error":null,"error_type":null', RequestOutcome.UNKNOWN, id="nulls"),
        pytest.param(',"error":"x"', RequestOutcome.FAILED, id="error"),
        pytest.param(',"error":{"a":1}', RequestOutcome.FAILED, id="error-object"),
        pytest.param(',"error_type":"runner_disconnected"', RequestOutcome.FAILED, id="type"),
        pytest.param(
            ',"error":"x","error_type":"client_cancelled"', RequestOutcome.CANCELLED, id="cancelled"
        ),
    ],
)
def test_a_completed_status_is_never_called_a_success(fields: str, outcome: RequestOutcome) -> None:
    """The outcome is FAILED or CANCELLED when fal says so, else UNKNOWN, never SUCCEEDED."""
    assert answers.read_status(f'{{"status":"COMPLETED"{fields}}}'.encode()).outcome is outcome


@pytest.mark.parametrize("state", ["IN_QUEUE", "IN_PROGRESS"])
def test_only_a_completed_request_has_an_outcome(state: str) -> None:
    """An error text on a request that is not completed decides nothing: fal may retry it (§7.1)."""
    assert (
        answers.read_status(f'{{"status":"{state}","error":"x"}}'.encode()).outcome is RequestOutcome.UNKNOWN
    )


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"status":""}', b'{"status":null}', b"<html>", b'"COMPLETED"']
)
def test_a_status_without_a_state_is_malformed(body: bytes) -> None:
    """A status answer that names no state is Malformed."""
    with pytest.raises(answers.Malformed):
        answers.read_status(body)


def test_a_lone_surrogate_in_a_log_line_does_not_hide_the_status() -> None:
    """JSON's grammar admits a lone surrogate escape (RFC 8259 §8.2): the state is still read."""
    body = rb'{"status":"IN_PROGRESS","logs":[{"message":"cut emoji \ud83d"}]}'
    assert answers.read_status(body).state is QueueState.IN_PROGRESS


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (b'{"status":"OK"}', CancelOutcome.OK),
        (b'{"status":"CANCELLATION_REQUESTED"}', CancelOutcome.CANCELLATION_REQUESTED),
        (b'{"status":"ALREADY_COMPLETED"}', CancelOutcome.ALREADY_COMPLETED),
        (b'{"success":true}', CancelOutcome.UNSPECIFIED),
        (b'{"status":"SOON"}', CancelOutcome.UNSPECIFIED),
        (b'{"status":5}', CancelOutcome.UNSPECIFIED),
        (b"", CancelOutcome.UNSPECIFIED),
        (b"OK", CancelOutcome.UNSPECIFIED),
        (b"\xff", CancelOutcome.UNSPECIFIED),
    ],
)
def test_any_accepted_cancellation_is_an_answer(body: bytes, outcome: CancelOutcome) -> None:
    """A 2xx answer to a cancellation is accepted whatever its body: fal's documents disagree (§7.7)."""
    assert answers.read_cancel(body) is outcome


# Outputs


@pytest.mark.parametrize(
    "body",
    [b'{ "b":1, "a" : 1e3 }\n', b'{"seed":15860307465884635512}', "\ufeff{}".encode(), '"ü\u2028"'.encode()],
)
def test_an_output_is_kept_byte_for_byte(body: bytes) -> None:
    """A JSON output is handed on as the very bytes that fal sent."""
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    payload = answers.read_output(200, headers, body)
    assert payload.data == body
    assert payload.json_text is not None
    assert payload.json_text.encode() == body


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        pytest.param("image/png", b"\x89PNG", id="image"),
        pytest.param("image/png", b"{}", id="image-that-looks-like-json"),
        pytest.param("application/json", b'{"a":"\xff"}', id="not-utf-8"),
        pytest.param("application/json", b"", id="empty"),
        pytest.param("", b"", id="empty-and-untyped"),
        pytest.param("", b"\x00\x01", id="untyped-bytes"),
    ],
)
def test_what_is_no_json_text_is_kept_as_bytes(content_type: str, body: bytes) -> None:
    """A paid answer that is not UTF-8 JSON is never dropped: its bytes go out with fal's type."""
    payload = answers.read_output(200, {"content-type": content_type, "content-length": str(len(body))}, body)
    assert (payload.content_type, payload.data, payload.json_text) == (content_type, body, None)


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "", "a/b+json"]
)
def test_json_is_told_by_its_type_or_by_itself(content_type: str) -> None:
    """Any JSON media type counts, and without one the body itself decides."""
    assert (
        answers.read_output(200, {"content-type": content_type, "content-length": "2"}, b"{}").json_text
        == "{}"
    )


@pytest.mark.parametrize("headers", [{"content-length": "7"}, {"transfer-encoding": "Chunked"}])
def test_a_framed_body_is_not_parsed(headers: dict[str, str]) -> None:
    """Where the framing proves completeness the text is not looked at, even when it is no JSON."""
    headers = {**headers, "content-type": "application/json"}
    assert answers.read_output(200, headers, b'{"a":tr').json_text == '{"a":tr'


@pytest.mark.parametrize("end", range(1, 12))
def test_an_unframed_body_must_be_whole_json(end: int) -> None:
    """Cut at any byte, an output without length or chunks is Truncated, not a success."""
    body = b'{"a":[1,2]}'
    if end == len(body):
        assert answers.read_output(200, {"content-type": "application/json"}, body).json_text == body.decode()
    else:
        with pytest.raises(answers.Truncated):
            answers.read_output(200, {"content-type": "application/json"}, body[:end])


def test_an_unframed_body_of_another_kind_is_truncated() -> None:
    """Nothing proves that an unframed picture is whole: unlike JSON it does not show its own end."""
    with pytest.raises(answers.Truncated):
        answers.read_output(200, {"content-type": "image/png"}, b"\x89PNG")


def test_an_unframed_lone_surrogate_is_whole_json() -> None:
    """A lone surrogate escape is valid JSON text: a complete paid answer that holds one is no truncation."""
    body = rb'{"text":"\ud83d"}'
    assert answers.read_output(200, {"content-type": "application/json"}, body).json_text == body.decode()


def test_call_info_comes_from_the_headers() -> None:
    """Id, billable units and backend are read from the headers of §5, and are empty when absent."""
    headers = {
        "x-fal-request-id": "r",
        "x-fal-billable-units": "1.50000000",
        "x-fal-served-from": "b",
        "content-length": "2",
    }
    call = answers.read_output(200, headers, b"{}").call
    assert (call.request_id, call.billable_units, call.served_from) == ("r", "1.50000000", "b")
    assert answers.call_info({}).request_id == ""

"""Verdicts, and their form on the wire (docs/fal-http-api.md §17.6)."""

import ast
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from google.rpc import code_pb2, status_pb2
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.failures import unpacked_details

import falrpc_server.access
from falrpc import v1
from falrpc_server.fal_http import error_bodies
from falrpc_server.fal_http.error_bodies import DetailItem, ErrorAnswer, Failure, FalError
from falrpc_server.fal_http.models import Operation
from falrpc_server.fal_http.upload_errors import UploadMismatch, UploadTooLarge
from falrpc_server.translate import error_texts, interruptions, rpc_status, status_table, verdicts
from falrpc_server.translate.interruptions import CallProgress
from falrpc_server.translate.status_table import Delivery, Quota, Row
from falrpc_server.translate.verdicts import FieldViolation, Verdict
from falrpc_server.translate.violations import InvalidRequest, Violation


def details(status: status_pb2.Status) -> dict[str, object]:
    """The details of a status by their short names."""
    return {detail.DESCRIPTOR.name: detail for detail in unpacked_details(status)}


def answered(operation: Operation, status: int, *, stored: bool = False, **answer: object) -> FalError:
    given_ = ErrorAnswer(status, **{"request_id": "r-1", **answer})
    return FalError(operation, Failure.ANSWER, "private", answer=given_, is_stored=stored, endpoint_id="a/b")


def told(error: FalError) -> dict[str, object]:
    return details(rpc_status.status_of(verdicts.of_fal_error(error)))


# Which details


def test_a_model_error() -> None:
    """A 422 has ErrorInfo of fal's domain, one violation per item under its path, and Help."""
    url = "https://docs.fal.ai/errors#image_too_small"
    items = (
        DetailItem(("body", "loras", 0, "path"), "too small", "image_too_small", url),
        DetailItem(("body",), "", "missing", url),
    )
    found = told(answered(Operation.RUN, 422, items=items, billable_units="0"))
    info = found["ErrorInfo"]
    assert (info.reason, info.domain) == ("IMAGE_TOO_SMALL", "fal.ai")
    assert dict(info.metadata) == {
        "delivery": "FAILED",
        "endpoint_id": "a/b",
        "request_id": "r-1",
        "http_status": "422",
        "error_types": "image_too_small,missing",
        "billable_units": "0",
    }
    assert [(v.field, v.description, v.reason) for v in found["BadRequest"].field_violations] == [
        ("input.loras[0].path", "too small", "IMAGE_TOO_SMALL"),
        ("input", "missing", "MISSING"),
    ]
    assert [link.url for link in found["Help"].links] == [url]
    assert found["RequestInfo"].request_id == "r-1"
    assert "RetryInfo" not in found


@pytest.mark.parametrize(
    ("error", "present", "absent"),
    [
        pytest.param(
            FalError(Operation.RUN, Failure.UNREACHABLE, "x"), {"RetryInfo"}, set(), id="unreachable"
        ),
        pytest.param(
            FalError(Operation.RUN, Failure.INTERRUPTED, "x"), set(), {"RetryInfo"}, id="interrupted-paid"
        ),
        pytest.param(
            FalError(Operation.STATUS, Failure.INTERRUPTED, "x"), {"RetryInfo"}, set(), id="interrupted"
        ),
        pytest.param(
            answered(Operation.RUN, 403, text="Exhausted balance"),
            {"QuotaFailure", "Help"},
            {"RetryInfo"},
            id="balance",
        ),
        pytest.param(
            answered(Operation.RUN, 429, error_type="concurrent_requests_limit"),
            {"QuotaFailure", "RetryInfo"},
            set(),
            id="concurrency",
        ),
        pytest.param(
            answered(Operation.RESULT, 429, stored=True),
            {"QuotaFailure"},
            {"RetryInfo"},
            id="stored-concurrency",
        ),
        pytest.param(answered(Operation.RUN, 404), {"ResourceInfo"}, {"RetryInfo"}, id="404"),
        pytest.param(answered(Operation.RUN, 424), {"PreconditionFailure"}, set(), id="424"),
        pytest.param(
            FalError(Operation.RESULT, Failure.NOT_COMPLETED, "x"),
            {"PreconditionFailure", "RetryInfo"},
            set(),
            id="not-completed",
        ),
        pytest.param(answered(Operation.RUN, 422, text="no"), {"BadRequest"}, {"RetryInfo"}, id="422-text"),
        pytest.param(
            answered(Operation.RUN, 401, text="bad key"), set(), {"BadRequest", "RetryInfo"}, id="own-key"
        ),
        pytest.param(
            FalError(Operation.STATUS, Failure.TOO_LARGE, "x"), set(), {"RetryInfo"}, id="too-large"
        ),
    ],
)
def test_details_of_each_kind(error: FalError, present: set[str], absent: set[str]) -> None:
    """§17.6: each kind of failure carries its details, ErrorInfo always, and no RetryInfo that can't help."""
    found = set(told(error))
    assert present | {"ErrorInfo"} <= found
    assert not absent & found


def test_the_quotas_subjects() -> None:
    """QuotaFailure names what is used up."""
    limited = answered(Operation.SUBMIT, 429)
    limited.hit_queue_limit = True
    subjects = [
        told(error)["QuotaFailure"].violations[0].subject
        for error in (answered(Operation.RUN, 402), answered(Operation.RUN, 429), limited)
    ]
    assert subjects == ["account:balance", "concurrency", "queue_length"]


def test_retry_delays() -> None:
    """RetryInfo says what fal asked for, else one second."""
    for seconds, expected in ((None, 1_000), (7.5, 7_500), (0.0, 0)):
        found = told(answered(Operation.STATUS, 429, retry_after_seconds=seconds))
        assert found["RetryInfo"].retry_delay.ToMilliseconds() == expected


def test_a_missing_request_is_not_a_missing_model() -> None:
    """404 for a handle names the request, and for a call names the endpoint."""
    unknown = FalError(
        Operation.STATUS, Failure.ANSWER, "x", answer=ErrorAnswer(404), endpoint_id="a/b", request_id="r-7"
    )
    about = [told(error)["ResourceInfo"] for error in (unknown, answered(Operation.SUBMIT, 404))]
    assert [(r.resource_type, r.resource_name) for r in about] == [
        ("fal.request", "r-7"),
        ("fal.model", "a/b"),
    ]


def test_an_upload_that_is_refused_is_no_missing_request() -> None:
    """A 404 or 401 in an upload is neither a missing queue request nor our key refused by storage."""
    missing = verdicts.of_fal_error(
        FalError(
            Operation.UPLOAD_INITIATE, Failure.ANSWER, "x", answer=ErrorAnswer(404), request_id="http-id"
        )
    )
    assert missing.reason != "REQUEST_NOT_FOUND"
    unsigned = verdicts.of_fal_error(
        FalError(Operation.UPLOAD_PUT, Failure.ANSWER, "x", answer=ErrorAnswer(401))
    )
    assert unsigned.reason != "UPSTREAM_CREDENTIALS_REJECTED"


def test_fals_words_about_our_key_stay_private() -> None:
    """The text of a 401 for the gateway's own key is not shown."""
    verdict = verdicts.of_fal_error(answered(Operation.RUN, 401, text="Key 1234 of Ann"))
    assert "Ann" not in str(rpc_status.status_of(verdict))


@pytest.mark.parametrize("failure", [f for f in Failure if f not in (Failure.ANSWER, Failure.STREAM_ERROR)])
def test_the_private_cause_stays_private(failure: Failure) -> None:
    """The cause of a failure is for the log: no status shows it."""
    status = rpc_status.status_of(verdicts.of_fal_error(FalError(Operation.RUN, failure, "SECRET-CAUSE")))
    assert b"SECRET-CAUSE" not in status.SerializeToString()


@pytest.mark.parametrize(
    ("loc", "path"),
    [
        (("body", "prompt"), "input.prompt"),
        (("body", "loras", 0, "path"), "input.loras[0].path"),
        (("body",), "input"),
        ((), "input"),
        (("prompt",), "input.prompt"),
        (("body", 0), "input[0]"),
        (("body", "body"), "input.body"),
        (("query", "logs"), "query.logs"),
        (("header", "x-fal"), "header.x-fal"),
        (("body", "a\n\u202e"), 'input["a??"]'),
        (("body", "a.b", 'c"[0]', "", 1), 'input["a.b"]["c\\"[0]"][""][1]'),
    ],
)
def test_field_paths(loc: tuple[str | int, ...], path: str) -> None:
    """`loc` becomes a path under input, with list positions in brackets, odd keys quoted, nothing unprintable."""
    assert error_texts.field_path(loc) == path


# A subscription that has submitted: it was accepted and paid, whatever cuts it afterwards

READ_FAILURES = [
    FalError(Operation.STATUS, failure, "x", endpoint_id="a/b", request_id="r-1")
    for failure in Failure
    if failure not in (Failure.ANSWER, Failure.STREAM_ERROR, Failure.HOST_REFUSED)
] + [
    FalError(
        operation,
        Failure.ANSWER,
        "x",
        answer=ErrorAnswer(status, text=text),
        endpoint_id="a/b",
        request_id="r-1",
    )
    for operation, status, text in [
        (Operation.STATUS, 401, ""),
        (Operation.STATUS, 404, ""),
        (Operation.STATUS, 408, ""),
        (Operation.STATUS, 429, ""),
        (Operation.STATUS, 503, ""),
        (Operation.RESULT, 400, "Request is still in progress"),
        (Operation.RESULT, 429, ""),
    ]
]


@pytest.mark.parametrize(
    "error", READ_FAILURES, ids=lambda e: f"{e.operation.name}-{e.failure.name}-{e.http_status}"
)
def test_a_submitted_request_never_looks_unsent(error: FalError) -> None:
    """After `accepted` no failure to follow the request invites a repeat, or says that it was refused."""
    verdict = verdicts.of_fal_error(error, paid_request_accepted=True)
    assert verdict.code != code_pb2.UNAVAILABLE
    assert verdict.retry_seconds is None
    assert verdict.metadata["delivery"] in ("ACCEPTED", "UNKNOWN")
    assert verdict.metadata["request_id"] == "r-1"


def test_a_submitted_requests_own_failure_is_told() -> None:
    """What the request itself ended with is told as it is."""
    error = answered(Operation.RESULT, 422, stored=True, items=(DetailItem(type="missing", msg="m"),))
    verdict = verdicts.of_fal_error(error, paid_request_accepted=True)
    assert (verdict.code, verdict.reason) == (code_pb2.INVALID_ARGUMENT, "MISSING")
    assert verdict.metadata["delivery"] == "FAILED"


# Our own verdicts


def progress(*, paid: bool, attempts: int = 1, left: bool = False, handle: bool = False) -> CallProgress:
    return CallProgress(
        is_paid=paid,
        attempts=attempts,
        paid_bytes_may_have_left=left,
        has_handle=handle,
        endpoint_id="a/b",
        request_id="r-1" if handle else "",
    )


CUT_SHORT = [
    pytest.param(progress(paid=True, left=True, handle=True), code_pb2.UNKNOWN, "ACCEPTED", id="followed"),
    pytest.param(progress(paid=True, left=True), code_pb2.UNKNOWN, "UNKNOWN", id="paid-and-left"),
    pytest.param(progress(paid=True), code_pb2.UNAVAILABLE, "NOT_SENT", id="paid-but-not-left"),
    pytest.param(progress(paid=False), code_pb2.UNAVAILABLE, "UNKNOWN", id="read"),
    pytest.param(progress(paid=False, attempts=0), code_pb2.UNAVAILABLE, "NOT_SENT", id="nothing-sent"),
    pytest.param(progress(paid=False, handle=True), code_pb2.UNAVAILABLE, "ACCEPTED", id="attached"),
]


@pytest.mark.parametrize(("cut", "code", "delivery"), CUT_SHORT)
def test_calls_that_are_cut_short(cut: CallProgress, code: int, delivery: str) -> None:
    """A drain is UNKNOWN for paid work that may have left, else repeatable; all say what became of it."""
    drained = interruptions.of_drain(cut)
    assert (drained.code, drained.reason) == (code, "SERVER_DRAINING")
    assert (drained.retry_seconds is not None) is (code == code_pb2.UNAVAILABLE)
    stalled = interruptions.of_stalled_reader(cut)
    assert (stalled.code, stalled.reason) == (code, "READER_STALLED")
    late = interruptions.of_deadline(cut)
    assert (late.code, late.reason) == (code_pb2.DEADLINE_EXCEEDED, "CALL_DEADLINE_EXCEEDED")
    bug = interruptions.of_internal_error("c1", cut)
    assert (bug.code, bug.reason, bug.metadata["call_id"]) == (code_pb2.INTERNAL, "INTERNAL_ERROR", "c1")
    assert late.retry_seconds is bug.retry_seconds is None
    assert {v.metadata["delivery"] for v in (drained, stalled, late, bug)} == {delivery}


def test_invalid_requests() -> None:
    """All violations are details, and the message tells the first and how many more there are."""
    error = InvalidRequest([Violation("a", "is required"), Violation("b[0]", "is no X")])
    status = rpc_status.status_of(verdicts.of_invalid_request(error))
    assert status.code == code_pb2.INVALID_ARGUMENT
    assert status.message == "a: is required (+1 more)"
    found = details(status)
    assert [v.field for v in found["BadRequest"].field_violations] == ["a", "b[0]"]
    assert found["ErrorInfo"].metadata["delivery"] == "NOT_SENT"


@pytest.mark.parametrize(
    "body", [{"detail": "?sig=SECRET"}, {"detail": [{"loc": ["body", "a"], "msg": "SECRET"}]}]
)
@pytest.mark.parametrize("http_status", [400, 402, 408, 413, 422, 429, 500, 503])
@pytest.mark.parametrize("operation", [one for one in Operation if one.has_own_credential])
def test_storages_own_words_stay_here(operation: Operation, http_status: int, body: dict[str, Any]) -> None:
    """They may repeat a signed URL or a token."""
    answer = error_bodies.read(http_status, {}, json.dumps(body).encode())
    error = FalError(operation, Failure.ANSWER, "cause", answer=answer)
    assert b"SECRET" not in rpc_status.status_of(verdicts.of_fal_error(error)).SerializeToString()


# Reasons


ACCESS = Path(falrpc_server.access.__file__).parent


def our_reasons() -> set[str]:
    """Every reason with domain falrpc that the table and the verdicts can name."""
    rows = [*status_table.FAILURES.values(), *status_table.REQUEST_ERRORS.values()]
    rows += [*status_table.MODEL_ERRORS.values(), *status_table.HTTP_STATUSES.values()]
    rows += [value for value in vars(status_table).values() if isinstance(value, Row)]
    cut = progress(paid=True)
    made = [
        verdicts.of_invalid_request(InvalidRequest([Violation("a", "b")])),
        verdicts.of_upload_mismatch(UploadMismatch("a", "b")),
        verdicts.of_upload_too_large(UploadTooLarge(1, is_declared=True)),
        verdicts.of_upload_stalled(),
        interruptions.of_deadline(cut),
        interruptions.of_drain(cut),
        interruptions.of_stalled_reader(cut),
        interruptions.of_internal_error("c", cut),
    ]
    assert all(verdict.domain == "falrpc" for verdict in made)
    found = {row.reason for row in rows if row.reason} | {verdict.reason for verdict in made}
    return found | {reason for path in ACCESS.glob("*.py") for reason in refused_with(path)}


def refused_with(path: Path) -> set[str]:
    """The reasons in a source: no other texts there are of such capitals, but names of constants."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in texts - names if re.fullmatch("[A-Z]+(_[A-Z]+)+", text)}


def test_error_reason_lists_exactly_our_reasons() -> None:
    """Each reason that we name is in ErrorReason, and each of its values can be sent."""
    prefix = "ERROR_REASON_"
    listed = {name.removeprefix(prefix) for name in v1.ErrorReason.keys()} - {"UNSPECIFIED"}  # noqa: SIM118
    assert our_reasons() == listed


ANY_TEXT = st.text(max_size=400) | st.text("é漢😀\n\x7f%", min_size=200, max_size=2_000)
REASON = re.compile(r"[A-Z][A-Z0-9_]+[A-Z0-9]")


@given(st.builds(DetailItem, st.just(()), st.just("m"), ANY_TEXT), st.integers(400, 599))
def test_reasons_keep_to_the_alphabet(item: DetailItem, status: int) -> None:
    """Whatever fal calls an error, the reason is in ErrorInfo's alphabet and at most 63 characters."""
    verdict = verdicts.of_fal_error(answered(Operation.RUN, status, items=(item,)))
    assert REASON.fullmatch(verdict.reason)
    assert len(verdict.reason) <= 63


# Size

LONG = "😀" * 2_000
URL = "https://docs.fal.ai/errors#" + "😀" * 150
VERDICTS = st.builds(
    Verdict,
    code=st.integers(1, 16),
    message=ANY_TEXT,
    reason=st.just("R" * 63),
    metadata=st.fixed_dictionaries({}),
    violations=st.lists(st.builds(FieldViolation, ANY_TEXT, ANY_TEXT, st.just("X" * 63)), max_size=30),
    violations_left_out=st.integers(0, 10_000),
    retry_seconds=st.none() | st.floats(0, 86_400),
    quota=st.sampled_from(["", *(quota.value for quota in Quota)]),
    quota_text=ANY_TEXT,
    precondition=st.none() | st.tuples(st.just("R" * 63), ANY_TEXT),
    resource=st.none() | st.tuples(st.just("fal.model"), ANY_TEXT),
    request_id=ANY_TEXT,
    help_urls=st.lists(ANY_TEXT, max_size=8),
)


def assert_fits(status: status_pb2.Status) -> None:
    assert status.ByteSize() <= 4_096
    assert len(quote(status.message, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")) <= 300


@settings(max_examples=60, deadline=None)
@given(VERDICTS)
@example(
    Verdict(
        9, LONG, "R" * 63, violations=[FieldViolation(LONG, LONG)], quota=Quota.BALANCE.value, quota_text=LONG,
        precondition=("R" * 63, LONG), resource=("fal.model", LONG), request_id=LONG, help_urls=[URL] * 5,
    )
)  # fmt: skip
def test_any_verdict_fits(verdict: Verdict) -> None:
    """Whatever the texts, the serialized status keeps within 4,096 bytes and the message within 300."""
    status = rpc_status.status_of(verdict)
    assert_fits(status)
    found = details(status)
    shown = len(found["BadRequest"].field_violations) if "BadRequest" in found else 0
    left_out = len(verdict.violations) - shown + verdict.violations_left_out
    truncated = found["ErrorInfo"].metadata.get("truncated", "0")
    if verdict.violations:
        assert int(truncated.split()[0]) == left_out


@settings(max_examples=60, deadline=None)
@given(
    node_id=ANY_TEXT,
    text=ANY_TEXT,
    items=st.lists(st.builds(DetailItem, st.tuples(ANY_TEXT), ANY_TEXT, ANY_TEXT, ANY_TEXT), max_size=6).map(
        tuple
    ),
    status=st.sampled_from([400, 402, 404, 422, 424, 429, 500, 503]),
)
@example(node_id=LONG, text=LONG, items=(), status=424)
@example(
    node_id=LONG,
    text="x",
    items=tuple(DetailItem((LONG,), LONG, LONG, f"{URL}{n}") for n in range(9)),
    status=422,
)
def test_any_fal_error_fits(node_id: str, text: str, items: tuple[DetailItem, ...], status: int) -> None:
    """Whatever fal, a model or a workflow writes, the status that a caller gets fits its limits."""
    answer = ErrorAnswer(status, text=text, items=items, request_id="r" * 64, billable_units=text)
    error = FalError(
        Operation.STREAM, Failure.ANSWER, text, answer=answer, is_stored=True,
        endpoint_id="a/" + "b" * 500, node_id=node_id, app_id=node_id,
    )  # fmt: skip
    assert_fits(rpc_status.status_of(verdicts.of_fal_error(error)))


def test_what_is_left_out_is_counted() -> None:
    """Of a hundred violations as many as fit are told, the first ones, and the others are counted."""
    items = tuple(DetailItem(("body", f"field{n}"), "x" * 100, "missing") for n in range(100))
    status = rpc_status.status_of(
        verdicts.of_fal_error(answered(Operation.RUN, 422, items=items, items_left_out=7))
    )
    found = details(status)
    shown = [v.field for v in found["BadRequest"].field_violations]
    assert shown == [f"input.field{n}" for n in range(len(shown))]
    assert len(shown) > 10
    assert found["ErrorInfo"].metadata["truncated"] == f"{107 - len(shown)} field violations"
    assert status.ByteSize() > 3_500


@given(st.text(max_size=400))
def test_a_message_is_cut_on_a_character(text: str) -> None:
    """A message that fits is kept; another one is a prefix of itself and an ellipsis."""
    cut = rpc_status.cut_percent_encoded(text)
    if cut != text:
        assert cut.endswith("…")
        assert text.startswith(cut[:-1])


def test_deliveries_are_the_documented_ones() -> None:
    """`delivery` has the five values of error_reason.proto."""
    assert {d.value for d in Delivery} == {"NOT_SENT", "REJECTED", "UNKNOWN", "ACCEPTED", "FAILED"}

"""The cases leave nothing out: computed from the table, the wire reference and the contract."""

import json
import re
from pathlib import Path

import pytest
from tests.errors.cases import CONTEXTS, Case, all_cases
from tests.errors.test_pure import OPERATIONS, answer_of

from falrpc import v1
from falrpc_server.fal_http.error_bodies import Failure
from falrpc_server.translate import status_rules, status_table
from falrpc_server.translate.status_table import HTTP_STATUSES, MODEL_ERRORS, REQUEST_ERRORS, Row

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "docs/fal-http-api.md").read_text()
CASES = {case.name: case for case in all_cases()}
CASES_MIN = 120

# Reasons that are no answer of fal's, and the tests that bring them about.
ELSEWHERE = {
    "INVALID_REQUEST": "tests/service/test_run.py",
    "CALL_DEADLINE_EXCEEDED": "tests/service/test_settings.py",
    "UPSTREAM_UNREACHABLE": "tests/service/test_run.py",
    "UPLOAD_MISMATCH": "tests/service/test_upload_calls.py",
    "UPLOAD_TOO_LARGE": "tests/service/test_upload_calls.py",
    "UPLOAD_STALLED": "tests/uploads/test_parts.py",
    "SERVER_DRAINING": "tests/service/test_server.py",
    "INTERNAL_ERROR": "tests/service/test_server.py",
    "READER_STALLED": "tests/streams/test_slow_readers.py",
    "UPSTREAM_BUSY": "tests/service/test_settings.py",
    "UPSTREAM_SUSPENDED": "tests/faults/test_suspended_hosts.py",
    "CALLER_UNAUTHENTICATED": "tests/security/test_tokens_of_callers.py",
    "AUTHENTICATION_UNAVAILABLE": "tests/security/test_issuers.py",
    "METADATA_INVALID": "tests/security/test_paths.py",
    "CALLER_NOT_ALLOWED": "tests/security/test_permissions.py",
    "RPC_NOT_ALLOWED": "tests/security/test_permissions.py",
    "ENDPOINT_NOT_ALLOWED": "tests/security/test_permissions.py",
    "OPTION_NOT_ALLOWED": "tests/security/test_permitted_options.py",
    "FAL_KEY_REQUIRED": "tests/security/test_keys.py",
    "FAL_KEY_NOT_TAKEN": "tests/security/test_keys.py",
    "FAL_KEY_REJECTED": "tests/security/test_keys.py",
    "SERVER_BUSY": "tests/overload/test_limits.py",
    "TENANT_BUSY": "tests/overload/test_tenants.py",
    "TENANT_RATE": "tests/overload/test_tenants.py",
    "MEMORY_SHORT": "tests/overload/test_limits.py",
    "DEADLINE_TOO_SHORT": "tests/overload/test_tenants.py",
}
# What a finished request can't have as its outcome: these are answers to whoever reads it (§7.6), or
# never come where work is queued (§6.3).
NEVER_STORED = {"concurrent_requests_limit"}

# The rows of §17.2 to §17.4 by the beginning of their first column, and cases of each.
ROWS: dict[str, tuple[str, ...]] = {
    "400 `bad_request`": ("request-bad-request-run", "request-bad-request-stored"),
    "400, result read too early": ("result-too-early",),
    "other 400, `detail` text": ("http-400-run", "http-400-stored"),
    "401, gateway-owned key": ("http-401-run", "http-401-submit", "http-401-result"),
    "402": ("http-402-run", "http-402-stored"),
    "403 with exhausted balance": ("balance-exhausted-run", "balance-exhausted-submit"),
    "other 403": ("http-403-run", "http-403-result", "workflow-step-403"),
    "404 app, route, request id": ("http-404-run", "http-404-status", "http-404-result", "http-404-cancel"),
    "404 as a model's stored answer": ("http-404-path-stored",),
    "405": ("http-405-run",),
    "408": ("http-408-run", "http-408-status"),
    "409": ("http-409-run", "http-409-stored"),
    "413": ("http-413-run", "http-413-stored"),
    "422": ("http-422-text-run", "http-422-text-stored"),
    "424": ("http-424-run", "http-424-stored"),
    "429 `concurrent_requests_limit` or other": (
        "request-concurrent-requests-limit-run",
        "http-429-run",
        "http-429-stored",
    ),
    "429 because of `fal_max_queue_length`": ("queue-too-long-submit",),
    "499 `client_cancelled`": ("request-client-cancelled-run", "request-client-cancelled-stored"),
    "499 `client_disconnected`": (
        "request-client-disconnected-run",
        "request-client-disconnected-status",
        "request-client-disconnected-stored",
    ),
    "500 `internal_error`, `runner_server_error`, app 500": (
        "request-internal-error-hint-1-run",
        "request-internal-error-hint-1-status",
        "request-internal-error-hint-1-stored",
        "request-runner-server-error-stored",
        "http-500-hint-stored",
    ),
    "502 `runner_incomplete_response`": (
        "request-runner-incomplete-response-run",
        "request-runner-incomplete-response-status",
        "request-runner-incomplete-response-stored",
    ),
    "503 `runner_*`, GPU error": (
        "request-runner-scheduling-failure-run",
        "http-503-gpu-run",
        "http-503-gpu-stored",
    ),
    "502/503/504 edge page": ("edge-502-run", "edge-503-submit", "edge-504-status", "edge-502-result"),
    "504 with timeout type `user`": ("start-timeout-user-run", "start-timeout-user-stored"),
    "504 `request_timeout`, `generation_timeout`": (
        "request-request-timeout-run",
        "model-generation-timeout-stored",
    ),
    "504 `startup_timeout` without `user`": (
        "request-startup-timeout-run",
        "request-startup-timeout-stored",
    ),
    "other 504 with request id": ("http-504-run", "http-504-stored"),
    "501": ("http-501-run", "http-501-stored"),
    "3xx not followed": ("http-307-run",),
    "unexpected 4xx": ("http-418-run", "http-418-stored"),
    "unexpected 5xx": ("http-520-run", "http-520-hint-run", "http-520-stored", "http-520-hint-stored"),
    "2xx with unparsable JSON": ("malformed-submit", "malformed-status"),
    "reset or read timeout before a reply": ("reset-after-body-run", "close-after-body-status"),
    # §17.3
    "all value/shape checks": (
        "model-greater-than-live",
        "model-one-of-stored",
        "pydantic-1-live",
        "pydantic-2-live",
    ),
    "`content_policy_violation`": (
        "model-content-policy-violation-live",
        "model-content-policy-violation-stored",
    ),
    "`no_media_generated`": ("model-no-media-generated-live", "model-no-media-generated-stored"),
    "`file_download_error`": ("model-file-download-error-live", "model-file-download-error-stored"),
    "`feature_not_supported`": ("model-feature-not-supported-live", "model-feature-not-supported-stored"),
    "`generation_timeout`": ("model-generation-timeout-live", "model-generation-timeout-stored"),
    "`internal_server_error`": (
        "model-internal-server-error-live",
        "model-internal-server-error-hint-stored",
    ),
    "`downstream_service_unavailable`": ("model-downstream-service-unavailable-stored",),
    "`downstream_service_error`": (
        "model-downstream-service-error-live",
        "model-downstream-service-error-hint-live",
    ),
    "unknown type on 422": ("unknown-model-error-type",),
    "several items": ("several-items-with-a-decisive-one",),
    # §17.4
    "SSE ended by EOF after at least one event": ("stream-still-partial", "workflow-no-output"),
    "EOF with no event": ("stream-no-event",),
    "bad JSON in an event": ("malformed-event-stream",),
    "text-model event with non-null `error`": ("stream-error-at-the-end",),
    "workflow `error` event": ("workflow-step-422", "workflow-step-503"),
}
# Rows that are no status of ours, and why.
WITHOUT_A_CASE = {
    "cancel 400 `ALREADY_COMPLETED`": "an answer, not an error: tests/service/test_queue_calls.py",
    "401, caller's own key": "the server has one key of its own",
    "connect/TLS/DNS failure": "nothing answers: tests/service/test_run.py",
    "our own RPC deadline passed": "the call's own end: tests/service/test_settings.py",
    "our caller cancelled": "nobody is there to be told: tests/service/test_leaving.py",
    "status stream ended before `COMPLETED`": "not an error: tests/service/test_queue_calls.py",
    **dict.fromkeys(
        (
            "`x-fal-error` `TIMEOUT`",
            "`x-fal-error` `INTERNAL_ERROR`",
            "other `x-fal-error`",
            '`{"status":"error","error":"Unauthorized"}`',
            "close 1000",
            "close 1001, 1006, 1012, 1013",
            "close 1002, 1003, 1007",
            "close 1008",
            "close 1009",
            "close 1011",
        ),
        "of the realtime WebSocket, which no method uses",
    ),
}


def section(number: str) -> str:
    """The text of a section of the reference."""
    [text] = re.findall(rf"\n### {re.escape(number)} .*?(?=\n###? )", REFERENCE, re.DOTALL)
    return str(text)


def first_columns(text: str) -> list[str]:
    """The first cells of the tables in a text, without heads and rules."""
    cells = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
    return [cell for cell in cells if cell not in ("---", "Source condition", "`type`", "Condition")]


def error_type_of(case: Case) -> str:
    """fal's type of a request error."""
    return str(case.fal.get("headers", {}).get("x-fal-error-type", ""))


def item_types_of(case: Case) -> set[str]:
    """The types of a case's model errors."""
    return set(re.findall(r'"type":"([a-z_.]+)"', case.fal.get("body", "")))


def test_there_are_many() -> None:
    """There are cases, of every context, and each says where it comes from."""
    assert len(CASES) > CASES_MIN
    assert {case.context for case in CASES.values()} == set(CONTEXTS)
    assert [case.name for case in CASES.values() if not re.match(r"§\d", case.source)] == []
    assert len({case.description for case in CASES.values()}) == len(CASES)


@pytest.mark.parametrize("error_type", sorted(REQUEST_ERRORS))
def test_request_errors(error_type: str) -> None:
    """Every request error is told to a paid call, to a read, and as the outcome of a finished request."""
    found = {
        case.rpc if case.context == "live" else "stored"
        for case in CASES.values()
        if error_type_of(case) == error_type
    }
    assert {"Run", "Submit", "Status"} <= found
    assert "stored" in found or error_type in NEVER_STORED


def test_the_table_knows_every_request_error() -> None:
    """REQUEST_ERRORS has the types of §12.1, and no others."""
    types = re.findall(r"^\| `([a-z_]+)` \| \d{3} \|", section("12.1"), re.MULTILINE)
    assert sorted(types) == sorted(REQUEST_ERRORS)


def test_model_errors() -> None:
    """Every model error of §12.2 is told live and as an outcome; the table's rows are among them."""
    types = set(re.findall(r"`([a-z_]+)`", " ".join(first_columns(section("12.2")))))
    types -= {"missing", "string_type", "int_parsing", "literal_error", "json_invalid"}  # Pydantic's
    assert len(types) > 30
    assert types >= MODEL_ERRORS.keys()
    for context in ("live", "stored"):
        told = set().union(*(item_types_of(case) for case in CASES.values() if case.context == context))
        assert types - told == set(), context


@pytest.mark.parametrize("status", sorted(HTTP_STATUSES))
def test_statuses(status: int) -> None:
    """Every HTTP status of the table is told live and as an outcome, where it can be one."""
    found = {case.context for case in CASES.values() if case.fal.get("status") == status}
    assert {"live", "stored"} <= found


def test_every_row_of_the_reference() -> None:
    """Each row of §17.2 to §17.4 has its cases, or a reason for having none."""
    rows = [row for number in ("17.2", "17.3", "17.4") for row in first_columns(section(number))]
    assert len(rows) > 60
    for row in rows:
        known = [
            start
            for start in (*ROWS, *WITHOUT_A_CASE)
            if row == start or row.startswith((f"{start} ", f"{start} ("))
        ]
        assert known, f"no case for the row {row!r}"
    for start, names in ROWS.items():
        assert any(row.startswith(start) for row in rows), f"no row {start!r} in the reference"
        assert [name for name in names if name not in CASES] == []


def rows_of_the_table() -> dict[str, Row]:
    """Every row of the status table, by a name."""
    rows = {name: value for name, value in vars(status_table).items() if isinstance(value, Row)}
    for table in (status_table.FAILURES, REQUEST_ERRORS, MODEL_ERRORS, HTTP_STATUSES):
        rows |= {str(key): row for key, row in table.items()}
    return rows


def test_every_row_of_the_table() -> None:
    """Each row of the status table is reached by a case, or by the tests of our own reasons."""
    reached = {
        id(status_rules.row_of(answer_of(case)))
        for case in CASES.values()
        if case.is_answer and case.rpc in OPERATIONS and case.fal["status"] >= 300
    }
    reasons = {case.want["reason"] for case in CASES.values()} | ELSEWHERE.keys()
    missing = {
        name
        for name, row in rows_of_the_table().items()
        if id(row) not in reached and row.reason not in reasons
    }
    # Reached by uploads, whose cases name no operation of the table; and what stands for several rows.
    assert missing == set()
    assert "upload-put-403" in CASES


def test_every_failure() -> None:
    """Each way in which an exchange can fail has a row, but the two that are told by more than that."""
    assert status_table.FAILURES.keys() | {Failure.ANSWER, Failure.INTERRUPTED} == set(Failure)


@pytest.mark.parametrize("name", sorted(v1.ErrorReason.keys()))
def test_every_reason(name: str) -> None:
    """Each ErrorReason of the contract is told by a case, or by the test that ELSEWHERE names."""
    reason = name.removeprefix("ERROR_REASON_")
    if reason == "UNSPECIFIED":
        return
    told = {case.want["reason"] for case in CASES.values() if case.want["domain"] == "falrpc"}
    if reason not in told:
        assert f'"{reason}"' in (ROOT / ELSEWHERE[reason]).read_text(), reason


def test_our_reasons_are_in_the_contract() -> None:
    """With our own domain no case has a reason that the contract does not list."""
    told = {f"ERROR_REASON_{c.want['reason']}" for c in CASES.values() if c.want["domain"] == "falrpc"}
    assert told <= set(v1.ErrorReason.keys())


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES.values()])
def test_the_promises(case: Case) -> None:
    """What the codes promise holds in every case."""
    want, is_stored = case.want, case.context in ("stored", "workflow")
    assert want["code"] not in ("CANCELLED", "OK", "UNAUTHENTICATED")
    if want["code"] == "UNAVAILABLE":  # repeating it is safe: it only read, or nothing was accepted
        assert case.rpc in ("Status", "Result", "Cancel", "Upload") or want["delivery"] in (
            "NOT_SENT",
            "REJECTED",
        )
        assert not is_stored
    if is_stored:
        assert "retry_seconds" not in want
    if "retry_seconds" in want:
        assert want["code"] in ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION")
    if want["code"] == "UNKNOWN" and case.rpc in ("Run", "Submit", "Stream", "StreamWorkflow"):
        assert "retry_seconds" not in want


def test_files_are_plain() -> None:
    """Each file is JSON with the members that the README explains, and no others."""
    for path in (ROOT / "tests/cases/errors").glob("*.json"):
        members = json.loads(path.read_text())
        assert {"description", "source", "context", "rpc", "fal", "want"} <= members.keys()
        assert members.keys() <= {"description", "source", "context", "rpc", "request", "fal", "want"}

"""A failed call, explained to people and to programs. Pure."""

from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2

from falrpc_server.cli import errors


def status(*parts: Message) -> status_pb2.Status:
    packed = []
    for part in parts:
        packed.append(any_pb2.Any())
        packed[-1].Pack(part)
    return status_pb2.Status(code=3, message="input.prompt: field required (+1 more)", details=packed)


INVALID = status(
    details.ErrorInfo(
        reason="MISSING",
        domain="fal.ai",
        metadata={"delivery": "FAILED", "request_id": "r", "http_status": "422"},
    ),
    details.BadRequest(
        field_violations=[
            {"field": "input.prompt", "description": "field required", "reason": "MISSING"},
            {"field": "", "description": "too odd"},
        ]
    ),
    details.RetryInfo(retry_delay=duration_pb2.Duration(seconds=1, nanos=500_000_000)),
    details.Help(links=[{"url": "https://docs.fal.ai/errors"}]),
    details.QuotaFailure(violations=[{"subject": "account", "description": "balance"}]),
    details.ResourceInfo(resource_type="fal.model", resource_name="a/b", description="no"),
    details.DebugInfo(detail="of a type that is not shown"),
)


def test_lines() -> None:
    """A person reads code, message, reason, delivery, each violation, ids, retry hint and links."""
    assert errors.failure_lines(errors.read_status("INVALID_ARGUMENT", INVALID)) == [
        "error: INVALID_ARGUMENT: input.prompt: field required (+1 more)",
        "  reason: MISSING (fal.ai)",
        "  delivery: FAILED",
        "  field input.prompt: field required [MISSING]",
        "  field (the input): too odd",
        "  quota account: balance",
        "  fal.model a/b: no",
        "  http_status: 422",
        "  request_id: r",
        "  retry: after 1.5 s",
        "  see: https://docs.fal.ai/errors",
    ]


def test_value() -> None:
    """A program reads the same under fixed names."""
    value = errors.failure_value(errors.read_status("INVALID_ARGUMENT", INVALID))["error"]
    assert value["code"] == "INVALID_ARGUMENT"
    assert (value["reason"], value["domain"], value["delivery"]) == ("MISSING", "fal.ai", "FAILED")
    assert value["metadata"]["request_id"] == "r"
    assert value["violations"][0] == {
        "field": "input.prompt",
        "description": "field required",
        "reason": "MISSING",
    }
    assert value["retry_after_seconds"] == 1.5


def test_promise_needs_error_info() -> None:
    """What a code promises is said only when the status carries the service's ErrorInfo."""
    info = details.ErrorInfo(reason="OUTCOME_UNKNOWN", domain="falrpc", metadata={"delivery": "UNKNOWN"})
    assert "don't repeat it" in errors.failure_lines(errors.read_status("UNKNOWN", status(info)))[-1]
    assert not errors.read_status("UNKNOWN", status()).promise


def test_request_info_gives_the_id() -> None:
    """The request's id is shown when only RequestInfo has it."""
    failure = errors.read_status("UNKNOWN", status(details.RequestInfo(request_id="r")))
    assert "  request_id: r" in errors.failure_lines(failure)


def test_no_terminal_control() -> None:
    """An error text can't steer the terminal."""
    assert "\x1b" not in "".join(errors.failure_lines(errors.Failure("\x1b[2J", "INTERNAL")))


def test_exit_codes() -> None:
    """The exit codes are those that --help names."""
    codes = {
        code: errors.exit_code(errors.Failure("m", code)) for code in ("INVALID_ARGUMENT", "UNAVAILABLE")
    }
    assert codes == {"INVALID_ARGUMENT": 2, "UNAVAILABLE": 3}
    assert errors.exit_code(errors.Failure("m", "DEADLINE_EXCEEDED")) == 4
    assert errors.exit_code(errors.Failure("m", "INTERNAL")) == 1
    assert errors.exit_code(errors.Failure("no call was made")) == 1

"""A failed call, explained: what google.rpc says about it, and the exit code."""

import sys
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from falrpc_server.cli import printing

__all__ = [
    "Failure",
    "Violation",
    "exit_code",
    "failure_lines",
    "failure_value",
    "print_failure",
    "read_failure",
]

_EXIT_CODES = {"OK": 0, "INVALID_ARGUMENT": 2, "UNAVAILABLE": 3, "DEADLINE_EXCEEDED": 4}

# What the codes promise when our ErrorInfo is there (fal_service.proto, FalService).
_PROMISES = {
    "UNAVAILABLE": "nothing was accepted, or the call only read: repeat it",
    "ABORTED": "the work ended and failed for a passing reason: submit again if you want it",
    "UNKNOWN": "the work may be running or paid: don't repeat it, look at the request",
}


_NO_CONNECTION = (
    "failed to connect",
    "connections to all backends failing",
    "errors resolving",
    "DNS resolution failed",
)


@dataclass(frozen=True)
class Violation:
    """One google.rpc.BadRequest.FieldViolation."""

    field: str
    description: str
    reason: str = ""


@dataclass(frozen=True)
class Failure:
    """What is known about a failed call. An empty `code` means that no call was made."""

    message: str
    code: str = ""
    reason: str = ""
    domain: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    violations: tuple[Violation, ...] = ()
    others: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    retry_after_seconds: float | None = None

    @property
    def promise(self) -> str:
        """What the caller may do next; empty when nothing is promised."""
        return _PROMISES.get(self.code, "") if self.reason else ""


def read_failure(call: grpc.Call, address: str) -> Failure:
    """Reads the status of a failed call to the service at `address`. An RpcError of a stub is a Call too."""
    code, message = call.code().name, call.details() or ""
    try:
        status = rpc_status.from_call(call)
    except ValueError:  # a proxy changed the code or the message: what is left promises nothing
        status = None
    if status:
        return read_status(code, status)
    if code == "UNAVAILABLE":
        message = _explain_unavailable(message, address)
    return Failure(message=message, code=code)


def read_status(code: str, status: status_pb2.Status) -> Failure:
    """Reads a google.rpc.Status. Details of types that are not known here are left out."""
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    retry, help_ = error_details_pb2.RetryInfo(), error_details_pb2.Help()
    quota, condition = error_details_pb2.QuotaFailure(), error_details_pb2.PreconditionFailure()
    resource, request = error_details_pb2.ResourceInfo(), error_details_pb2.RequestInfo()
    has_retry = False
    for detail in status.details:
        for kind in (info, bad_request, help_, quota, condition, resource, request):
            detail.Unpack(kind)
        has_retry |= detail.Unpack(retry)
    metadata = dict(info.metadata)
    if request.request_id:
        metadata.setdefault("request_id", request.request_id)
    others = [f"quota {v.subject}: {v.description}" for v in quota.violations]
    others += [f"{v.type} {v.subject}: {v.description}" for v in condition.violations]
    if resource.resource_type:
        others.append(f"{resource.resource_type} {resource.resource_name}: {resource.description}")
    return Failure(
        message=status.message,
        code=code,
        reason=info.reason,
        domain=info.domain,
        metadata=metadata,
        violations=tuple(Violation(v.field, v.description, v.reason) for v in bad_request.field_violations),
        others=tuple(others),
        links=tuple(link.url for link in help_.links),
        retry_after_seconds=retry.retry_delay.ToTimedelta().total_seconds() if has_retry else None,
    )


def failure_lines(failure: Failure) -> list[str]:
    """The failure for a person."""
    lines = [f"error: {failure.code}: {failure.message}" if failure.code else f"error: {failure.message}"]
    metadata = dict(failure.metadata)
    if failure.reason:
        delivery = metadata.pop("delivery", "")
        lines.append(f"  reason: {failure.reason} ({failure.domain})")
        lines += [f"  delivery: {delivery}"] if delivery else []
    for violation in failure.violations:
        reason = f" [{violation.reason}]" if violation.reason else ""
        lines.append(f"  field {violation.field or '(the input)'}: {violation.description}{reason}")
    lines += [f"  {text}" for text in failure.others]
    lines += [f"  {key}: {value}" for key, value in sorted(metadata.items())]
    if failure.retry_after_seconds is not None:
        lines.append(f"  retry: after {failure.retry_after_seconds:g} s")
    if failure.promise:
        lines.append(f"  meaning: {failure.promise}")
    lines += [f"  see: {url}" for url in failure.links]
    return [printing.plain(line) for line in lines]


def failure_value(failure: Failure) -> dict[str, Any]:
    """The failure for a program."""
    value: dict[str, Any] = {"code": failure.code, "message": failure.message}
    value |= {"reason": failure.reason, "domain": failure.domain}
    value |= {"delivery": failure.metadata.get("delivery", ""), "metadata": failure.metadata}
    value["violations"] = [
        {"field": v.field, "description": v.description, "reason": v.reason} for v in failure.violations
    ]
    value["retry_after_seconds"] = failure.retry_after_seconds
    value |= {"others": failure.others, "links": failure.links}
    return {
        "error": {key: content for key, content in value.items() if content not in ("", (), [], {}, None)}
    }


def print_failure(failure: Failure, *, as_json: bool) -> None:
    """To standard error for a person, to standard output for a program."""
    if as_json:
        print(printing.json_line(failure_value(failure)), flush=True)
    else:
        print("\n".join(failure_lines(failure)), file=sys.stderr, flush=True)


def exit_code(failure: Failure) -> int:
    """See options.EXIT_CODES."""
    return _EXIT_CODES.get(failure.code, 1)


def _explain_unavailable(message: str, address: str) -> str:
    # grpc says these words when it had no connection to send the call on; there is no code for it.
    if message.startswith(_NO_CONNECTION):
        return (
            f"no falrpc service answers at {address}: start one with `falrpc serve`, "
            f"or name another with --address ({message})"
        )
    return f"the connection to {address} broke; whether the work was accepted is not known ({message})"

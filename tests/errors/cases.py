"""The cases of tests/cases/errors: what fal answers, and what a caller is told (see the README there)."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details_pb2
from tests.failures import Failure

FOLDER = Path(__file__).parents[1] / "cases" / "errors"
REQUEST_ID = "7d1c2c0e-6a0b-4f6e-9b0e-0c6d0b1f2a11"
"""fal's id in all cases. Where an id is fal's own choice it is replaced by this one."""
CONTEXTS = ("live", "stored", "stream", "workflow", "upload")


@dataclass(frozen=True, slots=True)
class Case:
    """One case; its attributes are the members of its file."""

    name: str
    description: str
    source: str
    context: str
    rpc: str
    fal: dict[str, Any]
    want: dict[str, Any]
    request: dict[str, Any]

    @property
    def is_answer(self) -> bool:
        """Whether fal gives one whole HTTP answer, and nothing happens to the connection."""
        return "act" not in self.fal and "events" not in self.fal


@functools.cache
def all_cases() -> tuple[Case, ...]:
    """Every case, by name."""
    return tuple(
        Case(path.stem, **{"request": {}, **json.loads(path.read_text())})
        for path in sorted(FOLDER.glob("*.json"))
    )


def told(failure: Failure, request_id: str = REQUEST_ID) -> dict[str, Any]:
    """What a failed call told, in the form of a case's `want`.

    Args:
        failure: The status and its details.
        request_id: fal's id for the request, which is replaced by REQUEST_ID.
    """
    info = failure.info
    metadata = {name: value.replace(request_id, REQUEST_ID) for name, value in info.metadata.items()}
    told: dict[str, Any] = {
        "code": failure.code,
        "message": failure.message,
        "reason": info.reason,
        "domain": info.domain,
        "delivery": metadata.pop("delivery"),
    }
    if "truncated" in metadata:
        told["truncated"] = bool(metadata.pop("truncated"))
    for detail in failure.details:
        told |= _of_detail(detail, request_id)
    metadata.pop("endpoint_id", None)  # the same in all calls
    assert ("request_info" in told) == ("request_id" in metadata)
    metadata.pop("request_id", None)
    if metadata:
        told["metadata"] = metadata
    return told


def wanted(case: Case, told: dict[str, Any]) -> dict[str, Any]:
    """What `told` must equal. What a case leaves open is taken from `told`.

    That is a message that is cut (null), and which violations had room when not all had.
    """
    want = dict(case.want)
    if want["message"] is None:
        want["message"] = told["message"]
    if want.get("truncated") and told.get("violations"):
        want["violations"] = told["violations"]
    return want


def _of_detail(detail: Message, request_id: str) -> dict[str, Any]:
    match detail:
        case details_pb2.ErrorInfo():
            return {}
        case details_pb2.RequestInfo():
            assert detail.request_id == request_id
            return {"request_info": True}
        case details_pb2.BadRequest():
            return {
                "violations": [
                    {
                        name: getattr(violation, name)
                        for name in ("field", "description", "reason")
                        if getattr(violation, name)
                    }
                    for violation in detail.field_violations
                ]
            }
        case details_pb2.RetryInfo():
            return {"retry_seconds": detail.retry_delay.ToMilliseconds() / 1000}
        case details_pb2.QuotaFailure():
            [quota] = detail.violations
            assert quota.description
            return {"quota": quota.subject}
        case details_pb2.PreconditionFailure():
            [precondition] = detail.violations
            assert precondition.subject
            assert precondition.description
            return {"precondition": precondition.type}
        case details_pb2.ResourceInfo():
            name = detail.resource_name.replace(request_id, REQUEST_ID)
            return {"resource": {"type": detail.resource_type, "name": name}}
        case details_pb2.Help():
            return {"help": [link.url for link in detail.links]}
    raise AssertionError(f"a detail that no case knows: {detail.DESCRIPTOR.name}")

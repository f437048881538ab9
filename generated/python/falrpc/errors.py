"""What a failed call tells. docs/errors.md lists codes, reasons and what they promise."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

__all__ = ["field_violations", "metadata", "reason", "retry_after", "safe_to_repeat"]

_Detail = TypeVar("_Detail", bound=Message)


def safe_to_repeat(error: grpc.RpcError) -> bool:
    """Whether the same call may be made again: nothing of it was accepted, or it only read.

    Only falrpc's own word counts: a status that a proxy or a library made promises nothing.
    """
    return _call(error).code() == grpc.StatusCode.UNAVAILABLE and reason(error) != ""


def reason(error: grpc.RpcError) -> str:
    """The reason as docs/errors.md lists it, empty when the status is not falrpc's."""
    return str(_info(error).reason)


def metadata(error: grpc.RpcError) -> Mapping[str, str]:
    """What falrpc tells besides: delivery, request_id, http_status and others."""
    return dict(_info(error).metadata)


def retry_after(error: grpc.RpcError) -> timedelta | None:
    """How long to wait before the same call may succeed; None when nothing is known of that."""
    info = _detail(error, error_details_pb2.RetryInfo)
    return timedelta(microseconds=info.retry_delay.ToMicroseconds()) if info.HasField("retry_delay") else None


def field_violations(error: grpc.RpcError) -> Sequence[Any]:
    """The refused fields, each a google.rpc.BadRequest.FieldViolation, with fal's own paths below `input`."""
    return list(_detail(error, error_details_pb2.BadRequest).field_violations)


def _info(error: grpc.RpcError) -> Any:
    """falrpc's own ErrorInfo: what it decided, or what fal said. Another service's promises nothing."""
    info = _detail(error, error_details_pb2.ErrorInfo)
    return info if info.domain in ("falrpc", "fal.ai") else error_details_pb2.ErrorInfo()


def _detail(error: grpc.RpcError, kind: type[_Detail]) -> _Detail:
    """The detail of a type; an empty one when there is none, or when it can't be read."""
    found = kind()
    for key, value in _call(error).trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            try:
                status = status_pb2.Status.FromString(value)
                any(detail.Unpack(found) for detail in status.details)
            except DecodeError:
                return kind()
    return found


def _call(error: grpc.RpcError) -> Any:
    """The error of a call has the methods of grpc.Call, which RpcError doesn't declare."""
    return error

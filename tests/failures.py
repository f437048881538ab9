"""What a failed call told: the status and its details, unpacked."""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from tests import canary

from falrpc import v1

DETAILS = {
    kind.DESCRIPTOR.full_name: kind
    for kind in (
        error_details_pb2.ErrorInfo,
        error_details_pb2.BadRequest,
        error_details_pb2.RetryInfo,
        error_details_pb2.QuotaFailure,
        error_details_pb2.PreconditionFailure,
        error_details_pb2.ResourceInfo,
        error_details_pb2.RequestInfo,
        error_details_pb2.Help,
    )
}
"""The types of details that a status may have, by name: no others are sent."""

T = TypeVar("T")
D = TypeVar("D", bound=Message)


@dataclass(frozen=True)
class Failure:
    """How a call failed."""

    code: str
    message: str
    details: list[Any]

    def find(self, kind: type[D]) -> D | None:
        """The detail of a type."""
        return next((detail for detail in self.details if isinstance(detail, kind)), None)

    @property
    def info(self) -> Any:
        """google.rpc.ErrorInfo, which every failure has."""
        info = self.find(error_details_pb2.ErrorInfo)
        assert info is not None, "no ErrorInfo"
        return info

    @property
    def delivery(self) -> str:
        return str(self.info.metadata["delivery"])

    @property
    def fields(self) -> list[str]:
        """The violated fields."""
        bad = self.find(error_details_pb2.BadRequest)
        return [violation.field for violation in bad.field_violations] if bad else []


async def failure_of(call: Awaitable[Any]) -> Failure:
    """Awaits a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return unpacked(caught.value)


async def failure_of_upload(
    address: str, messages: AsyncIterable[Any] | Iterable[Any], **call: Any
) -> Failure:
    """Sends messages to Upload, which must fail.

    The client is a thread: the asyncio one loses the status when it is told while it writes (grpc/grpc#36066).
    """
    sent = [one async for one in messages] if isinstance(messages, AsyncIterable) else messages

    def upload() -> Failure:
        with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
            v1.FalServiceStub(channel).Upload(iter(sent), **{"timeout": 60} | call)
        return unpacked(caught.value)  # type: ignore[arg-type] # it has the same methods

    return await asyncio.to_thread(upload)


async def ended(call: Any) -> str:
    """Waits for a call, unary or a stream, that must succeed. Returns its code."""
    if hasattr(call, "__aiter__"):
        async for _ in call:
            pass
    else:
        await call
    return str((await call.code()).name)


async def messages_and_failure(call: AsyncIterable[T]) -> tuple[list[T], Failure]:
    """Reads a stream that must fail; returns what came before."""
    messages: list[T] = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for message in call:
            messages.append(message)  # a comprehension would lose them
    return messages, unpacked(caught.value)


def unpacked(error: grpc.aio.AioRpcError) -> Failure:
    """The failure that grpc reports, with our details."""
    details: list[Any] = []
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(value)
            assert status.code == error.code().value[0]
            assert status.message == error.details()
            details += unpacked_details(status)
    canary.heard("a status", f"{error.details()} {details}")
    return Failure(error.code().name, error.details() or "", details)


def unpacked_details(status: status_pb2.Status) -> list[Any]:
    """The details of a status."""
    return [DETAILS[packed.TypeName()].FromString(packed.value) for packed in status.details]

"""A history of calls: what the clients were told, beside what the gateway logged and what fal received.

What must be true of every history, whatever went wrong in it, is in invariants.py; `History.check` asks
for all of it.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from tests.failures import unpacked
from tests.faults import invariants

from falrpc import v1

__all__ = ["History", "Told", "body_sha256"]

FINISH_SECONDS_MAX = 20  # for log lines that follow the status at once, or never come


@dataclass(eq=False)
class Told:
    """One call as its client saw it.

    Attributes:
        method: The method's name, for instance `Run`.
        body_sha256: Of the input of a paid call, empty for others.
        started, ended: Unix seconds; ended is 0.0 while the call is open.
        timeout_seconds: The client's deadline, None for none.
        code: The status code's name, empty while the call is open.
        reason, delivery: Of our ErrorInfo; empty when there is none.
        request_ids: Every id of fal's that reached the client: in messages, trailers and error details.
        messages: A stream's messages, or the one response.
        was_cancelled: Whether the test itself cancelled the call.
        has_error_info, has_retry_info: Whether the status had these details.
        status_text: All that the status said, trailers included.
    """

    method: str
    body_sha256: str = ""
    started: float = 0.0
    ended: float = 0.0
    timeout_seconds: float | None = None
    code: str = ""
    reason: str = ""
    delivery: str = ""
    request_ids: set[str] = field(default_factory=set)
    messages: list[Any] = field(default_factory=list)
    was_cancelled: bool = False
    has_error_info: bool = False
    has_retry_info: bool = False
    status_text: str = ""

    @property
    def is_paid(self) -> bool:
        """Whether the call asked for work that costs money."""
        return bool(self.body_sha256)

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.started

    @property
    def was_ended_by_its_client(self) -> bool:
        """Whether the client cancelled it, or the client's own deadline ended it before our status came."""
        is_own_deadline = self.code == "DEADLINE_EXCEEDED" and not self.has_error_info
        return self.was_cancelled or is_own_deadline


class History:
    """The calls of a test, and what must be true of them."""

    def __init__(self) -> None:
        self.calls: list[Told] = []

    def begin(self, method: str, request: Any, timeout_seconds: float | None = None) -> Told:
        """Notes a call that begins. The input of a paid call must be unique: it is how its POST is found."""
        told = Told(method, body_sha256(request), time.time(), timeout_seconds=timeout_seconds)
        self.calls.append(told)
        return told

    def message(self, told: Told, message: Any) -> None:
        """Notes a message and the ids in it."""
        told.messages.append(message)
        told.request_ids |= _ids_in(message)

    def ended(self, told: Told, error: BaseException | None = None) -> None:
        """Notes how a call ended: None for OK, or what awaiting it raised."""
        told.ended = time.time()
        if error is None:
            told.code = "OK"
        elif isinstance(error, asyncio.CancelledError):
            told.code, told.was_cancelled = "CANCELLED", True
        elif isinstance(error, grpc.aio.AioRpcError):
            self._failed(told, error)
        else:
            raise error

    async def call(self, stub: Any, method: str, request: Any, timeout_seconds: float | None = None) -> Told:
        """Makes the whole call. A status is noted, never raised."""
        told = self.begin(method, request, timeout_seconds)
        call = getattr(stub, method)(request, timeout=timeout_seconds)
        try:
            if isinstance(call, grpc.aio.UnaryStreamCall):
                async for message in call:
                    self.message(told, message)
            else:
                self.message(told, await call)
            told.request_ids |= _trailer_ids(await call.trailing_metadata())
        except grpc.aio.AioRpcError as error:
            self.ended(told, error)
        except asyncio.CancelledError as error:
            call.cancel()
            self.ended(told, error)
            task = asyncio.current_task()
            if task and task.cancelling():
                raise
        else:
            self.ended(told)
        return told

    async def finished(self, logged: Callable[[str], list[dict[str, Any]]]) -> None:
        """Waits until each call has its call.finished line: it follows the status.

        Args:
            logged: Gives the log lines of an event, like Running.logged.
        """
        until = time.monotonic() + FINISH_SECONDS_MAX
        while len(logged("call.finished")) < len(self.calls) and time.monotonic() < until:
            await asyncio.sleep(0.005)

    def check(self, log: list[dict[str, Any]], evidence: list[dict[str, Any]], *, died: bool = False) -> None:
        """Raises AssertionError with a sentence for each thing that must be true and is not.

        Args:
            log: The gateway's log lines.
            evidence: What the emulator received since the history began.
            died: Whether the gateway was killed, so that calls and log lines may lack their ends.
        """
        broken = invariants.broken(self.calls, log, evidence, died=died)
        assert not broken, "\n".join(["the history is broken:", *broken])

    @staticmethod
    def _failed(told: Told, error: grpc.aio.AioRpcError) -> None:
        failure = unpacked(error)
        trailers = error.trailing_metadata() or ()
        told.code = failure.code
        told.status_text = "\n".join([failure.message, repr(tuple(trailers)), *map(str, failure.details)])
        told.request_ids |= _trailer_ids(trailers)
        told.has_retry_info = failure.find(error_details_pb2.RetryInfo) is not None
        if info := failure.find(error_details_pb2.ErrorInfo):
            told.has_error_info = True
            told.reason, told.delivery = info.reason, info.metadata["delivery"]
            told.request_ids |= {info.metadata["request_id"]} - {""}
        if about := failure.find(error_details_pb2.RequestInfo):
            told.request_ids.add(about.request_id)


def body_sha256(request: Any) -> str:
    """Of the body that a paid call sends to fal, which is its input byte for byte; empty for other calls."""
    if isinstance(request, v1.SubscribeRequest):
        return body_sha256(request.submit) if request.WhichOneof("target") == "submit" else ""
    if not hasattr(request, "input"):
        return ""
    kind = request.input.WhichOneof("value")
    assert kind != "object", "give the input as JSON text: it is what reaches fal unchanged"
    return hashlib.sha256((request.input.json if kind else "{}").encode()).hexdigest()


def _ids_in(message: Any) -> set[str]:
    """The ids of the call's own request. Those of a workflow's steps are part of its events."""
    kind = message.WhichOneof("kind") if "kind" in message.DESCRIPTOR.oneofs_by_name else None
    part = getattr(message, kind) if kind else message
    if not isinstance(part, Message) or isinstance(part, v1.WorkflowSubmit):
        return set()
    found = set()
    for name in {"request_id", "handle", "call"}.intersection(part.DESCRIPTOR.fields_by_name):
        value = getattr(part, name)
        found.add(value if isinstance(value, str) else value.request_id)
    return found - {""}


def _trailer_ids(trailers: Any) -> set[str]:
    return {str(value) for name, value in trailers or () if name == "x-fal-request-id" and value}

"""The methods of FalService as data: what each is asked, and which of fal's operations that calls."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.conftest import running_gateway
from tests.service.test_queue_calls import waiting

from falrpc import v1

__all__ = ["RPCS", "Rpc", "prepared"]

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Rpc:
    """One way of calling fal.

    Attributes:
        name: The method's name; with `, attached` behind it for Subscribe on a handle.
        operations: The emulator's operations that it calls, the first one first.
        is_paid: Whether its first exchange costs money.
        handle_of: The endpoint whose queue request it is about; empty when it makes its own.
        make: Makes a request of it, from that request's handle. Inputs are never the same twice.
    """

    name: str
    operations: tuple[str, ...]
    is_paid: bool
    make: Callable[[v1.RequestHandle], Any]
    handle_of: str = ""

    @property
    def method(self) -> str:
        """The method's name."""
        return self.name.partition(",")[0]

    @property
    def follows(self) -> bool:
        """Whether it follows a queue request by looking at it again and again."""
        return self.operations[0] == "status_stream"


def unique() -> str:
    """A text that was not given before."""
    return f"call {next(_numbers)}"


def _run(_: v1.RequestHandle) -> v1.RunRequest:
    return v1.RunRequest(endpoint_id="emulator/echo", input=v1.Input(json=f'{{"id":"{unique()}"}}'))


def _submit(_: v1.RequestHandle) -> v1.SubmitRequest:
    return v1.SubmitRequest(endpoint_id="emulator/echo", input=v1.Input(json=f'{{"id":"{unique()}"}}'))


def _stream(_: v1.RequestHandle) -> v1.StreamRequest:
    events = f'{{"n":0}},{{"n":1}},{{"n":2,"id":"{unique()}"}}'
    return v1.StreamRequest(endpoint_id="emulator/events", input=v1.Input(json=f'{{"events":[{events}]}}'))


def _stream_workflow(_: v1.RequestHandle) -> v1.StreamWorkflowRequest:
    events = f'{{"n":0}},{{"type":"output","output":{{"id":"{unique()}"}}}}'
    asked = v1.Input(json=f'{{"events":[{events}],"end":"clean"}}')
    return v1.StreamWorkflowRequest(endpoint_id="workflows/emulator/replay", input=asked)


RPCS = (
    Rpc("Run", ("run",), True, _run),
    Rpc("Submit", ("submit",), True, _submit),
    Rpc("Stream", ("stream",), True, _stream),
    Rpc("StreamWorkflow", ("stream",), True, _stream_workflow),
    Rpc("Subscribe", ("submit",), True, lambda _: v1.SubscribeRequest(submit=_submit(_))),
    Rpc("Status", ("status",), False, lambda handle: v1.StatusRequest(handle=handle), "emulator/echo"),
    Rpc("Result", ("result",), False, lambda handle: v1.ResultRequest(handle=handle), "emulator/echo"),
    Rpc("Cancel", ("cancel",), False, lambda handle: v1.CancelRequest(handle=handle), "emulator/stubborn"),
    Rpc(
        "StreamStatus",
        ("status_stream", "status"),
        False,
        lambda handle: v1.StreamStatusRequest(handle=handle),
        "emulator/echo",
    ),
    Rpc(
        "Subscribe, attached",
        ("status_stream", "status"),
        False,
        lambda handle: v1.SubscribeRequest(attach=handle),
        "emulator/echo",
    ),
)


async def prepared(rpc: Rpc, emulator_url: str) -> Any:
    """The request of a call. What it is about is made through a gateway that has no faults to fear."""
    if not rpc.handle_of:
        return rpc.make(v1.RequestHandle())
    text = f'{{"id":"{unique()}","seconds":20}}'
    async with running_gateway(emulator_url=emulator_url) as healthy:
        asked = v1.SubmitRequest(endpoint_id=rpc.handle_of, input=v1.Input(json=text))
        handle = (await healthy.stub.Submit(asked)).handle
        if rpc.handle_of == "emulator/echo":
            await healthy.stub.Result(waiting(handle))
    return rpc.make(handle)

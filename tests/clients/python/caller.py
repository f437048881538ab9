"""Makes calls of falrpc through the Python helper as it is told: one JSON object a line in, one out.

What the lines hold is in tests/clients/README.md.
"""

import io
import json
import os
import sys
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # noqa: F401 # the types of details

import falrpc
from falrpc import v1

SERVICE = v1.fal_service_pb2.DESCRIPTOR.services_by_name["FalService"]


class OddReads(io.RawIOBase):
    """A file of zero bytes that gives fewer than it is asked for."""

    def __init__(self, size: int) -> None:
        self._left = size

    def read(self, size: int = -1) -> bytes:
        taken = min(self._left, 100_003, size)
        self._left -= taken
        return bytes(taken)


def call(stub: v1.FalServiceStub, asked: dict[str, Any]) -> dict[str, Any]:
    """Makes one call and tells what came."""
    messages: list[Message] = []
    told: dict[str, Any] = {"code": "OK"}
    try:
        receive(stub, asked, messages)
    except grpc.RpcError as error:
        told = failure(error)
    outputs = [read for message in messages for read in outputs_of(message)]
    return told | {"messages": [plain(message) for message in messages], "outputs": outputs}


def receive(stub: v1.FalServiceStub, asked: dict[str, Any], messages: list[Message]) -> None:
    timeout = asked["timeout_seconds"]
    if asked["method"] == "UploadFile":
        header = json_format.ParseDict(asked["requests"][0], v1.UploadHeader())
        messages.append(falrpc.upload(stub, header, OddReads(asked["bytes"]), timeout=timeout))
        return
    method = SERVICE.methods_by_name[asked["method"]]
    kind = getattr(v1, method.input_type.name)
    requests = [json_format.ParseDict(request, kind()) for request in asked["requests"]]
    started = getattr(stub, method.name)(
        iter(requests) if method.client_streaming else requests[0], timeout=timeout
    )
    if not method.server_streaming:
        messages.append(started)
        return
    for message in started:
        messages.append(message)
        if len(messages) == asked.get("leave_after"):
            started.cancel()


def failure(error: grpc.RpcError) -> dict[str, Any]:
    """What the helper reads from an error, and its details as they are."""
    wait = falrpc.retry_after(error)
    packed = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    return {
        "code": error.code().name,
        "message": error.details(),
        "reason": falrpc.reason(error),
        "metadata": falrpc.metadata(error),
        "violations": [
            {"field": one.field, "description": one.description, "reason": one.reason}
            for one in falrpc.field_violations(error)
        ],
        "retry_seconds": None if wait is None else wait.total_seconds(),
        "safe_to_repeat": falrpc.safe_to_repeat(error),
        "details": [plain(detail) for detail in status_pb2.Status.FromString(packed).details],
    }


def outputs_of(message: Message) -> list[str | None]:
    """The message's output, read into a value and written again; None when it can't be."""
    carrier = message
    if "kind" in message.DESCRIPTOR.oneofs_by_name:
        carrier = getattr(message, message.WhichOneof("kind"))
    output = carrier if isinstance(carrier, v1.Output) else getattr(carrier, "output", None)
    if not isinstance(output, v1.Output):
        return []
    try:
        return [falrpc.input(falrpc.decode(output)).json]
    except ValueError:
        return [None]


def plain(message: Message) -> Any:
    return json_format.MessageToDict(message)


def main() -> None:
    with falrpc.channel(os.environ["FALRPC_ADDRESS"], token=os.environ.get("FALRPC_TOKEN", "")) as channel:
        stub = v1.FalServiceStub(channel)
        for line in sys.stdin:
            print(json.dumps(call(stub, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()

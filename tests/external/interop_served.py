"""A program: the gateway as `falrpc serve` runs it, with grpc.testing.TestService behind its interceptors.

The messages are those of the description of gRPC's interoperability tests, as far as its cases use them:
made here from the numbers of their fields.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from falrpc_server import app
from falrpc_server.access import policy
from falrpc_server.cli import main
from falrpc_server.interceptors.call import Call

SERVICE = "grpc.testing.TestService"
NUMBER, BYTES, TEXT = "TYPE_INT32", "TYPE_BYTES", "TYPE_STRING"  # an enum travels as a number does
MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Empty": {},
    "Payload": {"type": (1, NUMBER), "body": (2, BYTES)},
    "EchoStatus": {"code": (1, NUMBER), "message": (2, TEXT)},
    "SimpleRequest": {"response_size": (2, NUMBER), "payload": (3, "Payload"), "status": (7, "EchoStatus")},
    "SimpleResponse": {"payload": (1, "Payload"), "server_id": (4, TEXT)},
    "StreamingInputCallRequest": {"payload": (1, "Payload")},
    "StreamingInputCallResponse": {"aggregated_payload_size": (1, NUMBER)},
    "ResponseParameters": {"size": (1, NUMBER), "interval_us": (2, NUMBER)},
    "StreamingOutputCallRequest": {
        "response_parameters": (2, "ResponseParameters"),
        "payload": (3, "Payload"),
        "status": (7, "EchoStatus"),
    },
    "StreamingOutputCallResponse": {"payload": (1, "Payload")},
}
REPEATED = {"response_parameters"}
ECHOED_FIRST, ECHOED_LAST = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"


def make_messages() -> dict[str, Any]:
    """The classes of the messages."""
    file = descriptor_pb2.FileDescriptorProto(name="interop", package="grpc.testing", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            field = message.field.add(name=field_name, number=number)
            field.label = field.LABEL_REPEATED if field_name in REPEATED else field.LABEL_OPTIONAL
            if kind in MESSAGES:
                field.type, field.type_name = field.TYPE_MESSAGE, f".grpc.testing.{kind}"
            else:
                field.type = field.Type.Value(kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    find = pool.FindMessageTypeByName
    return {name: message_factory.GetMessageClass(find(f"grpc.testing.{name}")) for name in MESSAGES}


TYPES = make_messages()


class Echoing:
    """grpc's side of a call, with initial metadata to be sent whenever the call sends its own."""

    def __init__(self, context: Any, metadata: Any) -> None:
        self._context = context
        self._metadata = metadata

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def send_initial_metadata(self, _: Any) -> None:
        await self._context.send_initial_metadata(self._metadata)


def echo_metadata(call: Call) -> None:
    """Sends what the caller wants to see again."""
    given = dict(call.context.invocation_metadata() or ())
    first = [(key, given[key]) for key in (ECHOED_FIRST,) if key in given]
    call.context = Echoing(call.context, first)  # type: ignore[assignment]
    call.context.set_trailing_metadata([(key, given[key]) for key in (ECHOED_LAST,) if key in given])


def payload(size: int) -> Any:
    return TYPES["Payload"](body=bytes(size))


def is_ended(call: Call, request: Any) -> bool:
    """Whether the caller wants a status; the call has it then."""
    if request.status.code:
        call.context.set_code(next(code for code in grpc.StatusCode if code.value[0] == request.status.code))
        call.context.set_details(request.status.message)
    return bool(request.status.code)


async def empty_call(request: Any, call: Call) -> Any:
    return TYPES["Empty"]()


async def unary_call(request: Any, call: Call) -> Any:
    echo_metadata(call)
    await call.context.send_initial_metadata(())
    if is_ended(call, request):
        return TYPES["SimpleResponse"]()
    return TYPES["SimpleResponse"](payload=payload(request.response_size), server_id="this one")


async def streaming_input_call(requests: AsyncIterator[Any], call: Call) -> Any:
    size = sum([len(request.payload.body) async for request in requests])
    return TYPES["StreamingInputCallResponse"](aggregated_payload_size=size)


async def streaming_output_call(request: Any, call: Call) -> AsyncIterator[Any]:
    for wanted in request.response_parameters:
        await asyncio.sleep(wanted.interval_us / 1e6)
        yield TYPES["StreamingOutputCallResponse"](payload=payload(wanted.size))


async def full_duplex_call(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
    echo_metadata(call)
    async for request in requests:
        if is_ended(call, request):
            return
        async for response in streaming_output_call(request, call):
            yield response


def handler(kind: str, behaviour: Any, takes: str, gives: str) -> Any:
    """grpc's handler of a method; the interceptors call it with a Call."""
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    return make(behaviour, TYPES[takes].FromString, TYPES[gives].SerializeToString)


METHODS = {
    "EmptyCall": handler("unary_unary", empty_call, "Empty", "Empty"),
    "UnaryCall": handler("unary_unary", unary_call, "SimpleRequest", "SimpleResponse"),
    "StreamingInputCall": handler(
        "stream_unary", streaming_input_call, "StreamingInputCallRequest", "StreamingInputCallResponse"
    ),
    "StreamingOutputCall": handler(
        "unary_stream", streaming_output_call, "StreamingOutputCallRequest", "StreamingOutputCallResponse"
    ),
    "FullDuplexCall": handler(
        "stream_stream", full_duplex_call, "StreamingOutputCallRequest", "StreamingOutputCallResponse"
    ),
}

if __name__ == "__main__":
    policy.METHODS += tuple(METHODS)  # without a policy file everyone may call everything: these, too
    app.running = partial(app.running, test_services={SERVICE: METHODS})
    sys.argv = ["falrpc", "serve"]
    main()

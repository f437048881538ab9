"""Calls whose metadata no gRPC library would send: frames by hand."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

import h2.config
import h2.connection
import h2.events
import h2.settings
from google.protobuf.message import Message

__all__ = ["Answer", "raw_call"]

SECONDS_MAX = 20


@dataclass
class Answer:
    """How a call ended: `status` is grpc's number, or the connection's end."""

    status: str = "no answer"
    message: str = ""
    reset: int | None = None
    headers: dict[str, str] = field(default_factory=dict)


async def raw_call(
    address: str, method: str, request: Message, metadata: Sequence[tuple[bytes, bytes]] = ()
) -> Answer:
    """Calls a method of the service with any metadata, and reads how it ends."""
    config = h2.config.H2Configuration(
        client_side=True,
        header_encoding=None,
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
        validate_inbound_headers=False,
    )
    connection, answer = h2.connection.H2Connection(config), Answer()
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        connection.initiate_connection()
        head = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", f"/falrpc.v1.FalService/{method}".encode()),
            (b":authority", address.encode()),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            *metadata,
        ]
        message = request.SerializeToString()
        connection.send_headers(1, head)
        connection.send_data(1, b"\0" + len(message).to_bytes(4, "big") + message, end_stream=True)
        async with asyncio.timeout(SECONDS_MAX):
            is_over = False
            while not is_over:
                writer.write(connection.data_to_send())
                data = await reader.read(65_536)
                for event in connection.receive_data(data) if data else ():
                    is_over = _noted(event, answer) or is_over
                is_over = is_over or not data
    finally:
        writer.close()
    return answer


def _noted(event: h2.events.Event, answer: Answer) -> bool:
    """Notes what an event says; returns whether it is the last one."""
    match event:
        case h2.events.ResponseReceived(headers=headers) | h2.events.TrailersReceived(headers=headers):
            told = {bytes(name).decode(): bytes(value).decode("latin-1") for name, value in headers or ()}
            answer.headers |= told
            answer.status = told.get("grpc-status", answer.status)
            answer.message = unquote(told.get("grpc-message", answer.message))
        case h2.events.StreamReset(error_code=code):
            answer.reset = int(code or 0)
            return True
        case h2.events.StreamEnded() | h2.events.ConnectionTerminated():
            return True
    return False

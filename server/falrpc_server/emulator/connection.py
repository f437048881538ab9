"""One connection: uvicorn's HTTP protocol, which also hands the transport to the application for faults."""

import asyncio
import contextlib
import socket
import struct
import uuid
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from falrpc_server.emulator.answers import detail, encoded

__all__ = ["TRANSPORT", "Protocol", "reset"]

TRANSPORT = "emulator.transport"
"""Where the application finds the transport among the extensions of an ASGI scope."""


class Protocol(H11Protocol):
    """HTTP/1.1 on one connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio sets this for its own listeners only: an answer's body would wait 40 ms for the
        # acknowledgement of its head.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        application = self.app

        async def with_transport(scope: Any, receive: Any, send: Any) -> None:
            scope.setdefault("extensions", {})[TRANSPORT] = transport
            await application(scope, receive, send)

        self.app = with_transport

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP in fal's manner instead of as plain text."""
        answer = detail(400, msg, {"connection": "close", "x-fal-request-id": str(uuid.uuid4())})
        head = h11.Response(status_code=400, headers=encoded(answer.headers), reason=b"Bad Request")
        for event in (head, h11.Data(data=answer.body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def reset(transport: asyncio.Transport) -> None:
    """Ends a connection with RST instead of FIN."""
    raw = transport.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()

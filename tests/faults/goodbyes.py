"""How a server says that it is about to stop, as those see it who only watch."""

import asyncio
import time
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

__all__ = ["goaway", "health_lost"]

WATCH_SECONDS_MAX = 120
SETTINGS, PING, GOAWAY = 4, 6, 7  # HTTP/2's frame types (RFC 9113, section 6)


async def health_lost(channel: grpc.aio.Channel, watched: asyncio.Event) -> float:
    """Watches health; gives the time when it went NOT_SERVING. Sets the event when it knows that it serves."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=WATCH_SECONDS_MAX)
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    watched.set()
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    lost_at = time.time()
    watch.cancel()
    return lost_at


async def goaway(address: str, watched: asyncio.Event) -> float:
    """Keeps an idle HTTP/2 connection; gives the time when the server said GOAWAY on it (section 6.8).

    Sets the event when the connection stands.
    """
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(SETTINGS))
    async with asyncio.timeout(WATCH_SECONDS_MAX):
        while True:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
            kind, is_ack = head[3], head[4] & 1
            if kind == GOAWAY:
                said_at = time.time()
                writer.close()
                return said_at
            watched.set()
            if kind in (SETTINGS, PING) and not is_ack:
                writer.write(_frame(kind, 1, payload if kind == PING else b""))


def _frame(kind: int, flags: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + bytes(4) + payload

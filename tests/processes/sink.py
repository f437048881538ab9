"""A program: a bare grpc.aio server that takes streams of messages and does nothing with them.

It writes its address to stdout, and ends with its stdin.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc

try:
    from uvloop import run
except ImportError:
    from asyncio import run

METHOD = "Upload"
SERVICE = "falrpc.v1.FalService"


async def swallow(messages: AsyncIterator[bytes], context: Any) -> bytes:
    """Reads to the end."""
    async for _ in messages:
        pass
    return b""


async def main() -> None:
    handler = grpc.stream_unary_rpc_method_handler(swallow)  # type: ignore[arg-type]
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    run(main())

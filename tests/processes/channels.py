"""Connections of clients."""

import contextlib
from collections.abc import AsyncIterator

import grpc

__all__ = ["own_channel", "own_channels"]


@contextlib.asynccontextmanager
async def own_channel(
    address: str, service_config: str = "", **options: object
) -> AsyncIterator[grpc.aio.Channel]:
    """A channel with a connection of its own. Calls are repeated only if a service config says so."""
    given = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", int(bool(service_config))),
        ("grpc.max_receive_message_length", 64 * 1024 * 1024),
        *([("grpc.service_config", service_config)] if service_config else []),
        *((f"grpc.{name}", value) for name, value in options.items()),
    ]
    async with grpc.aio.insecure_channel(address, options=given) as channel:
        yield channel


@contextlib.asynccontextmanager
async def own_channels(address: str, count: int) -> AsyncIterator[list[grpc.aio.Channel]]:
    """So many such channels, connected."""
    async with contextlib.AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(own_channel(address)) for _ in range(count)]
        for channel in channels:
            await channel.channel_ready()
        yield channels

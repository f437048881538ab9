"""The emulator's process: its listeners, and how it stops."""

import asyncio
import signal
import socket
import ssl
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import uvicorn
from uvicorn.server import ServerState

from falrpc_server.emulator.application import Application, Options
from falrpc_server.emulator.connection import Protocol
from falrpc_server.emulator.tls import Authority

__all__ = ["Listening", "Urls", "serve"]

BACKLOG = 8_192
HEAD_BYTES_MAX = 64 * 1024
KEEPALIVE_SECONDS = 75  # longer than a client's, so that the client closes first
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 # where to reach who listens everywhere


@dataclass(frozen=True, slots=True)
class Listening:
    """Where it listens. Port 0 takes any free one; a TLS port of None means no TLS."""

    host: str = "127.0.0.1"
    port: int = 0
    tls_port: int | None = None


@dataclass(frozen=True, slots=True)
class Urls:
    """Where it can be reached."""

    http: str
    https: str | None


def serve(listening: Listening, options: Options, announce: Callable[[Urls], None]) -> None:
    """Runs the emulator until SIGTERM or SIGINT. `announce` is called once it listens."""
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what it says of broken pictures is no news
    asyncio.run(_serve_until_told(listening, options, announce))


async def _serve_until_told(listening: Listening, options: Options, announce: Callable[[Urls], None]) -> None:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    authority = Authority(listening.host) if listening.tls_port is not None else None
    connections = ServerState()
    application = Application(options, connections.connections, authority)
    # The protocol is uvicorn's; its Server isn't used: it has one listener, and no wish for cut streams.
    config = uvicorn.Config(
        application,
        http=Protocol,
        ws="none",
        lifespan="off",
        log_level="critical",
        access_log=False,
        timeout_keep_alive=KEEPALIVE_SECONDS,
        h11_max_incomplete_event_size=HEAD_BYTES_MAX,
    )
    config.load()

    async def listen(port: int, context: ssl.SSLContext | None) -> tuple[asyncio.Server, str]:
        listener = _listener(listening.host, port)
        server = await loop.create_server(
            lambda: Protocol(config, connections, {}), sock=listener, ssl=context, backlog=BACKLOG
        )
        return server, _url("https" if context else "http", listener)

    servers, https = [], None
    server, http = await listen(listening.port, None)
    servers.append(server)
    if authority:
        server, https = await listen(listening.tls_port or 0, authority.context())
        servers.append(server)
    announce(Urls(http, https))
    await told.wait()
    for server in servers:
        server.close()
    for connection in list(connections.connections):  # what is open is cut: some of it would never end
        connection.transport.abort()
    for task in connections.tasks:
        task.cancel()
    await asyncio.gather(*connections.tasks, return_exceptions=True)
    await application.close()


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise SystemExit(f"cannot listen on {host}, port {port}: {error}") from None


def _url(scheme: str, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    host = LOOPBACK.get(host, host)
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

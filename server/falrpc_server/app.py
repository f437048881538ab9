"""The composition root: builds the server from settings, starts it, drains it, stops it."""

import asyncio
import contextlib
import importlib.metadata
import resource
import signal
from collections.abc import AsyncIterator, Callable

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from falrpc import v1
from falrpc_server import garbage, listening, wiring
from falrpc_server.background import BackgroundTasks
from falrpc_server.config import Settings
from falrpc_server.fal_http.client import FalClient
from falrpc_server.fal_http.exchange import Exchanges
from falrpc_server.fal_http.transport import Transport
from falrpc_server.fal_http.uploads import Uploads
from falrpc_server.interceptors.adapter import Chain
from falrpc_server.interceptors.call import LOGGED_CHARACTERS_MAX, CallRegistry
from falrpc_server.interceptors.deadline import deadline
from falrpc_server.interceptors.ending import ending
from falrpc_server.interceptors.observe import observe
from falrpc_server.interceptors.refusing import refusing
from falrpc_server.observability import make_logger
from falrpc_server.servicer import Servicer
from falrpc_server.watchers.hub import Watchers

__all__ = ["Gateway", "running", "serve"]

SERVICE = "falrpc.v1.FalService"
QUIET_SECONDS = 0.1  # without a new call: callers have turned to others
REFUSING_SECONDS_MAX = 2.0
CLEAN_UP_SECONDS_MAX = 10.0
GOODBYE_SECONDS_MAX = 1.0  # for connections to end; what is still open then watches our health

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def serve(settings: Settings) -> int:
    """Runs the server until SIGTERM or SIGINT; a second signal stops it at once. Returns the exit code."""
    log = make_logger(settings.log_level)
    _raise_file_limit(settings, log)
    garbage.look_rarely()
    with asyncio.Runner(loop_factory=_loop_factory(settings)) as runner:
        return runner.run(_serve(settings, log))


async def _serve(settings: Settings, log: structlog.typing.FilteringBoundLogger) -> int:
    signals: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)
    try:
        async with running(settings, log) as gateway:
            await signals.get()
            drain = asyncio.create_task(gateway.drain())
            at_once = asyncio.create_task(signals.get())
            await asyncio.wait({drain, at_once}, return_when=asyncio.FIRST_COMPLETED)
            at_once.cancel()
            drain.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await drain
    except CannotListen as error:
        log.error("server.failed", cause=str(error))
        return 1
    return 0


class CannotListen(Exception):
    """The listener's address can't be had."""


class Gateway:
    """The running service. Made by running()."""

    def __init__(
        self, settings: Settings, log: structlog.typing.FilteringBoundLogger, transport: Transport
    ) -> None:
        self._settings = settings
        self._log = log
        self._calls = CallRegistry()
        self._background = BackgroundTasks()
        self._health = health.aio.HealthServicer()
        exchanges = Exchanges(transport, settings.key, f"falrpc/{_version()}", wiring.guards(settings))
        fal = FalClient(exchanges, wiring.hosts(settings), wiring.bounds(settings))
        watchers = Watchers(
            fal,
            self._background,
            wiring.pace(settings),
            settings.status_calls_per_second,
            lambda what, value: log.warning("fal.noticed", what=what, value=value[:LOGGED_CHARACTERS_MAX]),
        )
        self._uploads = Uploads(wiring.storage(exchanges, settings), wiring.upload_bounds(settings))
        servicer = Servicer(fal, self._uploads, watchers, self._background, wiring.limits(settings))
        interceptors = [
            observe,
            ending,
            refusing(self._calls),
            deadline(settings.default_deadline_seconds, settings.deadline_seconds_max),
        ]
        self._server = grpc.aio.server(
            interceptors=[Chain(SERVICE, interceptors, self._calls, log, settings.stall_seconds)],
            options=listening.options(settings),
        )
        # The methods take a Call instead of grpc's context: the chain sees to it.
        v1.add_FalServiceServicer_to_server(servicer, self._server)  # type: ignore[arg-type]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if settings.offers_reflection:
            names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
        self.address = ""
        """The listener's `host:port`, with the port that was really taken."""

    async def start(self) -> None:
        """Starts to listen. Raises CannotListen."""
        try:
            port = self._server.add_insecure_port(self._settings.listen)
        except RuntimeError as error:
            raise CannotListen(f"FALRPC_LISTEN={self._settings.listen}: {error}") from error
        await self._server.start()
        self.address = f"{self._settings.listen.rpartition(':')[0]}:{port}"
        await self._set_health(SERVING)
        self._log.info("server.started", address=self.address, version=_version())

    async def drain(self) -> None:
        """Stops in good order; the remote work of calls that are cut goes on.

        NOT_SERVING, then a delay in which new calls are still served, then no new calls; calls in flight
        may finish until the limit, then reads end UNAVAILABLE and paid calls UNKNOWN.

        grpc ends what it has received and not yet handed to us as CANCELLED when it stops, and meshes repeat
        that (grpc/grpc#41785): so new calls are refused by ourselves first, until few come any more.
        """
        self._log.info("server.draining", calls=len(self._calls))
        await self._set_health(NOT_SERVING)
        await asyncio.sleep(self._settings.drain_delay_seconds)
        await self._calls.refuse_new(QUIET_SECONDS, REFUSING_SECONDS_MAX)
        grace = self._settings.drain_seconds + CLEAN_UP_SECONDS_MAX
        refusing = asyncio.create_task(self._server.stop(grace))
        try:
            if not await self._calls.wait_idle(self._settings.drain_seconds):
                self._calls.drain()
                await self._calls.wait_idle(CLEAN_UP_SECONDS_MAX)
            await asyncio.wait({refusing}, timeout=GOODBYE_SECONDS_MAX)
        finally:
            refusing.cancel()

    async def stop(self) -> None:
        """Stops at once and waits for clean-ups."""
        await self._set_health(NOT_SERVING)
        self._calls.refuses_new = True
        self._calls.drain()
        await self._calls.wait_idle(CLEAN_UP_SECONDS_MAX)
        await self._server.stop(None)
        await self._background.drain(CLEAN_UP_SECONDS_MAX)
        self._log.info("server.stopped")

    async def _set_health(self, status: int) -> None:
        for name in ("", SERVICE):
            await self._health.set(name, status)


@contextlib.asynccontextmanager
async def running(settings: Settings, log: structlog.typing.FilteringBoundLogger) -> AsyncIterator[Gateway]:
    """Runs the service on the current event loop. Raises CannotListen."""
    limits = wiring.transport_limits(settings)
    async with Transport(limits, proxy_url=settings.proxy_url) as transport:
        gateway = Gateway(settings, log, transport)
        try:
            await gateway.start()
            yield gateway
        finally:
            await gateway.stop()


def _raise_file_limit(settings: Settings, log: structlog.typing.FilteringBoundLogger) -> None:
    """Each connection is an open file, and the usual soft limit of 1,024 is there for older programs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A hard limit of "unlimited" may be more than there can be.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    if soft != resource.RLIM_INFINITY and soft < settings.connections_max:
        log.warning("server.few_files", limit=soft, connections_max=settings.connections_max)


def _loop_factory(settings: Settings) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if settings.loop == "auto":
        try:
            import uvloop
        except ImportError:  # there is none for this platform
            return None
        return uvloop.new_event_loop
    return None


def _version() -> str:
    try:
        return importlib.metadata.version("falrpc")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        return "0+source"

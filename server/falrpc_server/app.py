"""The composition root: builds the server from settings, starts it, drains it, stops it."""

import asyncio
import contextlib
import importlib.metadata
import resource
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from falrpc import v1
from falrpc_server import garbage
from falrpc_server.background import BackgroundTasks
from falrpc_server.config import Settings
from falrpc_server.fal_http import retry, wire
from falrpc_server.fal_http.cdn_storage import CdnStorage
from falrpc_server.fal_http.client import Bounds, FalClient
from falrpc_server.fal_http.exchange import Exchanges, Guards
from falrpc_server.fal_http.queue_watch import Pace
from falrpc_server.fal_http.storage import SignedUrlStorage, Storage
from falrpc_server.fal_http.storage_answers import host_of
from falrpc_server.fal_http.transfers import Transfers
from falrpc_server.fal_http.transport import Limits as TransportLimits
from falrpc_server.fal_http.transport import Transport
from falrpc_server.fal_http.uploads import UploadBounds, Uploads
from falrpc_server.interceptors.adapter import Chain
from falrpc_server.interceptors.call import LOGGED_CHARACTERS_MAX, CallRegistry
from falrpc_server.interceptors.deadline import deadline
from falrpc_server.interceptors.ending import ending
from falrpc_server.interceptors.observe import observe
from falrpc_server.interceptors.refusing import refusing
from falrpc_server.observability import make_logger
from falrpc_server.servicer import Limits, Servicer
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
        exchanges = Exchanges(transport, settings.key, f"falrpc/{_version()}", _guards(settings))
        fal = FalClient(exchanges, _hosts(settings), _bounds(settings))
        watchers = Watchers(
            fal,
            self._background,
            _pace(settings),
            settings.status_calls_per_second,
            lambda what, value: log.warning("fal.noticed", what=what, value=value[:LOGGED_CHARACTERS_MAX]),
        )
        self._uploads = Uploads(_storage(exchanges, settings), _upload_bounds(settings))
        servicer = Servicer(fal, self._uploads, watchers, self._background, _limits(settings))
        interceptors = [
            observe,
            ending,
            refusing(self._calls),
            deadline(settings.default_deadline_seconds, settings.deadline_seconds_max),
        ]
        self._server = grpc.aio.server(
            interceptors=[Chain(SERVICE, interceptors, self._calls, log, settings.stall_seconds)],
            options=_server_options(settings),
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
    limits = TransportLimits(
        connections=settings.connections_max,
        connections_per_host=settings.connections_per_host_max,
        connect_seconds=settings.connect_seconds,
        pool_seconds=settings.pool_seconds,
        keepalive_seconds=settings.keepalive_seconds,
    )
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


def _hosts(settings: Settings) -> wire.Hosts:
    if base := settings.emulator_url:
        uploads = (host_of(base),)
        return wire.Hosts(f"{base}/run", f"{base}/queue", f"{base}/rest", f"{base}/cdn", uploads=uploads)
    return wire.Hosts(
        run=settings.fal_run_url,
        queue=settings.fal_queue_url,
        rest=settings.fal_rest_url,
        cdn=settings.fal_cdn_url,
        run_backup=settings.run_backup_url,
        queue_backup=settings.queue_backup_url,
        uploads=settings.upload_hosts,
    )


def _storage(exchanges: Exchanges, settings: Settings) -> Storage:
    transfers = Transfers(exchanges, _bounds(settings))
    if settings.upload_credential == "cdn-token":
        return CdnStorage(transfers, _hosts(settings))
    return SignedUrlStorage(transfers, _hosts(settings))


def _guards(settings: Settings) -> Guards:
    return Guards(
        retries=retry.Policy(settings.resends_max, settings.retry_share, settings.retry_reserve),
        breaker_failures=settings.breaker_failures,
        breaker_seconds=settings.breaker_seconds,
        endpoint_limits=dict(settings.endpoint_limits),
        place_seconds=settings.pool_seconds,
    )


def _bounds(settings: Settings) -> Bounds:
    return Bounds(
        output_bytes_max=settings.output_bytes_max,
        read_idle_seconds=settings.read_idle_seconds,
        exchange_seconds_max=settings.exchange_seconds_max,
        stream_idle_seconds=settings.stream_idle_seconds,
    )


def _limits(settings: Settings) -> Limits:
    return Limits(
        input_bytes_max=settings.input_bytes_max,
        heartbeat_seconds=settings.heartbeat_seconds,
        upload_bytes_max=settings.upload_bytes_max,
        upload_idle_seconds=settings.upload_idle_seconds,
    )


def _upload_bounds(settings: Settings) -> UploadBounds:
    return UploadBounds(
        file_bytes_max=settings.upload_bytes_max,
        single_bytes_max=settings.upload_single_bytes_max,
        part_bytes=settings.upload_part_bytes,
        part_seconds_max=settings.upload_part_seconds_max,
        parts_at_once=settings.upload_parts_at_once,
        buffer_bytes_max=settings.upload_buffer_bytes_max,
    )


def _pace(settings: Settings) -> Pace:
    return Pace(
        first_seconds=settings.poll_first_seconds,
        cap_seconds=settings.poll_seconds_max,
        stream_idle_seconds=settings.status_stream_idle_seconds,
        stream_again_seconds=settings.status_stream_again_seconds,
        patience_seconds=settings.poll_patience_seconds,
    )


def _server_options(settings: Settings) -> list[tuple[str, Any]]:
    """Each is there because its default hurts; docs/decisions/0003-grpc-options.md says how."""
    age_seconds = settings.connection_age_seconds
    return [
        ("grpc.max_receive_message_length", settings.receive_bytes_max),
        ("grpc.max_send_message_length", settings.send_bytes_max),
        ("grpc.max_concurrent_streams", 1_000),
        ("grpc.server.max_pending_requests", 10_000),
        ("grpc.server.max_pending_requests_hard_limit", 20_000),
        ("grpc.server_handshake_timeout_ms", 5_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 512 * 1024),
        ("grpc.so_reuseport", 0),
        *([("grpc.max_connection_age_ms", max(1, round(age_seconds * 1000)))] if age_seconds else []),
    ]


def _version() -> str:
    try:
        return importlib.metadata.version("falrpc")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        return "0+source"

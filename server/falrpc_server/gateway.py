"""The running service: its parts put together, its listener, its way to an end."""

import asyncio
import importlib.metadata
import time
from collections.abc import Mapping
from typing import Any, TypeAlias, cast

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from falrpc import v1
from falrpc_server import listening, wiring
from falrpc_server.accepting import make_server
from falrpc_server.access.admission import Admission
from falrpc_server.access_files import AccessFiles
from falrpc_server.background import BackgroundTasks
from falrpc_server.config import Settings
from falrpc_server.fal_http.client import FalClient
from falrpc_server.fal_http.exchange import Exchanges
from falrpc_server.fal_http.transport import Transport
from falrpc_server.fal_http.uploads import Uploads
from falrpc_server.interceptors.access import access
from falrpc_server.interceptors.adapter import Chain
from falrpc_server.interceptors.admission import admission
from falrpc_server.interceptors.call import LOGGED_CHARACTERS_MAX, CallRegistry
from falrpc_server.interceptors.deadline import deadline
from falrpc_server.interceptors.ending import ending
from falrpc_server.interceptors.full_house import FullHouse
from falrpc_server.interceptors.observe import observe
from falrpc_server.interceptors.refusing import refusing
from falrpc_server.listening import Certificates
from falrpc_server.memory import resident_bytes
from falrpc_server.reloading import Reloader
from falrpc_server.servicer import Servicer
from falrpc_server.tls_files import TlsFiles
from falrpc_server.watchers.hub import Watchers
from falrpc_server.workers.control import Worker

__all__ = ["CannotListen", "Gateway", "Services", "user_agent"]

SERVICE = "falrpc.v1.FalService"
QUIET_SECONDS = 0.1  # without a new call: callers have turned to others
REFUSING_SECONDS_MAX = 2.0
CLEAN_UP_SECONDS_MAX = 10.0
GOODBYE_SECONDS_MAX = 1.0  # for connections to end; what is still open then watches our health

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

Services: TypeAlias = "Mapping[str, dict[str, grpc.RpcMethodHandler[Any, Any]]]"
"""Methods by the names of services."""


class CannotListen(Exception):
    """The listener's address can't be had."""


class Gateway:
    """The running service. Made by running()."""

    def __init__(
        self,
        settings: Settings,
        log: structlog.typing.FilteringBoundLogger,
        transport: Transport,
        guard: AccessFiles,
        worker: Worker | None = None,
        test_services: "Services | None" = None,
    ) -> None:
        self._settings = settings
        self._guard = guard
        self._started_event = "worker.serving" if worker else "server.started"
        self._log = log
        self._calls = CallRegistry()
        self._background = BackgroundTasks()
        self._health = health.aio.HealthServicer()
        exchanges = Exchanges(transport, user_agent(), wiring.guards(settings))
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
        door = Admission(wiring.admission(settings), time.monotonic, resident_bytes)
        interceptors = [
            observe,
            ending,
            refusing(self._calls),
            access(guard.gate),
            admission(door),
            deadline(settings.default_deadline_seconds, settings.deadline_seconds_max),
        ]
        more = test_services or {}
        self._server = make_server(
            [Chain((SERVICE, *more), interceptors, self._calls, log, settings.stall_seconds)],
            listening.options(settings, worker is not None),
            FullHouse(SERVICE, door, guard.gate, self._calls, log),
        )
        # The methods take a Call instead of grpc's context: the chain sees to it.
        v1.add_FalServiceServicer_to_server(servicer, self._server)  # type: ignore[arg-type]
        for name, methods in more.items():
            self._server.add_registered_method_handlers(name, methods)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if settings.offers_reflection:
            names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
        self.reloader = Reloader(guard.sources, log)
        self.ended: asyncio.Task[bool] | None = None
        """Done when grpc's server has ended, whoever ended it. Cancelling it would break that end."""
        self.address = ""
        """The listener's `host:port`, with the port that was really taken."""

    async def start(self) -> None:
        """Starts to listen. Raises CannotListen."""
        try:
            port = self._add_port(self._settings.listen)
        except RuntimeError as error:
            raise CannotListen(f"FALRPC_LISTEN={self._settings.listen}: {error}") from error
        await self._server.start()
        self.ended = asyncio.create_task(self._server.wait_for_termination(), name="end of grpc's server")
        self.address = f"{self._settings.listen.rpartition(':')[0]}:{port}"
        await self._set_health(SERVING)
        if self._settings.is_open:
            self._log.warning("server.open", address=self.address, auth="none")
        self._log.info(self._started_event, address=self.address, version=_version())

    def _add_port(self, address: str) -> int:
        if self._guard.tls is None:
            return self._server.add_insecure_port(address)
        certificates = Certificates(lambda: cast(TlsFiles, self._guard.tls))
        return self._server.add_secure_port(address, certificates.credentials())

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


def user_agent() -> str:
    """What fal and others are told that this is."""
    return f"falrpc/{_version()}"


def _version() -> str:
    try:
        return importlib.metadata.version("falrpc")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        return "0+source"

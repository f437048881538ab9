"""The composition root: builds the server from settings, starts it, drains it, stops it."""

import asyncio
import contextlib
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable

import structlog

from falrpc_server import garbage, wiring
from falrpc_server.access.jwks import UrlKeys
from falrpc_server.access_files import AccessFiles
from falrpc_server.config import ConfigError, Settings
from falrpc_server.fal_http.transport import Transport
from falrpc_server.gateway import CannotListen, Gateway, Services, user_agent
from falrpc_server.observability import make_logger
from falrpc_server.workers.control import Worker

__all__ = ["running", "serve"]


def serve(settings: Settings, worker: Worker | None = None) -> int:
    """Runs the server until SIGTERM or SIGINT; a second signal stops it at once. Returns the exit code.

    A worker of several stops when its supervisor says so.
    """
    log = make_logger(settings.log_level)
    if worker:
        log = log.bind(worker=worker.number)
    _raise_file_limit(settings, log)
    garbage.look_rarely()
    with asyncio.Runner(loop_factory=_loop_factory(settings)) as runner:
        return runner.run(_serve(settings, log, worker))


async def _serve(
    settings: Settings, log: structlog.typing.FilteringBoundLogger, worker: Worker | None
) -> int:
    signals: asyncio.Queue[int] = asyncio.Queue()
    if worker:
        worker.obey(signals.put_nowait)
    else:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)
    try:
        async with running(settings, log, worker) as gateway:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, gateway.reloader.look_now)
            if worker:
                worker.tell_serving()
            told = asyncio.create_task(signals.get())
            await asyncio.wait({told, *filter(None, [gateway.ended])}, return_when=asyncio.FIRST_COMPLETED)
            if not told.done():
                told.cancel()
                log.error("server.failed", cause="grpc's server has ended by itself")
                return 1
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
    except ConfigError as error:
        log.error("server.failed", problems=error.problems)
        sys.stderr.write("".join(f"{problem}\n" for problem in error.problems))
        return 2
    return 0


@contextlib.asynccontextmanager
async def running(
    settings: Settings,
    log: structlog.typing.FilteringBoundLogger,
    worker: Worker | None = None,
    test_services: "Services | None" = None,
) -> AsyncIterator[Gateway]:
    """Runs the service on the current event loop. Raises CannotListen and, for files, ConfigError.

    Args:
        settings: Checked.
        log: For everything that is logged.
        worker: Which one of several this process is.
        test_services: More services, by name, that tests have behind the same interceptors.
    """
    limits = wiring.transport_limits(settings)
    async with (
        Transport(limits, proxy_url=settings.proxy_url) as transport,
        _url_keys(settings, log, transport) as keys,
    ):
        guard = AccessFiles(settings, keys)
        gateway = Gateway(settings, log, transport, guard, worker, test_services)
        reloading = asyncio.create_task(gateway.reloader.run(settings.reload_seconds), name="reload")
        try:
            await gateway.start()
            yield gateway
        finally:
            reloading.cancel()
            await gateway.stop()


@contextlib.asynccontextmanager
async def _url_keys(
    settings: Settings, log: structlog.typing.FilteringBoundLogger, transport: Transport
) -> AsyncIterator[UrlKeys | None]:
    """The keys of callers' JWTs, where they come from a URL."""
    if not settings.jwt_jwks or settings.jwks_file:
        yield None
        return
    keys = UrlKeys(
        settings.jwt_jwks,
        transport,
        settings.jwt_algorithms,
        kept_seconds=settings.jwt_jwks_seconds,
        stale_seconds_max=settings.jwt_jwks_stale_seconds_max,
        user_agent=user_agent(),
        tell=lambda sentence: log.warning("jwks.failed", cause=sentence),
    )
    async with contextlib.aclosing(keys):
        await keys.start()
        if not keys.is_usable:
            raise ConfigError([f"FALRPC_JWT_JWKS: {keys.shown_url}: no keys can be read there"])
        yield keys


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

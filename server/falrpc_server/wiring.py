"""From Settings to what each part of the service takes."""

from falrpc_server import memory
from falrpc_server.access.admission import AdmissionLimits
from falrpc_server.config import Settings
from falrpc_server.fal_http import retry, wire
from falrpc_server.fal_http.cdn_storage import CdnStorage
from falrpc_server.fal_http.client import Bounds
from falrpc_server.fal_http.exchange import Exchanges, Guards
from falrpc_server.fal_http.queue_watch import Pace
from falrpc_server.fal_http.storage import SignedUrlStorage, Storage
from falrpc_server.fal_http.storage_answers import host_of
from falrpc_server.fal_http.transfers import Transfers
from falrpc_server.fal_http.transport import Limits as TransportLimits
from falrpc_server.fal_http.uploads import UploadBounds
from falrpc_server.servicer import Limits

__all__ = [
    "admission",
    "bounds",
    "guards",
    "hosts",
    "limits",
    "pace",
    "storage",
    "transport_limits",
    "upload_bounds",
]


def admission(settings: Settings) -> AdmissionLimits:
    return AdmissionLimits(
        calls_in_flight_max=settings.calls_in_flight_max,
        streams_in_flight_max=settings.streams_in_flight_max,
        uploads_in_flight_max=settings.uploads_in_flight_max,
        memory_bytes_max=settings.memory_bytes_max or memory.allowed_bytes(settings.workers),
    )


def transport_limits(settings: Settings) -> TransportLimits:
    return TransportLimits(
        connections=settings.connections_max,
        connections_per_host=settings.connections_per_host_max,
        connect_seconds=settings.connect_seconds,
        pool_seconds=settings.pool_seconds,
        keepalive_seconds=settings.keepalive_seconds,
    )


def hosts(settings: Settings) -> wire.Hosts:
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


def storage(exchanges: Exchanges, settings: Settings) -> Storage:
    transfers = Transfers(exchanges, bounds(settings))
    if settings.upload_credential == "cdn-token":
        return CdnStorage(transfers, hosts(settings))
    return SignedUrlStorage(transfers, hosts(settings))


def guards(settings: Settings) -> Guards:
    return Guards(
        retries=retry.Policy(settings.resends_max, settings.retry_share, settings.retry_reserve),
        breaker_failures=settings.breaker_failures,
        breaker_seconds=settings.breaker_seconds,
        endpoint_limits=dict(settings.endpoint_limits),
        place_seconds=settings.pool_seconds,
    )


def bounds(settings: Settings) -> Bounds:
    return Bounds(
        output_bytes_max=settings.output_bytes_max,
        read_idle_seconds=settings.read_idle_seconds,
        exchange_seconds_max=settings.exchange_seconds_max,
        stream_idle_seconds=settings.stream_idle_seconds,
    )


def limits(settings: Settings) -> Limits:
    return Limits(
        input_bytes_max=settings.input_bytes_max,
        heartbeat_seconds=settings.heartbeat_seconds,
        upload_bytes_max=settings.upload_bytes_max,
        upload_idle_seconds=settings.upload_idle_seconds,
    )


def upload_bounds(settings: Settings) -> UploadBounds:
    return UploadBounds(
        single_bytes_max=settings.upload_single_bytes_max,
        part_bytes=settings.upload_part_bytes,
        part_seconds_max=settings.upload_part_seconds_max,
        parts_at_once=settings.upload_parts_at_once,
        buffer_bytes_max=settings.upload_buffer_bytes_max,
    )


def pace(settings: Settings) -> Pace:
    return Pace(
        first_seconds=settings.poll_first_seconds,
        cap_seconds=settings.poll_seconds_max,
        stream_idle_seconds=settings.status_stream_idle_seconds,
        stream_again_seconds=settings.status_stream_again_seconds,
        patience_seconds=settings.poll_patience_seconds,
    )

"""The gRPC listener: its options and its credentials."""

from typing import Any

from falrpc_server.config import Settings

__all__ = ["options"]


def options(settings: Settings) -> list[tuple[str, Any]]:
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

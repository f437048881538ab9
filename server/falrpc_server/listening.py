"""The gRPC listener: its options and its credentials."""

from collections.abc import Callable
from typing import Any

import grpc

from falrpc_server.config import Settings
from falrpc_server.tls_files import TlsFiles

__all__ = ["Certificates", "options"]


def options(settings: Settings, shares_port: bool = False) -> list[tuple[str, Any]]:
    """Each is there because its default hurts; docs/decisions/0003-grpc-options.md says how.

    Args:
        shares_port: Whether this is a worker of several, whose supervisor holds the port for all.
    """
    age_seconds = settings.connection_age_seconds
    return [
        ("grpc.max_receive_message_length", settings.receive_bytes_max),
        ("grpc.max_send_message_length", settings.send_bytes_max),
        ("grpc.max_metadata_size", 16 * 1024),
        ("grpc.absolute_max_metadata_size", 32 * 1024),
        ("grpc.max_concurrent_streams", 500),
        ("grpc.server.max_pending_requests", 10_000),
        ("grpc.server.max_pending_requests_hard_limit", 20_000),
        ("grpc.server_handshake_timeout_ms", 5_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 512 * 1024),
        ("grpc.so_reuseport", int(shares_port)),
        *([("grpc.max_connection_age_ms", max(1, round(age_seconds * 1000)))] if age_seconds else []),
    ]


class Certificates:
    """What new connections are shown.

    grpc asks before each handshake, in a thread of its own, whether there is something new.
    """

    def __init__(self, current: Callable[[], TlsFiles]) -> None:
        """Takes what tells the files in force. Connections that exist keep what they were shown."""
        self._current = current
        self._told = current()

    def credentials(self) -> grpc.ServerCredentials:
        """The listener's credentials."""
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._told),
            self._if_new,  # type: ignore[arg-type] # None is "nothing new", as its documentation says
            require_client_authentication=self._told.client_ca is not None,
        )

    def _if_new(self) -> "grpc.ServerCertificateConfiguration | None":
        current = self._current()
        if current is self._told:
            return None
        self._told = current
        return _configuration(current)


def _configuration(files: TlsFiles) -> "grpc.ServerCertificateConfiguration":
    return grpc.ssl_server_certificate_configuration([(files.key, files.chain)], files.client_ca)

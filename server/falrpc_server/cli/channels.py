"""The channel to the service: its limits, its keepalive, what it may retry, and its credentials."""

import ipaddress
import json
from typing import Any
from urllib.parse import urlsplit

import grpc

from falrpc_server.cli.options import Security

__all__ = ["call_metadata", "is_loopback", "loopback_address", "open_channel"]

_RECEIVED_BYTES_MAX = 64 * 1024 * 1024
_KEEPALIVE_MILLISECONDS = 30_000

# Only what reads, or may be repeated: a paid call is never sent again.
_REPEATABLE = ("Status", "Result", "StreamStatus", "Cancel")
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": "falrpc.v1.FalService", "method": method} for method in _REPEATABLE],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.2s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}


def open_channel(address: str, security: Security) -> grpc.Channel:
    """A channel to `address`; nothing is connected yet. Close it after use."""
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", _RECEIVED_BYTES_MAX),
        ("grpc.max_send_message_length", -1),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MILLISECONDS),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
        # http_proxy in the environment is for other hosts than this one.
        ("grpc.enable_http_proxy", 0 if is_loopback(_host(address)) else 1),
    ]
    if not (security.tls or security.ca_file or security.cert_file or security.key_file):
        return grpc.insecure_channel(address, options)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=security.ca_file.read_bytes() if security.ca_file else None,
        private_key=security.key_file.read_bytes() if security.key_file else None,
        certificate_chain=security.cert_file.read_bytes() if security.cert_file else None,
    )
    return grpc.secure_channel(address, credentials, options)


def call_metadata(security: Security) -> tuple[tuple[str, str], ...]:
    """The metadata of every call."""
    return (("authorization", f"Bearer {security.token.strip()}"),) if security.token else ()


def is_loopback(host: str | None) -> bool:
    """Whether `host` is this machine. Names other than localhost are not looked up."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def loopback_address(listen: str) -> str:
    """Where a server that listens on `listen` is reached from its own machine."""
    if _host(listen) in ("0.0.0.0", "::", ""):  # noqa: S104  # compared with, not bound to
        port = listen.rpartition(":")[2]
        return f"[::1]:{port}" if _host(listen) == "::" else f"127.0.0.1:{port}"
    return listen


def _host(address: str) -> str:
    try:
        return urlsplit(f"//{address}").hostname or ""
    except ValueError:
        return address

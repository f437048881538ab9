"""The channel to the service, and its credentials."""

import ipaddress
from urllib.parse import urlsplit

import grpc

import falrpc
from falrpc_server.cli.options import Security

__all__ = ["call_metadata", "is_loopback", "loopback_address", "open_channel"]


def open_channel(address: str, security: Security) -> grpc.Channel:
    """A channel to `address`; nothing is connected yet. Close it after use."""
    if not (security.tls or security.ca_file or security.cert_file or security.key_file):
        return falrpc.channel(address, plaintext=True)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=security.ca_file.read_bytes() if security.ca_file else None,
        private_key=security.key_file.read_bytes() if security.key_file else None,
        certificate_chain=security.cert_file.read_bytes() if security.cert_file else None,
    )
    return falrpc.channel(address, credentials=credentials)


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

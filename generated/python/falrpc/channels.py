"""Channels with the defaults that falrpc wants: limits, keepalive, what may be repeated, credentials."""

import ipaddress
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import grpc

from falrpc._bearer import AIO_BEARERS, BearerChannel

__all__ = ["aio_channel", "channel"]

_MESSAGE_BYTES_MAX = 64 * 1024 * 1024


def channel(
    target: str,
    *,
    token: str = "",
    credentials: grpc.ChannelCredentials | None = None,
    plaintext: bool | None = None,
    options: Sequence[tuple[str, Any]] = (),
) -> grpc.Channel:
    """Makes a channel; nothing is sent before the first call. Close it after use, or use it in `with`.

    Calls are spread over all addresses of the target. Status, StreamStatus, Result and Cancel are repeated on
    UNAVAILABLE; what costs money never is. A message may have 64 MiB, in both directions.

    Args:
        target: `host:port`, or `dns:///name:port` for a headless service.
        token: A bearer token, sent with every call.
        credentials: For a certificate authority or a client certificate of one's own.
        plaintext: Whether to leave TLS out. By default only where the target is this machine and no
            credentials are given; say True in a mesh whose sidecars add TLS.
        options: More channel arguments of gRPC; they win over ours.

    Raises:
        ValueError: The token is not printable ASCII without spaces, or credentials come with `plaintext`.
    """
    arguments = [*options, *_options(target)]
    token = _checked(token)
    if _is_plaintext(target, credentials, plaintext):
        made = grpc.insecure_channel(target, arguments)
    else:
        made = grpc.secure_channel(target, credentials or grpc.ssl_channel_credentials(), arguments)
    return BearerChannel(made, token) if token else made


def aio_channel(
    target: str,
    *,
    token: str = "",
    credentials: grpc.ChannelCredentials | None = None,
    plaintext: bool | None = None,
    options: Sequence[tuple[str, Any]] = (),
) -> grpc.aio.Channel:
    """Makes a channel for asyncio; else as channel()."""
    arguments = [*options, *_options(target)]
    bearers = [kind(_checked(token)) for kind in AIO_BEARERS] if token else []
    if _is_plaintext(target, credentials, plaintext):
        return grpc.aio.insecure_channel(target, arguments, interceptors=bearers)
    credentials = credentials or grpc.ssl_channel_credentials()
    return grpc.aio.secure_channel(target, credentials, arguments, interceptors=bearers)


def _options(target: str) -> list[tuple[str, Any]]:
    return [
        ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", _MESSAGE_BYTES_MAX),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # http_proxy in the environment is for other hosts than this one.
        ("grpc.enable_http_proxy", 0 if _is_loopback(target) else 1),
        ("grpc.service_config", files("falrpc").joinpath("service_config.json").read_text()),
    ]


def _is_plaintext(target: str, credentials: grpc.ChannelCredentials | None, plaintext: bool | None) -> bool:
    if plaintext and credentials:
        raise ValueError("credentials are for TLS: leave them or `plaintext` out")
    return credentials is None and _is_loopback(target) if plaintext is None else plaintext


def _is_loopback(target: str) -> bool:
    """Whether the target is this machine. Names other than localhost are not looked up."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    found = re.fullmatch(r"(?:(?:dns:(?:///)?)|ipv4:|ipv6:)?(?:\[([^]]*)\]|([^:/,]*))(?::\d+)?", target)
    host = (found[1] or found[2] or "") if found else target
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _checked(token: str) -> str:
    """The token; one that no header carries is refused here, where it is not shown."""
    if not re.fullmatch(r"[!-~]*", token):
        raise ValueError("a token is printable ASCII without spaces")
    return token

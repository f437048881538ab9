"""What single settings may be. Pure: functions from a given value to the checked one, or ValueError."""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

__all__ = [
    "backup_url",
    "comma_separated",
    "endpoint_limits",
    "hosts",
    "is_loopback_host",
    "key_set_location",
    "listen",
    "networks",
    "proxy_url",
    "url",
]


_BEGINNING = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)  # of an endpoint id


def comma_separated(value: Any) -> Any:
    """Several words, comma-separated."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def networks(value: tuple[str, ...]) -> tuple[str, ...]:
    """Networks as CIDR, or single addresses."""
    for one in value:
        try:
            ipaddress.ip_network(one)
        except ValueError:
            raise ValueError(f"must be networks such as 127.0.0.1/32: {one!r} is none") from None
    return value


def hosts(value: Any) -> Any:
    """Host names, comma-separated."""
    if isinstance(value, str):
        return tuple(part.strip().lower() for part in value.split(",") if part.strip())
    return value


def endpoint_limits(value: Any) -> Any:
    """`fal-ai/flux=20,fal-ai=200`, or a table of the same."""
    if isinstance(value, str):
        value = [part.rpartition("=")[::2] for part in value.split(",") if part.strip()]
    elif isinstance(value, Mapping):
        value = list(value.items())
    limits: dict[str, int] = {}
    try:
        for pattern, limit in value:
            name = pattern.strip()
            is_number = re.fullmatch("[1-9][0-9]{0,8}", str(limit).strip())
            if not is_number or not _BEGINNING.fullmatch(name) or name in limits:
                raise ValueError
            limits[name] = int(limit)
    except (AttributeError, TypeError, ValueError):
        raise ValueError(
            "must be beginnings of endpoint ids, each once, with a limit of 1 or more: fal-ai/flux=20"
        ) from None
    return tuple(limits.items())


def url(value: str) -> str:
    """A base URL that the key may be sent to."""
    if not value:
        return value
    scheme, host = _parts(value)
    if scheme == "http" and not is_loopback_host(host):
        raise ValueError("must be https, since the key is sent there; http is for loopback addresses only")
    return value.rstrip("/")


def backup_url(value: str) -> str:
    """A base URL, or `none`: an empty variable would count as not set."""
    return "" if value == "none" else url(value)


def proxy_url(value: str) -> str:
    """The URL of an HTTP proxy."""
    if value and _parts(value)[0] != "http":
        raise ValueError("must be an http URL; what goes through the proxy is TLS to fal all the same")
    return value


def key_set_location(value: str) -> str:
    """A file, or a URL whose answer may be believed; it may have a query."""
    if "://" in value:
        scheme, host = _parts(value.partition("?")[0])
        if scheme == "http" and not is_loopback_host(host):
            raise ValueError(
                "must be https, since its keys are believed; http is for loopback addresses only"
            )
        if "#" in value:
            raise ValueError("must not have a fragment")
    return value


def listen(value: str) -> str:
    """`host:port`."""
    host, separator, port = value.rpartition(":")
    if not separator or not host or not port.isdigit() or int(port) > 65_535:
        raise ValueError("must be host:port, for instance 127.0.0.1:50051 or [::]:50051")
    return value


def is_loopback_host(host: str) -> bool:
    """Whether a host name or address is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _parts(value: str) -> tuple[str, str]:
    """Scheme and host of a plain http or https URL."""
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("must be a URL") from None
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc:
        raise ValueError("must be an http or https URL without a user name")
    if parts.query or parts.fragment:
        raise ValueError("must not have a query or fragment")
    return parts.scheme, host

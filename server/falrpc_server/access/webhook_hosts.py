"""Hosts that webhooks may go to: whose URL it is, and which patterns admit it. Pure.

A URL that two parsers could read in two ways has no host here, and so is admitted by no pattern.
"""

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

__all__ = ["host_of", "matching", "parse"]

_SUBDOMAINS = "*."
_URL = re.compile(r"[!-\[\]-~]{1,2048}")  # visible ASCII without the backslash
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})+")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def parse(text: str) -> str:
    """A pattern in the form that is compared: `hooks.example.com`, `*.example.com`. Raises ValueError."""
    name = text.removeprefix(_SUBDOMAINS)
    host = _host(name.lower())
    if host is None or (name != text and _is_address(host)):
        raise ValueError(
            "must be a host such as hooks.example.com, or *.example.com for all below it, "
            "without scheme, port or path"
        )
    return host if name == text else _SUBDOMAINS + host


def host_of(url: str) -> str | None:
    """The host of an https URL in the form that is compared; None when it is not plain to see."""
    if not _URL.fullmatch(url):
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    authority = _AUTHORITY.fullmatch(parts.netloc.lower())
    return _host(authority[1]) if authority and parts.scheme == "https" else None


def matching(url: str, patterns: Iterable[str]) -> str | None:
    """The first pattern that admits the URL."""
    host = host_of(url)
    if host is None:
        return None
    for pattern in patterns:
        is_below = pattern.startswith(_SUBDOMAINS) and host.endswith(pattern[1:])
        if host == pattern or (is_below and not _is_address(host)):
            return pattern
    return None


def _host(text: str) -> str | None:
    """A name without the dot of the root, or an address in its shortest form."""
    if _is_address(text):
        return str(ipaddress.ip_address(text.strip("[]")))
    name = text.removesuffix(".")
    is_number = _NUMBER.fullmatch(name.rpartition(".")[2]) is not None  # an address to some resolvers
    return name if _NAME.fullmatch(name) and not is_number else None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return "%" not in text

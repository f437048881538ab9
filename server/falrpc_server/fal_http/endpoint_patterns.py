"""Patterns of endpoint ids: beginnings in whole parts. Pure.

`fal-ai/flux` is for itself and for `fal-ai/flux/dev`, not for `fal-ai/flux-pro`.
"""

from collections.abc import Container

from falrpc_server.fal_http.models import is_endpoint_beginning

__all__ = ["check", "matching"]


def matching(endpoint_id: str, patterns: Container[str]) -> str | None:
    """The longest pattern that an endpoint falls under."""
    parts = endpoint_id.split("/")
    for length in range(len(parts), 0, -1):
        if (pattern := "/".join(parts[:length])) in patterns:
            return pattern
    return None


def check(pattern: str) -> None:
    """Raises ValueError for what is not the beginning of any endpoint id."""
    if not is_endpoint_beginning(pattern):
        raise ValueError("must be an endpoint id or its first parts: fal-ai, fal-ai/flux, workflows/me")

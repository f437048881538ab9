"""Proof that a queue request belongs to a tenant: the `ownership_token` of its handle. Pure.

Where several tenants share a fal key, fal would show each of them the requests of all. So a handle carries a
keyed signature over the tenant, the endpoint as fal's queue knows it, and the request's id. Nothing is kept:
any process with the same keys verifies it.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence

from falrpc_server.fal_http.models import RequestRef

__all__ = ["KEY_CHARACTERS_MIN", "Ownership", "read_keys"]

KEY_CHARACTERS_MIN = 32
KEYS_MAX = 16
TOKEN_CHARACTERS_MAX = 128

_VERSION = "1"
_PURPOSE = b"falrpc request handle 1"


class Ownership:
    """Signs and verifies. Without keys it does neither: every handle is everybody's."""

    def __init__(self, keys: Sequence[str] = ()) -> None:
        """Takes the keys: the first one signs, all verify."""
        self._keys = {_id(key): key.encode() for key in keys}
        self._signing_id = _id(keys[0]) if keys else ""

    def token(self, tenant: str, ref: RequestRef) -> str:
        """The token of a tenant's request; empty without keys."""
        if not self._signing_id:
            return ""
        signature = _signature(self._keys[self._signing_id], tenant, ref)
        return f"{_VERSION}.{self._signing_id}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"

    def is_owner(self, tenant: str, ref: RequestRef) -> bool:
        """Whether the handle's token proves that the request is the tenant's."""
        if not self._signing_id:
            return True
        version, _, rest = ref.ownership_token[:TOKEN_CHARACTERS_MAX].partition(".")
        key_id, _, given = rest.partition(".")
        key = self._keys.get(key_id)
        if version != _VERSION or key is None or not given.isascii():
            return False
        expected = base64.urlsafe_b64encode(_signature(key, tenant, ref)).rstrip(b"=").decode()
        return hmac.compare_digest(given, expected)


def read_keys(text: str) -> tuple[str, ...]:
    """The keys of a file: one a line, empty lines left out. Raises ValueError."""
    keys = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not keys:
        raise ValueError("has no key")
    if len(keys) > KEYS_MAX:
        raise ValueError(f"has more than {KEYS_MAX} keys")
    short = [number for number, key in enumerate(keys, 1) if len(key) < KEY_CHARACTERS_MIN]
    if short:
        raise ValueError(f"key {short[0]} is shorter than {KEY_CHARACTERS_MIN} characters")
    if len(set(keys)) < len(keys):
        raise ValueError("has a key twice")
    return keys


def _id(key: str) -> str:
    """Names a key in tokens, and tells nothing about it."""
    return hashlib.sha256(b"falrpc key id 1" + key.encode()).hexdigest()[:8]


def _signature(key: bytes, tenant: str, ref: RequestRef) -> bytes:
    parts = (tenant, ref.endpoint.queue_base, ref.request_id)
    # Each with its length: no two requests have the same text.
    text = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)
    return hmac.digest(key, _PURPOSE + text, "sha256")

"""The keys that sign callers' JWTs: a JWK set (RFC 7517), read into public keys. Pure.

A key that does not fit is left out, and told: one that is symmetric, since whoever verifies with it could
sign; one whose private part lies open, since anyone could; one that is for something else, weak, or of a kind
that is not known here. A set of which no key is left does not count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import jwt

from falrpc_server.access.identities import unproven
from falrpc_server.access.json_objects import read_object, shown

__all__ = ["FixedKeys", "KeySet", "KeySetError", "Keys"]

KEYS_MAX = 100
RSA_BITS = range(2_048, 8_193)

_BY_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_BY_CURVE = {
    ("EC", "P-256"): "ES256",
    ("EC", "P-384"): "ES384",
    ("EC", "P-521"): "ES512",
    ("OKP", "Ed25519"): "EdDSA",
}
_NEWER_NAMES = {"Ed25519": "EdDSA"}  # RFC 9864


class KeySetError(Exception):
    """A text that is no JWK set, or one without a key that counts."""


@dataclass(frozen=True, slots=True)
class _Key:
    kid: str | None
    algorithms: frozenset[str]
    public_key: Any = field(repr=False)


class KeySet:
    """The keys of a set that count.

    Attributes:
        ignored: What was left out and why, a sentence each.
    """

    def __init__(self, keys: Sequence[_Key], ignored: Sequence[str]) -> None:
        self._keys = tuple(keys)
        self._kids = frozenset(key.kid for key in keys)
        self.ignored = tuple(ignored)

    def __len__(self) -> int:
        return len(self._keys)

    @classmethod
    def read(cls, text: str | bytes, algorithms: Sequence[str]) -> "KeySet":
        """Reads a set. Raises KeySetError.

        Args:
            text: JSON.
            algorithms: Those that JWTs may be signed with.
        """
        try:
            listed = read_object(text).get("keys")
        except ValueError as error:
            raise KeySetError(f"is no JWK set: {error}") from None
        if not isinstance(listed, list):
            raise KeySetError("is no JWK set: it has no list `keys`")
        if len(listed) > KEYS_MAX:
            raise KeySetError(f"has {len(listed)} keys, of at most {KEYS_MAX}")
        keys: list[_Key] = []
        ignored: list[str] = []
        for number, value in enumerate(listed):
            kid = value.get("kid") if isinstance(value, Mapping) else None
            name = f"keys[{number}]" + (f" ({shown(kid)})" if isinstance(kid, str) else "")
            try:
                keys.append(_key(value, frozenset(algorithms)))
            except ValueError as error:
                ignored.append(f"{name}: {error}")
        for number, key in enumerate(keys):
            if any(key.kid == other.kid and key.algorithms & other.algorithms for other in keys[:number]):
                raise KeySetError(f"has two keys with the same `kid` ({shown(key.kid or '')})")
        if not keys:
            raise KeySetError("; ".join(["has no key that counts", *ignored[:5]]))
        return cls(keys, ignored)

    def knows(self, kid: str) -> bool:
        """Whether there is a key of this name."""
        return kid in self._kids

    def find(self, kid: str | None, algorithm: str) -> Any:
        """The public key that a token names; the only one when it names none. Raises Refusal."""
        if kid is None and len(self._keys) != 1:
            raise unproven("the JWT does not name its key, and there are several")
        named = [key for key in self._keys if kid is None or key.kid == kid]
        if not named:
            raise unproven(f"the JWT names a key that is not known: {shown(kid or '')}")
        fitting = [key for key in named if algorithm in key.algorithms]
        if not fitting:
            raise unproven(f"the JWT's key is not for {algorithm}")
        return fitting[0].public_key


class Keys(Protocol):
    """Where keys come from."""

    async def for_kid(self, kid: str | None) -> KeySet:
        """The set in force, in which a token's key is looked for. Raises Refusal when there is none."""
        ...


class FixedKeys:
    """Keys that somebody else reads anew, from a file."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys

    def replace(self, keys: KeySet) -> None:
        """Takes other keys from now on."""
        self._keys = keys

    async def for_kid(self, kid: str | None) -> KeySet:
        return self._keys


def _key(jwk: Any, algorithms: frozenset[str]) -> _Key:
    """One key. Raises ValueError for one that does not count, which repeats nothing of it."""
    if not isinstance(jwk, Mapping):
        raise ValueError("is no JSON object")
    kid, use, operations, named = (jwk.get(name) for name in ("kid", "use", "key_ops", "alg"))
    if kid is not None and not isinstance(kid, str):
        raise ValueError("its `kid` is not text")
    if jwk.get("kty") == "oct":
        raise ValueError("is symmetric: whoever verifies with it could sign")
    if "d" in jwk:
        raise ValueError("its private part lies open: anyone could sign with it")
    if use not in (None, "sig"):
        raise ValueError("is not for signatures (`use`)")
    if operations is not None and (not isinstance(operations, list) or "verify" not in operations):
        raise ValueError("is not for verifying (`key_ops`)")
    fitting = _algorithms(jwk)
    if isinstance(named, str):
        fitting &= {_NEWER_NAMES.get(named, named)}
    elif named is not None:
        raise ValueError("its `alg` is not text")
    if not (fitting := fitting & algorithms):
        raise ValueError("is for none of the algorithms that JWTs may be signed with")
    return _Key(kid, fitting, _public_key(jwk, min(fitting)))


def _algorithms(jwk: Mapping[str, Any]) -> frozenset[str]:
    """The algorithms that fit a key's kind and curve."""
    kind, curve = jwk.get("kty"), jwk.get("crv")
    if kind == "RSA":
        return _BY_RSA
    if isinstance(kind, str) and isinstance(curve, str) and (kind, curve) in _BY_CURVE:
        return frozenset({_BY_CURVE[kind, curve]})
    raise ValueError("is of a kind or curve that is not known here")


def _public_key(jwk: Mapping[str, Any], algorithm: str) -> Any:
    try:
        key = jwt.PyJWK(dict(jwk), algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"can't be read: {type(error).__name__}") from None
    if jwk["kty"] == "RSA" and key.key_size not in RSA_BITS:
        raise ValueError(f"has {key.key_size} bits, not {RSA_BITS[0]} to {RSA_BITS[-1]}")
    return key

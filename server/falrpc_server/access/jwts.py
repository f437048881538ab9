"""Identities from JWTs (RFC 7519, RFC 8725): signature by PyJWT, and what else must be true of one. Pure.

Of a token's header only `alg` and `kid` are used. Keys and addresses of keys that it may bring (`jwk`, `jku`,
`x5c`, `x5u`) are never looked at.
"""

import base64
import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt

from falrpc_server.access.identities import identity_problem, unproven
from falrpc_server.access.json_objects import read_object
from falrpc_server.access.jwk_sets import KeySet

__all__ = ["Header", "JwtRules", "Verifier", "is_jwt"]

VERIFIED_MAX = 4_096  # tokens that are remembered

_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_SECONDS_MAX = 2**40
_OPTIONS: Any = {
    "enforce_minimum_key_length": True,
    # Times are compared below, with a clock that is given and numbers that are numbers.
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
}


@dataclass(frozen=True, slots=True)
class JwtRules:
    """What a token must be.

    Attributes:
        issuer: Its `iss`, exactly.
        audience: What its `aud` must be or contain.
        algorithms: What it may be signed with.
        identity_claim: Which claim is the caller's identity.
        skew_seconds: How much the issuer's clock may differ.
    """

    issuer: str
    audience: str
    algorithms: Sequence[str]
    identity_claim: str = "sub"
    skew_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Header:
    """What a token says of its signature: nothing of it is proven yet."""

    algorithm: str
    kid: str | None


@dataclass(frozen=True, slots=True)
class _Verified:
    identity: str
    begins: float
    ends: float


def is_jwt(token: str) -> bool:
    """Whether a text has the form of a signed JWT."""
    return bool(_JWT.fullmatch(token))


class Verifier:
    """Verifies tokens, and remembers those that it has verified: a signature costs time."""

    def __init__(self, rules: JwtRules, verified_max: int = VERIFIED_MAX) -> None:
        self._rules = rules
        self._verified_max = verified_max
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()
        self._verified_with: KeySet | None = None
        self._jwt = _Jwt()

    def header(self, token: str) -> Header:
        """Which key a token needs. Raises Refusal for one that can't be accepted whatever the key."""
        if not is_jwt(token):
            raise unproven("the bearer token is no JWT")
        try:
            header = read_object(_decoded(token.partition(".")[0]))
        except ValueError as error:
            raise unproven(f"the JWT's header can't be read: {error}") from None
        algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ")
        if not isinstance(algorithm, str) or algorithm not in self._rules.algorithms:
            raise unproven("the JWT is signed with another algorithm")
        if "crit" in header or "b64" in header:
            raise unproven("the JWT wants extensions that are not known here")
        if kid is not None and not isinstance(kid, str):
            raise unproven("the JWT's `kid` is not text")
        if kind is not None and (not isinstance(kind, str) or kind.lower() not in _TYPES):
            raise unproven("the JWT is of another type")
        return Header(algorithm, kid)

    def identity(self, token: str, header: Header, keys: KeySet, now: float) -> str:
        """Whose token it is. Raises Refusal.

        Args:
            token: What the caller sent.
            header: Of the same token.
            keys: Those in force.
            now: Seconds since 1970.
        """
        if keys is not self._verified_with:
            self._verified.clear()
            self._verified_with = keys
        digest = hashlib.sha256(token.encode()).digest()
        verified = self._verified.get(digest)
        if verified is None:
            verified = self._verify(token, header, keys)
            _check_time(verified, now)
            self._verified[digest] = verified
            if len(self._verified) > self._verified_max:
                self._verified.popitem(last=False)
        else:
            _check_time(verified, now)
            self._verified.move_to_end(digest)
        return verified.identity

    def _verify(self, token: str, header: Header, keys: KeySet) -> _Verified:
        rules, skew = self._rules, self._rules.skew_seconds
        try:
            claims = self._jwt.decode(
                token,
                keys.find(header.kid, header.algorithm),
                algorithms=[header.algorithm],
                issuer=rules.issuer,
                audience=rules.audience,
                options=_OPTIONS,
            )
        except jwt.PyJWTError as error:
            # The library's sentences may repeat what the token says.
            raise unproven(f"the JWT does not count: {type(error).__name__}") from None
        identity = claims.get(rules.identity_claim)
        if problem := identity_problem(identity):
            raise unproven(f"the JWT's claim `{rules.identity_claim}` {problem}")
        ends = _seconds(claims, "exp")
        if ends is None:
            raise unproven("the JWT has no `exp`")
        begins = max(_seconds(claims, "nbf") or 0.0, _seconds(claims, "iat") or 0.0)
        return _Verified(str(identity), begins - skew, ends + skew)


class _Jwt(jwt.PyJWT):
    """PyJWT with claims that can be read in one way only."""

    def _decode_payload(self, decoded: dict[str, Any]) -> dict[str, Any]:
        try:
            return read_object(decoded["payload"])
        except ValueError as error:
            raise jwt.DecodeError(str(error)) from None


def _check_time(verified: _Verified, now: float) -> None:
    if now >= verified.ends:
        raise unproven("the JWT has expired")
    if now < verified.begins:
        raise unproven("the JWT is not in force yet")


def _seconds(claims: Mapping[str, Any], name: str) -> float | None:
    """A time of the token's, None when it has none. Raises Refusal."""
    value = claims.get(name)
    if name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _SECONDS_MAX:
        raise unproven(f"the JWT's `{name}` is no time")
    return float(value)


def _decoded(part: str) -> bytes:
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise ValueError("not base64url") from None

"""Who calls: the ways to prove it, and the one answer to those who do not.

Which way failed and why goes to the log only; the caller is told the same sentence whatever was wrong.
"""

import functools
import ipaddress
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from falrpc_server.access.certificates import (
    FORWARDED_HEADER,
    IdentityRule,
    certificate_names,
    certificate_pem,
    forwarded_names,
    is_within,
)
from falrpc_server.access.identities import unproven
from falrpc_server.access.jwk_sets import Keys
from falrpc_server.access.jwts import JwtRules, Verifier, is_jwt
from falrpc_server.access.refusals import Kind, Refusal
from falrpc_server.access.tokens import Tokens

__all__ = [
    "ANONYMOUS",
    "Authentication",
    "Authenticator",
    "ByCertificate",
    "ByForwardedCertificate",
    "ByJwt",
    "ByToken",
    "Peer",
]

ANONYMOUS = "anonymous"
"""Everyone's identity where nobody is authenticated."""

CERTIFICATES_MAX = 1_024  # that are remembered

_BEARER = re.compile(r"bearer ([A-Za-z0-9._~+/-]+=*)", re.ASCII | re.IGNORECASE)
_ACCEPTED = {
    "mtls": "a client certificate",
    "forwarded-certificate": "a client certificate, of which the proxy tells",
    "jwt": "a JWT as metadata `authorization: Bearer ...`",
    "tokens": "a token as metadata `authorization: Bearer ...`",
}


@dataclass(frozen=True, slots=True)
class Peer:
    """What grpc tells of who calls.

    Attributes:
        address: As grpc writes it: `ipv4:127.0.0.1:1234`, `ipv6:%5B::1%5D:1234`, `unix:`.
        certificate: Its auth_context().
        metadata: What the call brings, checked (metadata.py).
    """

    address: str
    certificate: Mapping[str, Sequence[bytes]]
    metadata: Sequence[tuple[str, str | bytes]]


class Authenticator(Protocol):
    """One way to prove who calls."""

    @property
    def method(self) -> str:
        """Its name in FALRPC_AUTH."""
        ...

    async def identity(self, peer: Peer) -> str:
        """Who calls. Raises Refusal."""
        ...


class Authentication:
    """Says who calls."""

    def __init__(self, authenticators: Sequence[Authenticator]) -> None:
        """Without any, everyone is ANONYMOUS.

        Args:
            authenticators: The ways that are accepted: one, or `jwt` and `tokens`.
        """
        self._by_method = {one.method: one for one in authenticators}
        if len(self._by_method) != len(authenticators):
            raise ValueError("a method is there twice")
        if len(authenticators) > 1 and set(self._by_method) != {"jwt", "tokens"}:
            raise ValueError("only jwt and tokens go together")
        accepted = " or ".join(_ACCEPTED[method] for method in sorted(self._by_method))
        self._text = f"the caller is not authenticated; accepted is {accepted}"

    async def identify(self, peer: Peer) -> str:
        """Who calls. Raises Refusal."""
        if not self._by_method:
            return ANONYMOUS
        try:
            return await self._authenticator(peer).identity(peer)
        except Refusal as refusal:
            if refusal.kind is not Kind.UNAUTHENTICATED:
                raise
            cause = refusal.cause
        raise Refusal(Kind.UNAUTHENTICATED, "CALLER_UNAUTHENTICATED", self._text, cause=cause)

    def _authenticator(self, peer: Peer) -> Authenticator:
        """The one that decides: what has a JWT's form never counts as a static token, nor the other way."""
        if len(self._by_method) == 1:
            return next(iter(self._by_method.values()))
        return self._by_method["jwt" if is_jwt(_bearer(peer)) else "tokens"]


class ByCertificate:
    """By the certificate with which the client connected."""

    method = "mtls"

    def __init__(self, rule: IdentityRule, now: Callable[[], float] = time.time) -> None:
        self._rule = rule
        self._now = now
        # Reading one takes some 50 µs, and a client calls more than once.
        self._names = functools.lru_cache(CERTIFICATES_MAX)(certificate_names)

    async def identity(self, peer: Peer) -> str:
        names = self._names(certificate_pem(peer.certificate))
        if not names.begins <= self._now() < names.ends:
            raise unproven("the client's certificate is not in force")
        return self._rule.identity(names)


class ByForwardedCertificate:
    """By the certificate of which a sidecar tells that it has verified it."""

    method = "forwarded-certificate"

    def __init__(self, rule: IdentityRule, networks: Sequence[str]) -> None:
        """Takes the networks of sidecars, as CIDR: nobody else's header is looked at."""
        self._rule = rule
        self._networks = [ipaddress.ip_network(network) for network in networks]

    async def identity(self, peer: Peer) -> str:
        if not is_within(peer.address, self._networks):
            raise unproven(f"the peer is no sidecar; its {FORWARDED_HEADER} would be ignored")
        names = forwarded_names(peer.metadata)
        if self._rule.kind == "dns" and any(names.uris):
            raise unproven(
                "the sidecar tells of a URI name, too: what looks like a DNS name may be a part of it"
            )
        return self._rule.identity(names)


class ByToken:
    """By a static token."""

    method = "tokens"

    def __init__(self, tokens: Tokens, now: Callable[[], float] = time.time) -> None:
        self._tokens = tokens
        self._now = now

    def replace(self, tokens: Tokens) -> None:
        """Takes another file's tokens from now on."""
        self._tokens = tokens

    async def identity(self, peer: Peer) -> str:
        return self._tokens.identity(_bearer(peer), self._now())


class ByJwt:
    """By a JWT."""

    method = "jwt"

    def __init__(self, rules: JwtRules, keys: Keys, now: Callable[[], float] = time.time) -> None:
        self._verifier = Verifier(rules)
        self._keys = keys
        self._now = now

    async def identity(self, peer: Peer) -> str:
        token = _bearer(peer)
        header = self._verifier.header(token)
        keys = await self._keys.for_kid(header.kid)
        return self._verifier.identity(token, header, keys, self._now())


def _bearer(peer: Peer) -> str:
    """The bearer token that a call brings. Raises Refusal."""
    values = [value for name, value in peer.metadata if name == "authorization"]
    if not values:
        raise unproven("there is no authorization")
    if len(values) > 1:
        raise unproven("there is more than one authorization")
    found = _BEARER.fullmatch(values[0]) if isinstance(values[0], str) else None
    if not found:
        raise unproven("the authorization is no bearer token")
    return found[1]

"""Identities from certificates: the client's own, or one of which a sidecar tells. Pure.

The client's is read from its PEM. The names that grpc lists beside it will not do: in
`x509_subject_alternative_name` one can't tell kinds apart, and grpc cuts each name at a NUL, `peer_spiffe_id`
too, so that who is certified as `spiffe://example/a\\0b` would pass for `spiffe://example/a`.
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from cryptography import x509
from cryptography.x509.oid import NameOID

from falrpc_server.access.identities import identity_problem, unproven

__all__ = [
    "FORWARDED_HEADER",
    "IdentityRule",
    "Names",
    "certificate_names",
    "certificate_pem",
    "forwarded_names",
    "is_within",
]

FORWARDED_HEADER = "x-forwarded-client-cert"
SPIFFE_ID_BYTES_MAX = 2_048  # of the SPIFFE ID standard, section 2.3

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Without port, user, query, fragment and percent signs; `.` and `..` are looked for apart.
_SPIFFE = re.compile(r"spiffe://([a-z0-9._-]+)((?:/[a-z0-9._-]+)+)", re.ASCII | re.IGNORECASE)
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_DNS = re.compile(rf"{_LABEL}(\.{_LABEL})*", re.ASCII)
_PAIR = re.compile(r'([A-Za-z]+)=(?:"((?:[^"\\]|\\.)*)"|([^",;=]*))', re.DOTALL)
_SEVERAL = frozenset({"by", "uri", "dns"})
_SINGLE = frozenset({"hash", "cert", "chain", "subject"})
_LAST = {"uri": 1, "dns": 2}
_QUOTED = frozenset({"cert", "chain", "subject"})


@dataclass(frozen=True, slots=True)
class Names:
    """What a certificate calls its subject.

    Attributes:
        uris, dns: Its alternative names of these kinds.
        common_names: Of its subject.
        is_authority: Whether it is an authority's, which signs others.
        begins, ends: When it is in force, as seconds since 1970.
    """

    uris: Sequence[str] = ()
    dns: Sequence[str] = ()
    common_names: Sequence[str] = ()
    is_authority: bool = False
    begins: float = float("-inf")
    ends: float = float("inf")


@dataclass(frozen=True, slots=True)
class IdentityRule:
    """Which of the names is the identity.

    Attributes:
        kind: As in FALRPC_CERTIFICATE_IDENTITY.
        trust_domain: Of SPIFFE ids.
    """

    kind: Literal["spiffe", "dns", "common-name"]
    trust_domain: str = ""

    def identity(self, names: Names) -> str:
        """The one name that counts. Raises Refusal when there is none, or more than one."""
        if self.kind == "spiffe":
            return self._spiffe(names)
        if self.kind == "dns":
            name = _only(names.dns, "DNS name").lower()
            if len(name) > 253 or not _DNS.fullmatch(name):
                raise unproven("the certificate's DNS name is no host's name")
            return name
        name = _only(names.common_names, "common name")
        if problem := identity_problem(name):
            raise unproven(f"the certificate's common name {problem}")
        return name

    def _spiffe(self, names: Names) -> str:
        uri = _only(names.uris, "URI name")
        found = _SPIFFE.fullmatch(uri)
        if not found or len(uri) > SPIFFE_ID_BYTES_MAX:
            raise unproven("the certificate's URI name is no SPIFFE id of a workload")
        domain, path = found[1].lower(), found[2]
        if any(segment in (".", "..") for segment in path.split("/")):
            raise unproven("the certificate's SPIFFE id has a relative path")
        if domain != self.trust_domain.lower():
            raise unproven("the certificate's SPIFFE id is of another trust domain")
        if names.is_authority:
            raise unproven("the certificate is an authority's, not a workload's")
        return f"spiffe://{domain}{path}"


def certificate_pem(auth_context: Mapping[str, Sequence[bytes]]) -> bytes:
    """The client's certificate. Raises Refusal when grpc tells of none.

    That it is signed by an authority of ours was seen to in the handshake. That it is in force was, too, but
    not when a session was resumed, and connections live long.
    """
    if list(auth_context.get("transport_security_type", ())) != [b"ssl"]:
        raise unproven("the connection is not TLS")
    pem = auth_context.get("x509_pem_cert", ())
    if len(pem) != 1:
        raise unproven("the client has no certificate")
    return pem[0]


def certificate_names(pem: bytes) -> Names:
    """The names in a certificate. Raises Refusal."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        common_names = [a.value for a in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        extensions = certificate.extensions
    except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise unproven(f"the client's certificate can't be read: {type(error).__name__}") from None
    if not all(isinstance(name, str) for name in common_names):
        raise unproven("the client's certificate has a common name that is not text")
    uris: Sequence[str] = ()
    dns: Sequence[str] = ()
    is_authority = False
    for extension in extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            uris = extension.value.get_values_for_type(x509.UniformResourceIdentifier)
            dns = extension.value.get_values_for_type(x509.DNSName)
        elif isinstance(extension.value, x509.BasicConstraints):
            is_authority = extension.value.ca
    begins, ends = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    return Names(uris, dns, [str(name) for name in common_names], is_authority, begins, ends)


def forwarded_names(metadata: Sequence[tuple[str, str | bytes]]) -> Names:
    """The names that a sidecar tells in `x-forwarded-client-cert`, as Envoy writes it. Raises Refusal.

    Envoy puts URI and DNS names there as they are, unquoted and whatever they are made of: first all URI
    names, or an empty one, then all DNS names at the end. So what does not read as one element in that order,
    with each key as often as it may be, is refused: a `;` or `,` in a name makes one key or element too many.
    Quotes around such a name are its own. What can't be told is whether a DNS name behind a URI name is one.
    """
    values = [value for name, value in metadata if name == FORWARDED_HEADER]
    if len(values) != 1 or not isinstance(values[0], str):
        raise unproven(f"there is not exactly one {FORWARDED_HEADER}")
    found: dict[str, list[str]] = {}
    last = 0
    for key, value in _pairs(values[0]):
        place = _LAST.get(key, 0)
        if key not in _SEVERAL | _SINGLE or (key in _SINGLE and key in found) or place < last:
            raise unproven(f"{FORWARDED_HEADER} has a key that it may not have, or not there, or not twice")
        last = place
        found.setdefault(key, []).append(value)
    return Names(found.get("uri", ()), found.get("dns", ()), _common_names(found.get("subject", ())))


def is_within(address: str, networks: Sequence[Network]) -> bool:
    """Whether a peer, as grpc writes it, is in one of the networks; IPv4 in IPv6 counts as IPv4."""
    scheme, _, rest = address.partition(":")
    host, separator, _ = unquote(rest).rpartition(":")
    if scheme not in ("ipv4", "ipv6") or not separator:
        return False
    try:
        peer = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped:
        peer = peer.ipv4_mapped
    return any(peer in network for network in networks)


def _only(names: Sequence[str], kind: str) -> str:
    if len(names) != 1:
        raise unproven(f"the certificate has {len(names)} {kind}s, not exactly one")
    return names[0]


def _pairs(header: str) -> list[tuple[str, str]]:
    """Keys, in small letters, and values of the header's one element. Raises Refusal."""
    pairs, position = [], 0
    while True:
        found = _PAIR.match(header, position)
        if not found:
            raise unproven(f"{FORWARDED_HEADER} can't be read")
        key, quoted, plain = found[1].lower(), found[2], found[3]
        if quoted is not None:
            plain = quoted if key in _QUOTED else f'"{quoted}"'
        pairs.append((key, plain))
        position = found.end()
        if position == len(header):
            return pairs
        if header[position] == ",":
            raise unproven(f"{FORWARDED_HEADER} has more than one element")
        if header[position] != ";":
            raise unproven(f"{FORWARDED_HEADER} can't be read")
        position += 1


def _common_names(subjects: Sequence[str]) -> list[str]:
    """The common names in a subject, written as RFC 4514 says. There a quote is escaped already."""
    names: list[str] = []
    for subject in subjects:
        try:
            attributes = x509.Name.from_rfc4514_string(subject)
        except ValueError:
            return []
        names += [str(a.value) for a in attributes.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return names

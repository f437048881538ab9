"""Identities from certificates: real handshakes with grpc, and what a sidecar tells."""

import asyncio
import datetime
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import grpc
import pytest
from tests.certificates import Authority

from falrpc_server.access.certificates import (
    IdentityRule,
    Names,
    certificate_names,
    certificate_pem,
    forwarded_names,
    is_within,
)
from falrpc_server.access.refusals import Kind, Refusal

SPIFFE = IdentityRule("spiffe", "prod.example")
DNS = IdentityRule("dns")
COMMON_NAME = IdentityRule("common-name")

AuthContext = Mapping[str, Sequence[bytes]]
Connect = Callable[..., Awaitable[AuthContext]]


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture
async def connect(authority: Authority) -> AsyncIterator[Connect]:
    """Calls a real server with a certificate made to order; grpc's auth_context() there."""
    seen: asyncio.Queue[AuthContext] = asyncio.Queue()

    class Handler(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> object:
            async def take(request: bytes, context: Any) -> bytes:
                seen.put_nowait(context.auth_context())
                return b""

            return grpc.unary_unary_rpc_method_handler(take)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers([Handler()])
    pair = authority.issue(dns=["localhost"])
    credentials = grpc.ssl_server_credentials([pair], authority.pem, require_client_auth=True)
    address = f"localhost:{server.add_secure_port('localhost:0', credentials)}"
    await server.start()

    async def call(signed_by: Authority | None = authority, **names: Any) -> AuthContext:
        own = signed_by.issue(**names) if signed_by else (None, None)
        client = grpc.ssl_channel_credentials(authority.pem, *own)
        async with grpc.aio.secure_channel(address, client) as channel:
            await channel.unary_unary("/a/b")(b"", timeout=20)
        return seen.get_nowait()

    yield call
    await server.stop(0)


async def names_of(connect: Connect, **names: Any) -> Names:
    return certificate_names(certificate_pem(await connect(**names)))


def refused(rule: IdentityRule, names: Names) -> str:
    with pytest.raises(Refusal) as caught:
        rule.identity(names)
    assert (caught.value.kind, caught.value.reason) == (Kind.UNAUTHENTICATED, "CALLER_UNAUTHENTICATED")
    return caught.value.cause


async def test_a_workloads_certificate(connect: Connect) -> None:
    """Kinds of names are told apart, and each rule finds its own."""
    context = await connect(
        uris=["spiffe://prod.example/team/backend"],
        dns=["Backend.prod.example"],
        ips=["10.0.0.1", "::1"],
        emails=["a@prod.example"],
        common_names=["backend 1"],
    )
    names = certificate_names(certificate_pem(context))
    assert SPIFFE.identity(names) == "spiffe://prod.example/team/backend"
    assert DNS.identity(names) == "backend.prod.example"
    assert COMMON_NAME.identity(names) == "backend 1"


async def test_a_name_of_another_kind_does_not_count(connect: Connect) -> None:
    """A DNS name or an address that reads like a SPIFFE id is none, nor is a URI a DNS name."""
    as_dns = await names_of(connect, dns=["spiffe://prod.example/x"])
    assert refused(SPIFFE, as_dns) == "the certificate has 0 URI names, not exactly one"
    as_mail = await names_of(connect, emails=["backend.prod.example"], ips=["10.0.0.1"])
    assert refused(DNS, as_mail) == "the certificate has 0 DNS names, not exactly one"
    as_uri = await names_of(connect, uris=["backend.prod.example"])
    assert refused(DNS, as_uri) == "the certificate has 0 DNS names, not exactly one"


async def test_a_name_with_a_nul_is_not_cut(connect: Connect) -> None:
    """grpc itself says `spiffe://prod.example/x` of a certificate for `spiffe://prod.example/x\\0y`: we do not."""
    context = await connect(uris=["spiffe://prod.example/x\0y"], dns=["a.example\0.evil.example"])
    assert list(context["peer_spiffe_id"]) == [b"spiffe://prod.example/x"]
    names = certificate_names(certificate_pem(context))
    assert refused(SPIFFE, names) == "the certificate's URI name is no SPIFFE id of a workload"
    assert refused(DNS, names) == "the certificate's DNS name is no host's name"


@pytest.mark.parametrize(
    "names",
    [
        pytest.param({"signed_by": None}, id="none"),
        pytest.param({"signed_by": Authority()}, id="another authority's"),
        pytest.param({"ends": datetime.timedelta(hours=-1)}, id="expired"),
    ],
)
async def test_what_the_handshake_refuses(connect: Connect, names: dict[str, Any]) -> None:
    """No certificate, one of another authority and one that has expired do not even connect."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await connect(uris=["spiffe://prod.example/x"], **names)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_an_authority_is_no_workload(connect: Connect) -> None:
    """A certificate that may sign others is no SPIFFE workload's."""
    names = await names_of(connect, uris=["spiffe://prod.example/x"], is_authority=True)
    assert refused(SPIFFE, names) == "the certificate is an authority's, not a workload's"


@pytest.mark.parametrize(
    "context",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"transport_security_type": [b"insecure"]}, id="cleartext"),
        pytest.param({"transport_security_type": [b"ssl"]}, id="no certificate"),
        pytest.param({"transport_security_type": [b"ssl"], "x509_pem_cert": [b"not PEM"]}, id="not PEM"),
        pytest.param({"transport_security_type": [b"ssl"], "x509_pem_cert": [b"", b""]}, id="two"),
        pytest.param(
            {"transport_security_type": [b"ssl"], "peer_spiffe_id": [b"spiffe://prod.example/x"]},
            id="grpc's word alone",
        ),
    ],
)
def test_without_a_certificate(context: AuthContext) -> None:
    """Where grpc tells of no certificate there are no names."""
    with pytest.raises(Refusal) as caught:
        certificate_names(certificate_pem(context))
    assert caught.value.kind is Kind.UNAUTHENTICATED


def test_two_certificates_do_not_count(authority: Authority) -> None:
    """Exactly one certificate is the client's."""
    pem = authority.issue(uris=["spiffe://prod.example/x"])[1]
    assert certificate_pem({"transport_security_type": [b"ssl"], "x509_pem_cert": [pem]}) == pem
    with pytest.raises(Refusal):
        certificate_pem({"transport_security_type": [b"ssl"], "x509_pem_cert": [pem, pem]})


def test_a_pem_without_tls_does_not_count(authority: Authority) -> None:
    """A certificate counts only with TLS around it."""
    pem = authority.issue(uris=["spiffe://prod.example/x"])[1]
    with pytest.raises(Refusal):
        certificate_pem({"transport_security_type": [b"local"], "x509_pem_cert": [pem]})


@pytest.mark.parametrize(
    ("given", "identity"),
    [
        ("spiffe://prod.example/a", "spiffe://prod.example/a"),
        ("SPIFFE://Prod.EXAMPLE/ns/Team/sa/a-b_c.d", "spiffe://prod.example/ns/Team/sa/a-b_c.d"),
        ("spiffe://prod.example/...", "spiffe://prod.example/..."),
        ("spiffe://prod.example/" + "a" * 2_026, "spiffe://prod.example/" + "a" * 2_026),
    ],
    ids=["plain", "capitals", "three dots", "as long as may be"],
)
def test_good_spiffe_ids(given: str, identity: str) -> None:
    """Scheme and trust domain are the same in capitals; the path is kept as it is."""
    assert SPIFFE.identity(Names(uris=[given])) == identity
    assert IdentityRule("spiffe", "PROD.example").identity(Names(uris=[given])) == identity


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://other.example/a",
        "spiffe://prod.example.evil/a",
        "spiffe://evil.prod.example/a",
        "spiffe://prod.example./a",
        "spiffe://prod.example",
        "spiffe://prod.example/",
        "spiffe://prod.example/a/",
        "spiffe://prod.example//a",
        "spiffe://prod.example/a//b",
        "spiffe://prod.example/.",
        "spiffe://prod.example/../a",
        "spiffe://prod.example/a/..",
        "spiffe://prod.example/a/./b",
        "spiffe://prod.example/%61",
        "spiffe://prod.example/a%2fb",
        "spiffe://prod.example/a b",
        "spiffe://prod.example/a*",
        "spiffe://prod.example/ä",
        "spiffe://prod.example/a\n",
        "spiffe://prod.example/a?b",
        "spiffe://prod.example/a#b",
        "spiffe://prod.example:443/a",
        "spiffe://user@prod.example/a",
        "spiffe:///a",
        "spiffe:prod.example/a",
        "https://prod.example/a",
        " spiffe://prod.example/a",
        "spiffe://prod.example/" + "a" * 2_027,
        "",
    ],
    ids=lambda uri: ascii(uri[:40]),
)
def test_bad_spiffe_ids(uri: str) -> None:
    """What is no SPIFFE id of a workload in the trust domain is nobody's identity."""
    refused(SPIFFE, Names(uris=[uri]))


def test_exactly_one_name() -> None:
    """None and two are refused, the same twice and one of another scheme beside the right one, too."""
    one, other = "spiffe://prod.example/a", "https://prod.example/a"
    for uris in ([], [one, one], [one, other], [other, one]):
        assert refused(SPIFFE, Names(uris=uris)) == (
            f"the certificate has {len(uris)} URI names, not exactly one"
        )
    for hosts in ([], ["a.example", "a.example"], ["a.example", "b.example"]):
        refused(DNS, Names(dns=hosts, common_names=["a.example"]))
    for names in ([], ["a", "a"], ["a", "b"]):
        refused(COMMON_NAME, Names(common_names=names, dns=["a"]))


@pytest.mark.parametrize(
    "host",
    ["*.example", "a.example.", ".a", "a..b", "-a", "a b", "ä.example", "a/b", "", "a" * 64, "a." * 127],
)
def test_bad_dns_names(host: str) -> None:
    """A wildcard is no one's name, nor is what can't be a host's."""
    refused(DNS, Names(dns=[host]))


@pytest.mark.parametrize("name", ["", " a", "a\n", "é", "a" * 201], ids=ascii)
def test_bad_common_names(name: str) -> None:
    """A common name is printable ASCII, at most 200 characters."""
    refused(COMMON_NAME, Names(common_names=[name]))
    assert COMMON_NAME.identity(Names(common_names=["a" * 200])) == "a" * 200


HASH = "Hash=d2cac817c1e146697bdff5561b2f5caeb020a562c3b11e5d01ffabfedad1a88f"
ENVOYS = f'By=spiffe://prod.example/envoy;{HASH};Subject="CN=back\\, end,O=Acme\\, Inc.";URI=spiffe://prod.example/a'


def forwarded(*headers: str | bytes) -> Names:
    return forwarded_names([("x-other", "a"), *(("x-forwarded-client-cert", h) for h in headers)])


@pytest.mark.parametrize(
    ("header", "names"),
    [
        (ENVOYS, Names(["spiffe://prod.example/a"], [], ["back, end"])),
        (f"{ENVOYS};DNS=a.example;DNS=b.example", Names(["spiffe://prod.example/a"], ["a.example", "b.example"], ["back, end"])),
        (f"By=;{HASH};URI=", Names([""])),
        ('uri="spiffe://prod.example/a"', Names(['"spiffe://prod.example/a"'])),
        ("By=a;By=b;URI=c;URI=d", Names(["c", "d"])),
        ('Subject="CN=a\\"\\;URI=b,O=c";URI=d', Names(["d"], [], ['a";URI=b'])),
        ('Subject="CN=a,CN=b"', Names([], [], ["b", "a"])),
        ('Subject=""', Names()),
        ('Subject="/C=US/CN=a"', Names()),
        ('Cert="-----BEGIN%20CERTIFICATE-----%0Aa%3D%3D";Chain="a";URI=b', Names(["b"])),
    ],
)  # fmt: skip
def test_what_envoy_writes(header: str, names: Names) -> None:
    """Keys, whether quoted or not, are read as Envoy writes them; names inside others are no names."""
    read = forwarded(header)
    assert (list(read.uris), list(read.dns), list(read.common_names)) == (
        list(names.uris),
        list(names.dns),
        list(names.common_names),
    )


@pytest.mark.parametrize(
    "header",
    [
        "",
        ";",
        ",",
        "URI",
        "=a",
        "URI=a;",
        "URI=a,",
        ",URI=a",
        "URI=a,URI=b",
        f"{ENVOYS},{ENVOYS}",
        'URI="a',
        'URI="a"b',
        'URI=a"b',
        'URI="a\\"',
        "URI=a;b",
        "URI=a=b",
        "URI =a",
        "Other=a;URI=b",
        "Hash=a;Hash=b;URI=c",
        'Subject="CN=a";Subject="CN=b"',
        "URI=spiffe://prod.example/a;DNS=admin,By=1",
        "DNS=a;URI=spiffe://prod.example/admin",
        'URI=x:y;Subject="CN=admin"',
        'DNS=a;Subject="CN=admin"',
        "URI=a;By=b",
        "DNS=a;Hash=b",
        f"By=;{HASH};URI=;DNS=a;URI=spiffe://prod.example/admin",
    ],
)
def test_what_envoy_does_not_write(header: str) -> None:
    """What does not read as one element, each key as often as it may be, is refused as a whole."""
    with pytest.raises(Refusal) as caught:
        forwarded(header)
    assert caught.value.kind is Kind.UNAUTHENTICATED


def test_exactly_one_header() -> None:
    """No header, two, and one of bytes are refused."""
    for headers in ((), (ENVOYS, ENVOYS), (ENVOYS, ""), (ENVOYS.encode(),)):
        with pytest.raises(Refusal):
            forwarded(*headers)


NETWORKS = [ipaddress.ip_network(n) for n in ("127.0.0.1/32", "10.1.0.0/16", "::1/128", "fd00::/8")]


@pytest.mark.parametrize(
    "address",
    [
        "ipv4:127.0.0.1:5",
        "ipv4:10.1.255.255:65535",
        "ipv6:%5B::1%5D:5",
        "ipv6:[::1]:5",
        "ipv6:%5Bfd00::1%25eth0%5D:5",
        "ipv6:%5B::ffff:127.0.0.1%5D:5",
        "ipv6:[::ffff:10.1.2.3]:5",
    ],
)
def test_peers_within(address: str) -> None:
    """Addresses as grpc writes them; IPv4 inside IPv6 counts as IPv4."""
    assert is_within(address, NETWORKS)


@pytest.mark.parametrize(
    "address",
    [
        "ipv4:127.0.0.2:5",
        "ipv4:10.2.0.1:5",
        "ipv6:%5B::2%5D:5",
        "ipv6:%5B::ffff:127.0.0.2%5D:5",
        "ipv6:%5B::127.0.0.1%5D:5",
        "ipv4:127.0.0.1",
        "ipv4:127.0.0.1.evil:5",
        "ipv4:0x7f.1:5",
        "ipv4::5",
        "unix:",
        "unix:/127.0.0.1:5",
        "vsock:127.0.0.1:5",
        "127.0.0.1:5",
        "unknown",
        "",
    ],
)
def test_peers_not_within(address: str) -> None:
    """Other addresses, and what is none, are in no network."""
    assert not is_within(address, NETWORKS)
    assert not is_within("ipv4:127.0.0.1:5", [])

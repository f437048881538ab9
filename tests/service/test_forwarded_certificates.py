"""What the real Envoy tells of clients' certificates, names made to deceive among them."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from tests.certificates import Authority
from tests.streams.envoy import TYPES, bootstrap, configured_envoy

from falrpc_server.access.authentication import Authentication, ByForwardedCertificate, Peer
from falrpc_server.access.certificates import IdentityRule
from falrpc_server.access.refusals import Refusal

SPIFFE = IdentityRule("spiffe", "prod.example")
DNS = IdentityRule("dns")
COMMON_NAME = IdentityRule("common-name")

Connect = Callable[..., Awaitable[Peer]]


@pytest.fixture(scope="module")
async def connect() -> AsyncIterator[Connect]:
    """Calls through Envoy with a certificate made to order, and a forged header; what arrives behind it."""
    seen: asyncio.Queue[Peer] = asyncio.Queue()

    class Handler(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> object:
            async def take(request: bytes, context: Any) -> bytes:
                metadata = list(context.invocation_metadata())
                seen.put_nowait(Peer(context.peer(), context.auth_context(), metadata))
                return b""

            return grpc.unary_unary_rpc_method_handler(take)

    authority = Authority()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    own = authority.issue(dns=["localhost"], uris=["spiffe://prod.example/envoy"])
    config = bootstrap(f"127.0.0.1:{port}", 30)
    (chain,) = config["static_resources"]["listeners"][0]["filter_chains"]
    chain["filters"][0]["typed_config"] |= {
        "forward_client_cert_details": "SANITIZE_SET",
        "set_current_client_cert_details": {"subject": True, "uri": True, "dns": True},
    }
    chain["transport_socket"] = _tls(authority, own)
    async with configured_envoy(json.dumps(config)) as envoy:
        address = f"localhost:{envoy.address.rpartition(':')[2]}"

        async def call(**names: Any) -> Peer:
            client = grpc.ssl_channel_credentials(authority.pem, *authority.issue(**names))
            async with grpc.aio.secure_channel(address, client) as channel:
                forged = (("x-forwarded-client-cert", "URI=spiffe://prod.example/admin"),)
                await channel.unary_unary("/a/b")(b"", timeout=20, metadata=forged)
            return seen.get_nowait()

        yield call
    await server.stop(0)


def _tls(authority: Authority, pair: tuple[bytes, bytes]) -> dict[str, Any]:
    key, certificate = ({"inline_string": pem.decode()} for pem in pair)
    return {
        "name": "tls",
        "typed_config": {
            "@type": f"{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": True,
            "common_tls_context": {
                "alpn_protocols": ["h2"],
                "tls_certificates": [{"certificate_chain": certificate, "private_key": key}],
                "validation_context": {"trusted_ca": {"inline_string": authority.pem.decode()}},
            },
        },
    }


async def identity(rule: IdentityRule, peer: Peer) -> str | None:
    try:
        return await Authentication([ByForwardedCertificate(rule, ["127.0.0.0/8"])]).identify(peer)
    except Refusal:
        return None


async def test_honest_certificates(connect: Connect) -> None:
    """Each rule finds its name in what Envoy tells; the client's own header is gone."""
    peer = await connect(
        uris=["spiffe://prod.example/team/a"],
        ips=["10.0.0.1"],
        common_names=['a, "b"; \\c=+#'],
    )
    assert await identity(SPIFFE, peer) == "spiffe://prod.example/team/a"
    assert await identity(DNS, await connect(dns=["a.example"], emails=["b@a.example"])) == "a.example"
    assert await identity(COMMON_NAME, peer) == 'a, "b"; \\c=+#'
    assert [name for name, _ in peer.metadata].count("x-forwarded-client-cert") == 1


@pytest.mark.parametrize(
    "names",
    [
        pytest.param({}, id="none"),
        pytest.param({"uris": ["spiffe://prod.example/a", "spiffe://prod.example/b"]}, id="two URIs"),
        pytest.param({"uris": ["spiffe://other.example/a"]}, id="another trust domain"),
        pytest.param({"dns": ["a;URI=spiffe://prod.example/admin"]}, id="in a DNS name"),
        pytest.param({"uris": ["x:y;URI=spiffe://prod.example/admin"]}, id="in a URI"),
        pytest.param({"uris": ["x:y,URI=spiffe://prod.example/admin"]}, id="as another element"),
        pytest.param({"common_names": ['a";URI=spiffe://prod.example/admin;x="']}, id="in the subject"),
        pytest.param({"common_names": ["a\\"], "dns": ['";URI=spiffe://prod.example/admin']}, id="after a backslash"),
        pytest.param({"uris": ['"spiffe://prod.example/admin"']}, id="in quotes"),
    ],
)  # fmt: skip
async def test_names_made_to_deceive(connect: Connect, names: dict[str, Any]) -> None:
    """No name of a certificate makes Envoy tell of a SPIFFE id that the certificate does not have alone."""
    assert await identity(SPIFFE, await connect(**names)) is None


@pytest.mark.parametrize(
    "names",
    [
        pytest.param({}, id="none"),
        pytest.param({"dns": ["a.example", "b.example"]}, id="two"),
        pytest.param({"uris": ["x:y;DNS=admin.example"]}, id="in a URI"),
        pytest.param({"uris": ["x:y", "x:y;DNS=admin.example"]}, id="in one of two URIs"),
        pytest.param({"dns": ["a;DNS=admin.example"]}, id="in a DNS name"),
        pytest.param({"dns": ["*.example"]}, id="any host"),
        pytest.param({"common_names": ['a";DNS=admin.example;x="']}, id="in the subject"),
    ],
)
async def test_names_made_to_deceive_by_dns(connect: Connect, names: dict[str, Any]) -> None:
    """No other name makes Envoy tell of a DNS name that the certificate does not have alone."""
    assert await identity(DNS, await connect(**names)) is None


@pytest.mark.parametrize("common_names", [[], ["a", "b"], ["é"], ["a\nb"]], ids=ascii)
async def test_common_names_that_do_not_count(connect: Connect, common_names: list[str]) -> None:
    """None, two, and one that is not printable ASCII are nobody's; one with a comma is a whole one."""
    assert await identity(COMMON_NAME, await connect(common_names=common_names)) is None
    assert await identity(COMMON_NAME, await connect(common_names=["a,CN=admin"])) == "a,CN=admin"

"""Who calls: each way to prove it, and one answer to those who do not."""

from collections.abc import Mapping, Sequence

import pytest
from cryptography import x509
from tests.certificates import Authority
from tests.jwt_making import Signer, jwk_set

from falrpc_server.access.authentication import (
    ANONYMOUS,
    Authentication,
    Authenticator,
    ByCertificate,
    ByForwardedCertificate,
    ByJwt,
    ByToken,
    Peer,
)
from falrpc_server.access.certificates import IdentityRule
from falrpc_server.access.jwk_sets import FixedKeys, KeySet
from falrpc_server.access.jwts import JwtRules
from falrpc_server.access.refusals import Kind, Refusal
from falrpc_server.access.tokens import Tokens, entry

NOW = 1_780_000_000.0
SPIFFE = IdentityRule("spiffe", "prod.example")
TOKEN = "static-token-0001"
SIGNER, OTHER = Signer("ES256", "one"), Signer("ES256", "two")
CLAIMS = {"iss": "https://issuer.example", "aud": "falrpc", "sub": "team/jwt", "exp": NOW + 60}
PEM = Authority().issue(uris=["spiffe://prod.example/a"])[1]
TLS: Mapping[str, Sequence[bytes]] = {"transport_security_type": [b"ssl"], "x509_pem_cert": [PEM]}
XFCC = "By=;URI=spiffe://prod.example/a"


def read_keys(*signers: Signer) -> KeySet:
    return KeySet.read(jwk_set(*(signer.jwk() for signer in signers)), ("ES256",))


def read_tokens(*pairs: tuple[str, str]) -> Tokens:
    return Tokens.read("".join(entry(token, identity) for token, identity in pairs), "tokens.toml", NOW)


def by_jwt(keys: FixedKeys | None = None) -> ByJwt:
    rules = JwtRules("https://issuer.example", "falrpc", ("ES256",))
    return ByJwt(rules, keys or FixedKeys(read_keys(SIGNER)), now=lambda: NOW)


def by_token() -> ByToken:
    return ByToken(read_tokens((TOKEN, "team/token")), now=lambda: NOW)


def peer(
    *authorizations: str | bytes,
    address: str = "ipv4:127.0.0.1:5",
    certificate: Mapping[str, Sequence[bytes]] | None = None,
    xfcc: str = "",
) -> Peer:
    metadata: list[tuple[str, str | bytes]] = [("authorization", one) for one in authorizations]
    if xfcc:
        metadata.append(("x-forwarded-client-cert", xfcc))
    return Peer(address, certificate or {"transport_security_type": [b"insecure"]}, metadata)


async def refusal(authentication: Authentication, one: Peer) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await authentication.identify(one)
    refused = caught.value
    assert (refused.kind, refused.reason) == (Kind.UNAUTHENTICATED, "CALLER_UNAUTHENTICATED")
    assert refused.cause
    assert refused.__cause__ is None
    assert refused.__context__ is None  # nothing that was seen on the way hangs on it
    return refused


async def test_nobody_is_authenticated_without_a_method() -> None:
    """Without a method everyone is anonymous, whatever they bring."""
    authentication = Authentication([])
    for one in (peer(), peer(f"Bearer {TOKEN}"), peer(certificate=TLS, xfcc=XFCC)):
        assert await authentication.identify(one) == ANONYMOUS


async def test_by_certificate() -> None:
    """The certificate of the connection counts; what a header tells of one does not."""
    authentication = Authentication([ByCertificate(SPIFFE)])
    for _ in range(2):
        assert await authentication.identify(peer(certificate=TLS)) == "spiffe://prod.example/a"
        for one in (peer(), peer(xfcc=XFCC), peer(f"Bearer {TOKEN}")):
            assert (await refusal(authentication, one)).text == (
                "the caller is not authenticated; accepted is a client certificate"
            )


async def test_a_certificate_out_of_force() -> None:
    """A certificate that is not in force proves nothing, though the handshake let it pass: a session that is
    resumed is not looked at again."""
    certificate = x509.load_pem_x509_certificate(PEM)
    begins = certificate.not_valid_before_utc.timestamp()
    ends = certificate.not_valid_after_utc.timestamp()
    for now, is_known in ((begins - 1, False), (begins, True), (ends - 1, True), (ends, False)):
        authentication = Authentication([ByCertificate(SPIFFE, now=lambda now=now: now)])
        if is_known:
            assert await authentication.identify(peer(certificate=TLS)) == "spiffe://prod.example/a"
        else:
            assert "not in force" in (await refusal(authentication, peer(certificate=TLS))).cause


async def test_by_forwarded_certificate() -> None:
    """The header counts from a sidecar only; the connection's own certificate does not."""
    authentication = Authentication([ByForwardedCertificate(SPIFFE, ["127.0.0.1/32", "::1"])])
    for address in ("ipv4:127.0.0.1:5", "ipv6:%5B::1%5D:5", "ipv6:%5B::ffff:127.0.0.1%5D:5"):
        assert await authentication.identify(peer(address=address, xfcc=XFCC)) == "spiffe://prod.example/a"
    for one in (
        peer(address="ipv4:127.0.0.2:5", xfcc=XFCC),
        peer(address="ipv4:10.0.0.1:5", xfcc=XFCC, certificate=TLS),
        peer(address="unix:", xfcc=XFCC),
        peer(certificate=TLS),
        peer(xfcc=f"{XFCC},{XFCC}"),
        peer(xfcc="By=spiffe://prod.example/a;URI="),
    ):
        await refusal(authentication, one)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_of_a_token(scheme: str) -> None:
    """The scheme is the same in capitals."""
    assert await Authentication([by_token()]).identify(peer(f"{scheme} {TOKEN}")) == "team/token"


@pytest.mark.parametrize(
    "authorizations",
    [
        (),
        ("",),
        (TOKEN,),
        ("Bearer",),
        ("Bearer ",),
        (f"Bearer  {TOKEN}",),
        (f"Bearer\t{TOKEN}",),
        (f" Bearer {TOKEN}",),
        (f"Bearer {TOKEN} ",),
        (f"Bearer {TOKEN}, Bearer {TOKEN}",),
        (f"Bearer {TOKEN}\n",),
        (f"Basic {TOKEN}",),
        (f"Key {TOKEN}",),
        (f"Bearer{TOKEN}",),
        (f"Bearer {TOKEN}é",),
        (f"Bearer ={TOKEN}",),
        (f"Bearer {TOKEN}".encode(),),
        (f"Bearer {TOKEN}", f"Bearer {TOKEN}"),
        (f"Bearer {TOKEN}", ""),
    ],
    ids=ascii,
)
async def test_what_is_no_bearer_token(authorizations: tuple[str | bytes, ...]) -> None:
    """Anything but one `Bearer`, one space and a token is nobody's."""
    for authentication in (Authentication([by_token()]), Authentication([by_token(), by_jwt()])):
        await refusal(authentication, peer(*authorizations))


async def test_jwts_and_tokens_together() -> None:
    """With both, what has the form of a JWT is one, and anything else a token: never both."""

    class Counting:
        def __init__(self, inner: Authenticator) -> None:
            self.inner, self.method, self.count = inner, inner.method, 0

        async def identity(self, one: Peer) -> str:
            self.count += 1
            return await self.inner.identity(one)

    dotted = "static-token.with-two.dots"
    jwts, tokens = (
        Counting(by_jwt()),
        Counting(ByToken(read_tokens((TOKEN, "team/token"), (dotted, "team/dots")))),
    )
    both = Authentication([tokens, jwts])
    assert await both.identify(peer(f"Bearer {SIGNER.token(CLAIMS)}")) == "team/jwt"
    assert (jwts.count, tokens.count) == (1, 0)
    assert await both.identify(peer(f"Bearer {TOKEN}")) == "team/token"
    assert (jwts.count, tokens.count) == (1, 1)
    await refusal(both, peer(f"Bearer {dotted}"))
    await refusal(both, peer(f"Bearer {OTHER.token(CLAIMS)}"))
    assert (jwts.count, tokens.count) == (3, 1)
    await refusal(both, peer("Bearer not-a-known-token"))
    assert (jwts.count, tokens.count) == (3, 2)


async def test_one_sentence_for_all() -> None:
    """Whatever was wrong the caller is told the same, which is what is accepted; the log is told the rest."""
    expected = (
        "the caller is not authenticated; accepted is a JWT as metadata `authorization: Bearer ...` or a "
        "token as metadata `authorization: Bearer ...`"
    )
    expired = SIGNER.token({**CLAIMS, "exp": NOW - 1_000})
    peers = [
        peer(),
        peer(certificate=TLS),
        peer("Basic abc"),
        peer("Bearer short"),
        peer("Bearer an-unknown-token-0001"),
        peer(f"Bearer {expired}"),
        peer(f"Bearer {OTHER.token(CLAIMS)}"),
        peer(f"Bearer {SIGNER.token({**CLAIMS, 'aud': 'other'})}"),
        peer(f"Bearer {SIGNER.token({**CLAIMS, 'sub': 5})}"),
    ]
    for both in (Authentication([by_jwt(), by_token()]), Authentication([by_token(), by_jwt()])):
        refusals = [await refusal(both, one) for one in peers]
        assert {refused.text for refused in refusals} == {expected}
        assert len({refused.cause for refused in refusals}) == 8


async def test_keys_and_tokens_are_replaced() -> None:
    """From a reload on the new file counts, and what is gone from it does not."""
    tokens, keys = by_token(), FixedKeys(read_keys(SIGNER))
    both = Authentication([tokens, by_jwt(keys)])
    old, new = SIGNER.token(CLAIMS), OTHER.token(CLAIMS)
    assert await both.identify(peer(f"Bearer {old}")) == "team/jwt"
    keys.replace(read_keys(OTHER))
    tokens.replace(read_tokens(("another-token-0002", "team/other")))
    assert await both.identify(peer(f"Bearer {new}")) == "team/jwt"
    assert await both.identify(peer("Bearer another-token-0002")) == "team/other"
    await refusal(both, peer(f"Bearer {old}"))
    await refusal(both, peer(f"Bearer {TOKEN}"))


async def test_what_is_no_failure_of_the_callers_stays_as_it_is() -> None:
    """That keys can't be had is UNAVAILABLE, not UNAUTHENTICATED."""

    class Absent:
        async def for_kid(self, kid: str | None) -> KeySet:
            raise Refusal(Kind.UNAVAILABLE, "AUTHENTICATION_UNAVAILABLE", "no keys")

    authentication = Authentication([ByJwt(JwtRules("i", "a", ("ES256",)), Absent())])
    with pytest.raises(Refusal) as caught:
        await authentication.identify(peer(f"Bearer {SIGNER.token(CLAIMS)}"))
    assert (caught.value.kind, caught.value.reason) == (Kind.UNAVAILABLE, "AUTHENTICATION_UNAVAILABLE")


async def test_a_token_that_can_not_count_asks_for_no_key() -> None:
    """A token of an algorithm that is not accepted does not even reach the keys."""

    class Counted(FixedKeys):
        asked = 0

        async def for_kid(self, kid: str | None) -> KeySet:
            self.asked += 1
            return await super().for_kid(kid)

    keys = Counted(read_keys(SIGNER))
    authentication = Authentication([by_jwt(keys)])
    for one in ("Bearer a.b.c", f"Bearer {Signer('RS256', 'x').token(CLAIMS)}", f"Bearer {TOKEN}", ""):
        await refusal(authentication, peer(one))
    assert keys.asked == 0


def test_methods_that_do_not_go_together() -> None:
    """Only JWTs and tokens go together, each once."""
    for authenticators in (
        [ByCertificate(SPIFFE), by_token()],
        [ByCertificate(SPIFFE), ByForwardedCertificate(SPIFFE, ["127.0.0.1"])],
        [by_token(), by_token()],
    ):
        with pytest.raises(ValueError):
            Authentication(authenticators)  # type: ignore[arg-type]

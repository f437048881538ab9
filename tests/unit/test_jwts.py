"""JWTs: what is accepted, and what someone may have forged."""

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from tests.jwt_making import Signer, base64url, joined, jwk_set

from falrpc_server.access import jwts
from falrpc_server.access.jwk_sets import KeySet, KeySetError
from falrpc_server.access.jwts import JwtRules, Verifier
from falrpc_server.access.refusals import Kind, Refusal

NOW = 1_780_000_000.0
SKEW = 60
ALGORITHMS = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
CLAIMS: dict[str, Any] = {
    "iss": "https://issuer.example",
    "aud": "falrpc",
    "sub": "team/backend",
    "exp": NOW + 300,
}

RSA, OTHER_RSA, STRANGER = Signer("RS256", "rsa"), Signer("RS256", "rsa-2"), Signer("RS256", "rsa")
EC, EC_384, ED = Signer("ES256", "ec"), Signer("ES384", "ec-384"), Signer("EdDSA", "ed")
KEYS = KeySet.read(jwk_set(*(s.jwk() for s in (RSA, OTHER_RSA, EC, EC_384, ED))), ALGORITHMS)


def verifier(**rules: Any) -> Verifier:
    given = {"issuer": "https://issuer.example", "audience": "falrpc", "algorithms": ALGORITHMS, **rules}
    return Verifier(JwtRules(skew_seconds=SKEW, **given))


def identity(token: str, keys: KeySet = KEYS, now: float = NOW, by: Verifier | None = None) -> str:
    by = by or verifier()
    return by.identity(token, by.header(token), keys, now)


def refused(token: str, keys: KeySet = KEYS, now: float = NOW, by: Verifier | None = None) -> str:
    with pytest.raises(Refusal) as caught:
        identity(token, keys, now, by)
    assert (caught.value.kind, caught.value.reason) == (Kind.UNAUTHENTICATED, "CALLER_UNAUTHENTICATED")
    told = f"{caught.value} {caught.value.text} {caught.value.cause}"
    assert not any(part in told for part in token.split(".") if len(part) > 8)
    assert caught.value.__cause__ is None
    return caught.value.cause


def without(name: str, **claims: Any) -> dict[str, Any]:
    return {key: value for key, value in (CLAIMS | claims).items() if key != name}


@pytest.mark.parametrize("signer", [RSA, OTHER_RSA, EC, EC_384, ED], ids=lambda s: s.kid)
def test_each_kind_of_key(signer: Signer) -> None:
    """A token is accepted with the key that it names, of each kind."""
    assert identity(signer.token(CLAIMS)) == "team/backend"


@pytest.mark.parametrize(
    ("claims", "header"),
    [
        pytest.param({"aud": ["other", "falrpc"]}, {}, id="one of several audiences"),
        pytest.param({"nbf": NOW, "iat": NOW, "jti": "1", "extra": {"a": [1]}}, {}, id="all claims"),
        pytest.param({"exp": NOW + 0.5}, {}, id="fractions"),
        pytest.param({}, {"typ": None}, id="no type"),
        pytest.param({}, {"typ": "at+JWT"}, id="an access token"),
        pytest.param({}, {"x5t": "a", "jku": "https://evil.example", "x5u": "https://evil.example"}, id="addresses"),
        pytest.param({"sub": "a" * 200}, {}, id="longest identity"),
        pytest.param({"exp": NOW - SKEW + 1}, {}, id="expired within the skew"),
        pytest.param({"nbf": NOW + SKEW}, {}, id="not yet within the skew"),
        pytest.param({"iat": NOW + SKEW}, {}, id="issued within the skew"),
    ],
)  # fmt: skip
def test_tokens_that_count(claims: Mapping[str, Any], header: Mapping[str, Any]) -> None:
    """What is allowed, up to the edges; addresses of keys in the header are of no account."""
    assert identity(RSA.token({**CLAIMS, **claims}, **header)) == (claims.get("sub") or "team/backend")


def test_the_edges_of_the_skew() -> None:
    """A token counts until `exp` and the skew are over, and from the skew before `nbf` and `iat` on."""
    expiring = RSA.token(CLAIMS)
    assert identity(expiring, now=CLAIMS["exp"] + SKEW - 0.001)
    assert refused(expiring, now=CLAIMS["exp"] + SKEW) == "the JWT has expired"
    for claim in ("nbf", "iat"):
        coming = RSA.token({**CLAIMS, claim: NOW + 100})
        assert identity(coming, now=NOW + 100 - SKEW)
        assert refused(coming, now=NOW + 100 - SKEW - 0.001) == "the JWT is not in force yet"


def hs256(secret: bytes, **header: Any) -> str:
    body = joined({"alg": "HS256", "typ": "JWT", **header}, CLAIMS, b"").rstrip(".")
    return f"{body}.{base64url(hmac.new(secret, body.encode(), hashlib.sha256).digest())}"


GOOD = RSA.token(CLAIMS)
HEADER, PAYLOAD, SIGNATURE = GOOD.split(".")
FORGED = {
    "none": joined({"alg": "none", "kid": "rsa"}, CLAIMS, b"x"),
    "none without a signature": joined({"alg": "none", "kid": "rsa"}, CLAIMS, b""),
    "None in capitals": joined({"alg": "NONE", "kid": "rsa"}, CLAIMS, b"x"),
    "no alg": joined({"kid": "rsa"}, CLAIMS, b"x"),
    "alg not text": joined({"alg": ["RS256"], "kid": "rsa"}, CLAIMS, b"x"),
    "HS256 with the public key": hs256(RSA.public_pem, kid="rsa"),
    "HS256 with the JWK": hs256(json.dumps(RSA.jwk()).encode(), kid="rsa"),
    "HS256 with nothing": hs256(b""),
    "an algorithm not accepted": Signer("RS512", "rsa").token(CLAIMS),
    "signed by a stranger": STRANGER.token(CLAIMS),
    "no kid, several keys": RSA.token(CLAIMS, kid=None),
    "unknown kid": RSA.token(CLAIMS, kid="rsa-3"),
    "kid of another key": RSA.token(CLAIMS, kid="rsa-2"),
    "kid of another kind": RSA.token(CLAIMS, kid="ec"),
    "kid not text": RSA.token(CLAIMS, kid=1),
    "kid is a path": RSA.token(CLAIMS, kid="../../dev/null"),
    "another curve's key": EC.token(CLAIMS, kid="ec-384"),
    "another curve's algorithm": EC.token(CLAIMS, alg="ES384"),
    "RS256 said of an EC key": EC.token(CLAIMS, alg="RS256"),
    "PS256 said of RS256": RSA.token(CLAIMS, alg="PS256"),
    "embedded key": STRANGER.token(CLAIMS, jwk=STRANGER.jwk()),
    "embedded key without kid": STRANGER.token(CLAIMS, jwk=STRANGER.jwk(), kid=None),
    "address of keys": STRANGER.token(CLAIMS, jku="https://evil.example/jwks.json"),
    "crit": RSA.token(CLAIMS, crit=["exp"]),
    "empty crit": RSA.token(CLAIMS, crit=[]),
    "crit b64": RSA.token(CLAIMS, crit=["b64"], b64=True),
    "b64": RSA.token(CLAIMS, b64=False),
    "a logout token": RSA.token(CLAIMS, typ="logout+jwt"),
    "type not text": RSA.token(CLAIMS, typ=["JWT"]),
    "wrong issuer": RSA.token({**CLAIMS, "iss": "https://issuer.example/"}),
    "issuer in a list": RSA.token({**CLAIMS, "iss": ["https://issuer.example"]}),
    "no issuer": RSA.token(without("iss")),
    "wrong audience": RSA.token({**CLAIMS, "aud": "falrpc2"}),
    "audiences without ours": RSA.token({**CLAIMS, "aud": ["a", "b"]}),
    "no audience in the list": RSA.token({**CLAIMS, "aud": []}),
    "a number among audiences": RSA.token({**CLAIMS, "aud": ["falrpc", 5]}),
    "audience as an object": RSA.token({**CLAIMS, "aud": {"falrpc": 1}}),
    "no audience": RSA.token(without("aud")),
    "expired": RSA.token({**CLAIMS, "exp": NOW - SKEW}),
    "no exp": RSA.token(without("exp")),
    "exp null": RSA.token({**CLAIMS, "exp": None}),
    "exp as text": RSA.token({**CLAIMS, "exp": str(NOW + 300)}),
    "exp true": RSA.token({**CLAIMS, "exp": True}),
    "exp huge": RSA.token({**CLAIMS, "exp": 10**400}),
    "exp infinite": RSA.signed('{"alg":"RS256","kid":"rsa"}', json.dumps(without("exp"))[:-1] + ',"exp":1e999}'),
    "exp negative": RSA.token({**CLAIMS, "exp": -1}),
    "nbf to come": RSA.token({**CLAIMS, "nbf": NOW + SKEW + 1}),
    "nbf true": RSA.token({**CLAIMS, "nbf": True}),
    "nbf as text": RSA.token({**CLAIMS, "nbf": "0"}),
    "iat to come": RSA.token({**CLAIMS, "iat": NOW + SKEW + 1}),
    "no sub": RSA.token(without("sub")),
    "sub a number": RSA.token({**CLAIMS, "sub": 5}),
    "sub null": RSA.token({**CLAIMS, "sub": None}),
    "sub empty": RSA.token({**CLAIMS, "sub": ""}),
    "sub with a line feed": RSA.token({**CLAIMS, "sub": "team\nadmin"}),
    "sub with a look-alike": RSA.token({**CLAIMS, "sub": "te\u0430m"}),
    "sub too long": RSA.token({**CLAIMS, "sub": "a" * 201}),
    "truncated signature": GOOD[:-4],
    "short signature": f"{HEADER}.{PAYLOAD}.{SIGNATURE[:336]}",
    "no signature": f"{HEADER}.{PAYLOAD}.",
    "two parts": f"{HEADER}.{PAYLOAD}",
    "extra part": f"{GOOD}.{SIGNATURE}",
    "encrypted": f"{GOOD}.{SIGNATURE}.{SIGNATURE}",
    "padding": f"{GOOD}=",
    "base64 not of URLs": f"{HEADER}.{PAYLOAD}.{SIGNATURE[:-1]}+",
    "another's payload": f"{HEADER}.{EC.token({**CLAIMS, 'sub': 'admin'}).split('.')[1]}.{SIGNATURE}",
    "a name twice in the header": RSA.signed('{"alg":"RS256","kid":"rsa-2","kid":"rsa"}', json.dumps(CLAIMS)),
    "a name twice in the payload": RSA.signed('{"alg":"RS256","kid":"rsa"}', json.dumps(CLAIMS)[:-1] + ',"sub":"admin"}'),
    "payload no object": RSA.signed('{"alg":"RS256","kid":"rsa"}', "[]"),
    "payload not JSON": RSA.signed('{"alg":"RS256","kid":"rsa"}', "x"),
    "payload in UTF-16": RSA.signed('{"alg":"RS256","kid":"rsa"}', json.dumps(CLAIMS).encode("utf-16")),
    "payload deeply nested": RSA.signed('{"alg":"RS256","kid":"rsa"}', "[" * 3_000),
    "header deeply nested": RSA.signed("[" * 3_000, json.dumps(CLAIMS)),
    "header no object": RSA.signed('"RS256"', json.dumps(CLAIMS)),
    "header not base64": f"A.{PAYLOAD}.{SIGNATURE}",
    "NaN": RSA.signed('{"alg":"RS256","kid":"rsa"}', json.dumps(CLAIMS)[:-1] + ',"x":NaN}'),
    "nothing": "",
    "two dots": "..",
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_forged_tokens(name: str) -> None:
    """None of these is anybody's, and the log is told why without any part of it."""
    cause = refused(FORGED[name])
    assert cause
    assert cause.isascii()
    assert "\n" not in cause


def test_the_good_one_is_good() -> None:
    """What the forged ones are made from counts."""
    assert identity(GOOD) == "team/backend"


def test_every_changed_bit_is_noticed() -> None:
    """A token with one character exchanged anywhere is refused."""
    by = verifier()
    for place in range(0, len(GOOD), 7):
        other = "A" if GOOD[place] != "A" else "B"
        if GOOD[place] != ".":
            refused(GOOD[:place] + other + GOOD[place + 1 :], by=by)


def test_another_claim_may_be_the_identity() -> None:
    """The claim that is the identity is set; then `sub` is not needed."""
    token = RSA.token(without("sub", client_id="batch"))
    assert identity(token, by=verifier(identity_claim="client_id")) == "batch"
    assert refused(token, by=verifier(identity_claim="azp")) == "the JWT's claim `azp` is not text"


def test_the_only_key_needs_no_name() -> None:
    """A token that names no key is verified with the only one; one that names another is not."""
    for kid in (None, "one"):
        signer = Signer("ES256", kid)
        only = KeySet.read(jwk_set(signer.jwk()), ALGORITHMS)
        assert identity(signer.token(CLAIMS, kid=None), only) == "team/backend"
        refused(signer.token(CLAIMS, kid="two"), only)
        refused(EC.token(CLAIMS, kid=None), only)


class Counted(Verifier):
    """Counts signatures that were verified."""

    count = 0

    def _verify(self, *arguments: Any) -> Any:
        self.count += 1
        return super()._verify(*arguments)


def counted(verified_max: int) -> Counted:
    return Counted(
        JwtRules("https://issuer.example", "falrpc", ALGORITHMS, skew_seconds=SKEW), verified_max=verified_max
    )


def test_a_token_is_verified_once() -> None:
    """A token that comes again costs no signature, until it expires; a refused one is not remembered."""
    by = counted(10)
    for now in (NOW, NOW + 10, CLAIMS["exp"] + SKEW - 1):
        assert identity(GOOD, now=now, by=by) == "team/backend"
    assert by.count == 1
    assert refused(GOOD, now=CLAIMS["exp"] + SKEW, by=by) == "the JWT has expired"
    assert refused(GOOD[:-4] + "AAAA", by=by)
    assert refused(GOOD[:-4] + "AAAA", by=by)
    assert by.count == 3


def test_what_is_remembered_goes_with_the_keys() -> None:
    """When keys change nothing is remembered: a token of a key that is gone counts no more."""
    by = counted(10)
    identity(GOOD, by=by)
    others = KeySet.read(jwk_set(EC.jwk(), OTHER_RSA.jwk()), ALGORITHMS)
    assert refused(GOOD, others, by=by) == "the JWT names a key that is not known: 'rsa'"
    same_name = KeySet.read(jwk_set(STRANGER.jwk()), ALGORITHMS)
    assert refused(GOOD, same_name, by=by) == "the JWT does not count: InvalidSignatureError"


def test_what_is_remembered_is_bounded() -> None:
    """The token that was not used for longest is forgotten first."""
    by = counted(2)
    one, two, three = (EC.token({**CLAIMS, "jti": n}) for n in "123")
    for token in (one, two, one, three, one):
        identity(token, by=by)
    assert by.count == 3
    identity(two, by=by)
    assert by.count == 4
    assert jwts.VERIFIED_MAX >= 1_000


def key_set(*keys: Any, algorithms: tuple[str, ...] = ALGORITHMS) -> KeySet:
    return KeySet.read(jwk_set(*keys), algorithms)


@pytest.mark.parametrize(
    ("jwk", "why"),
    [
        (lambda: {"kty": "oct", "k": "c2VjcmV0", "kid": "bad"}, "is symmetric: whoever verifies with it could sign"),
        (lambda: EC.jwk(private=True), "its private part lies open: anyone could sign with it"),
        (lambda: RSA.jwk(private=True), "its private part lies open: anyone could sign with it"),
        (lambda: EC.jwk(use="enc"), "is not for signatures (`use`)"),
        (lambda: EC.jwk(key_ops=["sign"]), "is not for verifying (`key_ops`)"),
        (lambda: EC.jwk(key_ops="verify"), "is not for verifying (`key_ops`)"),
        (lambda: EC.jwk(alg="ES384"), "is for none of the algorithms that JWTs may be signed with"),
        (lambda: EC.jwk(alg="HS256"), "is for none of the algorithms that JWTs may be signed with"),
        (lambda: EC.jwk(alg=5), "its `alg` is not text"),
        (lambda: EC.jwk(kid=5), "its `kid` is not text"),
        (lambda: Signer("ES512").jwk(), "is for none of the algorithms that JWTs may be signed with"),
        (lambda: EC.jwk(crv="P-384"), "can't be read: InvalidKeyError"),
        (lambda: EC.jwk(crv="secp256k1"), "is of a kind or curve that is not known here"),
        (lambda: EC.jwk(x="!"), "can't be read: InvalidKeyError"),
        (lambda: EC.jwk(y=EC.jwk()["x"]), "can't be read: InvalidKeyError"),
        (lambda: RSA.jwk(n=5), "can't be read: InvalidKeyError"),
        (lambda: ED.jwk(x="AAAA"), "can't be read: InvalidKeyError"),
        (lambda: Signer("RS256", bits=1_024).jwk(), "has 1024 bits, not 2048 to 8192"),
        (lambda: {"kid": "bad"}, "is of a kind or curve that is not known here"),
        (lambda: "key", "is no JSON object"),
    ],
)  # fmt: skip
def test_keys_that_are_left_out(jwk: Callable[[], Any], why: str) -> None:
    """A key that must not or can't be used is left out and told; the rest of the set counts."""
    good = Signer("EdDSA", "good")
    keys = key_set(jwk(), good.jwk())
    assert len(keys) == 1
    assert [sentence.partition(": ")[2] for sentence in keys.ignored] == [why]
    assert identity(good.token(CLAIMS), keys) == "team/backend"
    with pytest.raises(KeySetError, match="has no key that counts"):
        key_set(jwk())


def test_a_leaked_key_signs_nothing() -> None:
    """A token of a key whose private part is in the set is refused."""
    keys = key_set(RSA.jwk(private=True), OTHER_RSA.jwk())
    assert refused(GOOD, keys) == "the JWT names a key that is not known: 'rsa'"


def test_keys_that_are_bound_to_an_algorithm() -> None:
    """An `alg` that fits binds a key to it; without one an RSA key is for all that are accepted."""
    bound = key_set(RSA.jwk(alg="PS256", use="sig", key_ops=["verify"]))
    assert refused(GOOD, bound) == "the JWT's key is not for RS256"
    assert identity(GOOD, key_set(RSA.jwk(alg="RS256"))) == "team/backend"
    assert identity(ED.token(CLAIMS), key_set(ED.jwk(alg="Ed25519"))) == "team/backend"
    ps256 = Signer("PS256", "rsa")
    assert identity(ps256.token(CLAIMS), key_set(ps256.jwk())) == "team/backend"


def test_one_name_for_two_keys() -> None:
    """Two keys of a kind with one name make a set that does not count; of two kinds they may share it."""
    for kid in ("same", None):
        with pytest.raises(KeySetError, match="has two keys with the same `kid`"):
            key_set(RSA.jwk(kid=kid), OTHER_RSA.jwk(kid=kid))
    shared = key_set(RSA.jwk(kid="same"), EC.jwk(kid="same"))
    assert identity(EC.token(CLAIMS, kid="same"), shared) == "team/backend"
    assert identity(RSA.token(CLAIMS, kid="same"), shared) == "team/backend"


@pytest.mark.parametrize(
    "text",
    ["", "x", "[]", "{}", '{"keys": {}}', '{"keys": []}', '{"keys": [], "keys": []}', b"\xff", "[" * 100_000],
    ids=lambda text: ascii(text[:20]),
)
def test_what_is_no_key_set(text: str | bytes) -> None:
    """What is no JWK set, and one without keys, does not count."""
    with pytest.raises(KeySetError):
        KeySet.read(text, ALGORITHMS)


def test_the_number_of_keys_at_its_limit() -> None:
    """100 keys are read, 101 are not."""
    keys = [EC.jwk(kid=str(number)) for number in range(101)]
    assert len(key_set(*keys[:100])) == 100
    with pytest.raises(KeySetError, match="has 101 keys, of at most 100"):
        key_set(*keys)


def test_a_key_has_no_text_form_with_the_key_in_it() -> None:
    """What is logged of a set names no key's bytes."""
    keys = key_set(EC.jwk(), {"kty": "oct", "k": "c2VjcmV0", "kid": "\x1b[2J" + "a" * 100})
    assert "c2VjcmV0" not in " ".join(keys.ignored)
    assert "\x1b" not in " ".join(keys.ignored)
    assert len(keys.ignored[0]) < 200

"""Callers by their tokens, JWTs and static ones: what is forged gets nowhere, and tells nothing."""

import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from tests.conftest import Fal, Running
from tests.failures import Failure, ended, failure_of_upload
from tests.faults.each_call import failure_of_any
from tests.jwt_making import Signer, base64url, joined, jwk_set
from tests.security.each_method import METHODS, SENTENCES, begun, nothing_came, refused
from tests.security.guarded import Files, guarded_gateway
from tests.service.test_upload_calls import messages

from falrpc import v1

RSA, EC, STRANGER = Signer("RS256", "rsa"), Signer("ES256", "ec"), Signer("RS256", "rsa")
TOKEN = "c4n4ry-token-of-the-shop"
SKEW = 60


def claims(**others: Any) -> dict[str, Any]:
    """Claims that count now; `others` replace some, or take them away where they are None."""
    good = {"iss": "https://issuer.example", "aud": "falrpc", "sub": "shop", "exp": time.time() + 600}
    return {name: value for name, value in (good | others).items() if value is not None}


def by_jwt(keys: str, **others: Any) -> dict[str, Any]:
    """Settings of a gateway whose callers have JWTs."""
    return {
        "auth": ("jwt",),
        "jwt_issuer": "https://issuer.example",
        "jwt_audience": "falrpc",
        "jwt_jwks": keys,
        **others,
    }


def bearer(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]


def is_unauthenticated(failed: Failure, text: str, name: str) -> None:
    """Whether the caller is told what everybody is told."""
    assert (failed.code, failed.info.reason) == ("UNAUTHENTICATED", "CALLER_UNAUTHENTICATED"), name
    assert (failed.message, failed.delivery) == (text, "NOT_SENT"), name
    assert dict(failed.info.metadata) == {"delivery": "NOT_SENT"}, name


def hs256(secret: bytes, **header: Any) -> str:
    body = joined({"alg": "HS256", "typ": "JWT", **header}, claims(), b"").rstrip(".")
    return f"{body}.{base64url(hmac.new(secret, body.encode(), hashlib.sha256).digest())}"


def forged() -> dict[str, str]:
    """Tokens that must not count, by what is wrong with each."""
    header, payload, signature = RSA.token(claims()).split(".")
    admin = base64url(json.dumps(claims(sub="admin")).encode())
    return {
        "no algorithm": joined({"alg": "none", "kid": "rsa"}, claims(), b"x"),
        "no signature": joined({"alg": "none", "kid": "rsa"}, claims(), b""),
        "another word for none": joined({"alg": "nOnE", "kid": "rsa"}, claims(), b"x"),
        "HS256 with the public key": hs256(RSA.public_pem, kid="rsa"),
        "HS256 with the JWK": hs256(json.dumps(RSA.jwk()).encode(), kid="rsa"),
        "a stranger's, with our kid": STRANGER.token(claims()),
        "a stranger's, with its key": STRANGER.token(claims(), jwk=STRANGER.jwk()),
        "a stranger's, with the address of its key": STRANGER.token(claims(), jku="https://evil.example/k"),
        "an unknown kid": RSA.token(claims(), kid="rsa-9"),
        "the kid of another key": RSA.token(claims(), kid="ec"),
        "a kid that is a path": RSA.token(claims(), kid="../../../etc/passwd"),
        "no kid": RSA.token(claims(), kid=None),
        "another issuer": RSA.token(claims(iss="https://issuer.example.evil")),
        "another audience": RSA.token(claims(aud="falrpc-test")),
        "no audience": RSA.token(claims(aud=None)),
        "expired": RSA.token(claims(exp=time.time() - SKEW - 5)),
        "without an end": RSA.token(claims(exp=None)),
        "not in force yet": RSA.token(claims(nbf=time.time() + SKEW + 60)),
        "without an identity": RSA.token(claims(sub=None)),
        "an identity that is a list": RSA.token(claims(sub=["shop"])),
        "an identity with a line of its own": RSA.token(claims(sub="shop\nadmin")),
        "extensions": RSA.token(claims(), crit=["b64"], b64=False),
        "another type": RSA.token(claims(), typ="logout+jwt"),
        "other claims": f"{header}.{admin}.{signature}",
        "half a signature": f"{header}.{payload}.{signature[:40]}",
        "two identities": RSA.signed(
            json.dumps({"alg": "RS256", "kid": "rsa"}), json.dumps(claims())[:-1] + ',"sub":"admin"}'
        ),
    }


async def test_forged_jwts(emulator_url: str, fal: Fal, files: Files) -> None:
    """Forged JWTs are all told the same; the log says what was wrong, and never holds a part of one."""
    keys = files.write("keys.json", jwk_set(RSA.jwk(), EC.jwk()))
    tokens = forged()
    async with guarded_gateway(emulator_url, **by_jwt(keys)) as gateway:
        for name, token in tokens.items():
            failed = await failure_of_any(begun(gateway.stub, "Run", metadata=bearer(token)))
            is_unauthenticated(failed, SENTENCES["jwt"], name)
        lines = await gateway.finished(len(tokens))
        assert all(line["cause"] and not line["identity"] for line in lines)
        assert len({line["cause"] for line in lines}) > 8
        nothing_came(fal)
        for signer in (RSA, EC):
            assert await ended(begun(gateway.stub, "Run", metadata=bearer(signer.token(claims())))) == "OK"
        assert [line["identity"] for line in (await gateway.finished(len(tokens) + 2))[-2:]] == ["shop"] * 2
        has_none_of(gateway, *tokens.values())


async def test_forged_authorizations(emulator_url: str, fal: Fal, files: Files) -> None:
    """Only `Bearer` and a good token, once, is an authorization."""
    keys = files.write("keys.json", jwk_set(RSA.jwk()))
    good = RSA.token(claims())
    hostile: dict[str, list[tuple[str, str]]] = {
        "none": [],
        "empty": [("authorization", "")],
        "Bearer alone": [("authorization", "Bearer ")],
        "no scheme": [("authorization", good)],
        "another scheme": [("authorization", f"Basic {good}")],
        "fal's scheme": [("authorization", "Key a:b")],
        "something behind it": [("authorization", f"Bearer {good} x")],
        "two spaces": [("authorization", f"Bearer  {good}")],
        "two in one": [("authorization", f"Bearer {good}, Bearer {good}")],
        "another header": [("x-authorization", f"Bearer {good}")],
        "a cookie": [("cookie", f"authorization=Bearer {good}")],
    }
    async with guarded_gateway(emulator_url, **by_jwt(keys)) as gateway:
        for name, metadata in hostile.items():
            is_unauthenticated(
                await failure_of_any(begun(gateway.stub, "Run", metadata=metadata)), SENTENCES["jwt"], name
            )
        for other in (good, STRANGER.token(claims())):
            failed = await failure_of_any(
                begun(gateway.stub, "Run", metadata=[*bearer(good), *bearer(other)])
            )
            assert (failed.code, failed.info.reason) == ("INVALID_ARGUMENT", "METADATA_INVALID")
        nothing_came(fal)
        for scheme in ("Bearer", "bearer", "BEARER"):
            metadata = [("authorization", f"{scheme} {good}")]
            assert await ended(begun(gateway.stub, "Run", metadata=metadata)) == "OK"
        has_none_of(gateway, good)


@pytest.mark.parametrize("method", METHODS)
async def test_every_method_asks(emulator_url: str, fal: Fal, files: Files, method: str) -> None:
    """No method serves a caller without a good token."""
    settings = {"auth": ("tokens",), "tokens_file": files.tokens({"shop": TOKEN})}
    async with guarded_gateway(emulator_url, **settings) as gateway:
        for metadata in ([], bearer("c4n4ry-token-of-nobody"), bearer(RSA.token(claims()))):
            failed = await refused(gateway, method, metadata=metadata)
            is_unauthenticated(failed, SENTENCES["tokens"], method)
        nothing_came(fal)
        call = begun(gateway.stub, method, metadata=bearer(TOKEN))
        if method in ("Run", "Submit", "Stream", "StreamWorkflow", "Subscribe", "Upload"):
            assert await ended(call) == "OK"
        else:  # there is no such request
            assert (await failure_of_any(call)).code == "NOT_FOUND"
        assert fal.received() != []
        has_none_of(gateway, TOKEN)


async def test_forged_tokens(emulator_url: str, fal: Fal, files: Files) -> None:
    """What is not exactly a token of the file is nobody's; an expired one is told the same."""
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    old = hashlib.sha256(b"c4n4ry-token-that-is-over").hexdigest()
    path = files.write(
        "tokens.toml",
        f'[[tokens]]\nidentity = "shop"\nsha256 = "{digest}"\n'
        f'[[tokens]]\nidentity = "old"\nsha256 = "{old}"\nexpires = 2020-01-31\n',
    )
    hostile = [
        TOKEN[:-1],
        TOKEN + "x",
        TOKEN.upper(),
        digest,
        "x" * 8_000,
        "c4n4ry-token-that-is-over",
        "short",
    ]
    async with guarded_gateway(emulator_url, auth=("tokens",), tokens_file=path) as gateway:
        for token in hostile:
            failed = await failure_of_any(begun(gateway.stub, "Run", metadata=bearer(token)))
            is_unauthenticated(failed, SENTENCES["tokens"], token[:40])
        nothing_came(fal)
        assert await ended(begun(gateway.stub, "Run", metadata=bearer(TOKEN))) == "OK"
        causes = [line.get("cause") for line in await gateway.finished(len(hostile) + 1)]
        assert "the token of old has expired" in causes
        has_none_of(gateway, *hostile[:-1], digest)


async def test_both_kinds(emulator_url: str, fal: Fal, files: Files) -> None:
    """With both kinds a token counts as what it looks like; the one sentence tells both."""
    forged_jwt, looks_like_one = STRANGER.token(claims()), "c4n4ry.token.of-the-shop"
    settings = by_jwt(files.write("keys.json", jwk_set(RSA.jwk())), auth=("jwt", "tokens"))
    # In the file, and all the same no token: what has a JWT's form is a JWT, or nothing.
    settings["tokens_file"] = files.tokens({"shop": TOKEN, "a": looks_like_one, "b": forged_jwt})
    async with guarded_gateway(emulator_url, **settings) as gateway:
        text = f"{SENTENCES['jwt']} or {SENTENCES['tokens'].partition('accepted is ')[2]}"
        for token in (forged_jwt, looks_like_one, "c4n4ry-token-of-nobody"):
            failed = await failure_of_any(begun(gateway.stub, "Run", metadata=bearer(token)))
            is_unauthenticated(failed, text, token)
        nothing_came(fal)
        for token in (TOKEN, RSA.token(claims())):
            assert await ended(begun(gateway.stub, "Run", metadata=bearer(token))) == "OK"
        has_none_of(gateway, TOKEN, forged_jwt, looks_like_one)


async def test_nothing_of_a_file_is_taken(emulator_url: str, fal: Fal, files: Files) -> None:
    """An upload of a stranger ends at once, however much is sent."""
    settings = {"auth": ("tokens",), "tokens_file": files.tokens({"shop": TOKEN})}
    async with guarded_gateway(emulator_url, **settings) as gateway:
        sent = messages(v1.UploadHeader(file_name="a"), b"x" * 4_000_000)
        failed = await failure_of_upload(gateway.address, sent)
        is_unauthenticated(failed, SENTENCES["tokens"], "Upload")
        nothing_came(fal)


def has_none_of(gateway: Running, *tokens: str) -> None:
    """Whether no token, and no signed part of one, is in the log."""
    for token in tokens:
        for part in token.split("."):
            assert len(part) < 12 or part not in gateway.log_text

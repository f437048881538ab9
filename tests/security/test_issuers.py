"""Where the keys of callers' JWTs come from: files that change, issuers that change, fail, or send elsewhere."""

import asyncio

import pytest
from tests.conftest import Fal, Running
from tests.faults.each_call import failure_of_any
from tests.jwt_making import jwk_set
from tests.security.each_method import begun, nothing_came
from tests.security.guarded import Files, guarded_gateway, reloaded
from tests.security.test_tokens_of_callers import EC, RSA, STRANGER, bearer, by_jwt, claims, has_none_of
from tests.unit.test_transport import Connection, serving

from falrpc import v1


async def codes(gateway: Running, *tokens: str) -> list[str]:
    """How calls with these tokens end."""
    found = []
    for token in tokens:
        call = gateway.stub.Run(
            v1.RunRequest(endpoint_id="emulator/echo"), metadata=bearer(token), timeout=30
        )
        found.append((await call.code()).name)
    return found


async def test_a_file_of_keys_that_changes(emulator_url: str, fal: Fal, files: Files) -> None:
    """A key that is taken out of the file does not count any more, not even for a token that did; a file
    without good keys changes nothing."""
    keys = files.write("keys.json", jwk_set(RSA.jwk()))
    tokens = (RSA.token(claims()), EC.token(claims()))
    async with guarded_gateway(emulator_url, **by_jwt(keys)) as gateway:
        assert await codes(gateway, *tokens) == ["OK", "UNAUTHENTICATED"]
        files.write("keys.json", jwk_set(EC.jwk()))
        await reloaded(gateway)
        assert await codes(gateway, *tokens) == ["UNAUTHENTICATED", "OK"]
        for count, bad in enumerate(("no JSON", '{"keys":[]}', jwk_set(RSA.jwk(private=True))), start=1):
            files.write("keys.json", bad)
            assert (await reloaded(gateway, "reload.refused", count))[-1]["what"] == "JWT keys"
            assert await codes(gateway, *tokens) == ["UNAUTHENTICATED", "OK"], bad
        assert len(fal.received()) == 5


class Issuer:
    """What serves the keys, or does not."""

    def __init__(self) -> None:
        self.keys = jwk_set(RSA.jwk())
        self.is_out = False
        self.readings = 0

    async def behave(self, connection: Connection) -> None:
        await connection.request()
        self.readings += 1
        status = "503 Service Unavailable" if self.is_out else "200 OK"
        head = f"HTTP/1.1 {status}\r\ncontent-length: {len(self.keys)}\r\nconnection: close\r\n\r\n"
        await connection.write((head + self.keys).encode())


async def test_an_issuer_with_a_new_key(emulator_url: str, fal: Fal) -> None:
    """A token with the issuer's new key counts at once. Many with keys that nobody has do not make the issuer
    be asked many times."""
    issuer = Issuer()
    async with (
        serving(issuer.behave) as server,
        guarded_gateway(emulator_url, **by_jwt(f"{server.url}/keys")) as gateway,
    ):
        assert await codes(gateway, RSA.token(claims()), STRANGER.token(claims())) == [
            "OK",
            "UNAUTHENTICATED",
        ]
        issuer.keys = jwk_set(RSA.jwk(), EC.jwk())
        assert await codes(gateway, EC.token(claims()), RSA.token(claims())) == ["OK", "OK"]
        unknown = [EC.token(claims(), kid=f"key-{number}") for number in range(20)]
        assert set(await codes(gateway, *unknown)) == {"UNAUTHENTICATED"}
        assert issuer.readings == 2
        assert len(fal.received()) == 3
        # The issuer never hears of a caller, nor fal's key.
        assert not any(b"authorization" in sent.lower() for sent in server.requests)


async def test_an_issuer_that_is_out(emulator_url: str, fal: Fal) -> None:
    """While the issuer is out its keys count for a while; then no JWT does, and that is nobody's fault but
    ours: UNAVAILABLE. When it is back, so are its callers."""
    issuer = Issuer()
    async with serving(issuer.behave) as server:
        settings = by_jwt(f"{server.url}/keys", jwt_jwks_seconds=1.0, jwt_jwks_stale_seconds_max=3.0)
        async with guarded_gateway(emulator_url, **settings) as gateway:
            good, bad = RSA.token(claims()), STRANGER.token(claims())
            issuer.is_out = True
            async with asyncio.timeout(30):
                while not gateway.logged("jwks.failed"):
                    await asyncio.sleep(0.02)
            assert await codes(gateway, good, bad) == ["OK", "UNAUTHENTICATED"]
            async with asyncio.timeout(30):
                while await codes(gateway, good) == ["OK"]:
                    await asyncio.sleep(0.05)
            fal.reset()
            for token in (good, bad):
                failed = await failure_of_any(begun(gateway.stub, "Run", metadata=bearer(token)))
                assert (failed.code, failed.info.reason) == ("UNAVAILABLE", "AUTHENTICATION_UNAVAILABLE")
                assert failed.delivery == "NOT_SENT"
            assert await codes(gateway, "c4n4ry-token-that-is-none") == ["UNAUTHENTICATED"]
            nothing_came(fal)
            issuer.is_out = False
            async with asyncio.timeout(30):
                while await codes(gateway, good) != ["OK"]:
                    await asyncio.sleep(0.05)
            has_none_of(gateway, good, bad)


@pytest.mark.parametrize(
    "head",
    ["301 Moved Permanently\r\nlocation: {target}", "200 OK\r\ncontent-encoding: gzip", "204 No Content"],
    ids=["a redirect", "an encoding", "nothing"],
)
async def test_an_issuer_that_sends_elsewhere(emulator_url: str, fal: Fal, head: str) -> None:
    """What is no plain answer with keys is none, and nobody goes where it points."""
    issuer = Issuer()
    async with serving(issuer.behave) as server, serving(Issuer().behave) as elsewhere:
        settings = by_jwt(f"{server.url}/keys", jwt_jwks_seconds=1.0, jwt_jwks_stale_seconds_max=60.0)
        async with guarded_gateway(emulator_url, **settings) as gateway:
            body = jwk_set(STRANGER.jwk())
            named = head.replace("{target}", elsewhere.url)
            answer = f"HTTP/1.1 {named}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n{body}"

            async def behave(connection: Connection) -> None:
                await connection.request()
                await connection.write(answer.encode())

            server.behaviour = behave
            async with asyncio.timeout(30):
                while not gateway.logged("jwks.failed"):
                    await asyncio.sleep(0.02)
            assert await codes(gateway, RSA.token(claims()), STRANGER.token(claims())) == [
                "OK",
                "UNAUTHENTICATED",
            ]
            assert elsewhere.connections == []
            assert len(fal.received()) == 1

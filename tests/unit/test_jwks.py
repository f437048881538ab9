"""Keys of JWTs from a URL: real requests through the service's transport, a clock that is set."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable

import pytest
from tests.jwt_making import Signer, jwk_set

from falrpc_server.access.jwk_sets import FixedKeys, KeySet
from falrpc_server.access.jwks import ASK_SECONDS_MIN, BODY_BYTES_MAX, UrlKeys
from falrpc_server.access.refusals import Kind, Refusal
from falrpc_server.fal_http.transport import Transport

ALGORITHMS = ("ES256",)
KEPT_SECONDS, STALE_SECONDS = 300.0, 3_600.0
ONE, TWO = Signer("ES256", "one").jwk(), Signer("ES256", "two").jwk()


def http(body: str | bytes, status: str = "200 OK", *headers: str) -> bytes:
    body = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Issuer:
    """An HTTP server with one answer."""

    def __init__(self) -> None:
        self.answer = http(jwk_set(ONE))
        self.requests: list[str] = []
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.asked = asyncio.Event()
        self.url = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            self.asked.set()
            await self.goes_on.wait()
            writer.write(self.answer)
            await writer.drain()
        writer.close()


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    one = Issuer()
    server = await asyncio.start_server(one.handle, "127.0.0.1", 0)
    one.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys?of=us"
    yield one
    one.goes_on.set()
    server.close()


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def clock() -> Clock:
    return Clock()


Make = Callable[..., UrlKeys]


@pytest.fixture
async def make(issuer: Issuer, told: list[str], clock: Clock) -> AsyncIterator[Make]:
    """Keys from the issuer's URL, not yet started."""
    made: list[UrlKeys] = []
    async with Transport() as transport:

        def keys(url: str = "", kept_seconds: float = KEPT_SECONDS) -> UrlKeys:
            made.append(
                UrlKeys(
                    url or issuer.url,
                    transport,
                    ALGORITHMS,
                    kept_seconds=kept_seconds,
                    stale_seconds_max=STALE_SECONDS,
                    user_agent="falrpc/test",
                    tell=told.append,
                    clock=clock,
                )
            )
            return made[-1]

        yield keys
        for one in made:
            await one.aclose()


async def unavailable(keys: UrlKeys, kid: str | None = "one") -> None:
    with pytest.raises(Refusal) as caught:
        await keys.for_kid(kid)
    assert (caught.value.kind, caught.value.reason) == (Kind.UNAVAILABLE, "AUTHENTICATION_UNAVAILABLE")


async def test_keys_are_read_once(make: Make, issuer: Issuer, told: list[str]) -> None:
    """The first reading is enough for all calls, and is a plain GET."""
    keys = make()
    assert not keys.is_usable
    await keys.start()
    assert keys.is_usable
    for kid in ("one", None, "one"):
        assert (await keys.for_kid(kid)).knows("one")
    assert [line.lower() for line in issuer.requests[0].split("\r\n") if line] == [
        "get /keys?of=us http/1.1",
        f"host: {issuer.url.split('/')[2]}",
        "accept: application/json",
        "accept-encoding: identity",
        "user-agent: falrpc/test",
    ]
    assert (len(issuer.requests), told) == (1, [])


async def test_an_unknown_key_is_asked_for_once_a_minute(make: Make, issuer: Issuer, clock: Clock) -> None:
    """However many tokens name keys that are not known, the issuer is asked once a minute."""
    keys = make()
    await keys.start()
    for kid in itertools.islice(map(str, itertools.count()), 200):
        assert not (await keys.for_kid(kid)).knows(kid)
    assert len(issuer.requests) == 2
    clock.now += ASK_SECONDS_MIN - 0.01
    await keys.for_kid("two")
    assert len(issuer.requests) == 2
    issuer.answer = http(jwk_set(ONE, TWO))
    clock.now += 0.01
    assert (await keys.for_kid("two")).knows("two")
    assert len(issuer.requests) == 3


async def test_calls_share_one_reading(make: Make, issuer: Issuer) -> None:
    """Calls that come together wait for the same reading; one that leaves does not end it for the others."""
    keys = make()
    await keys.start()
    issuer.asked.clear()
    issuer.goes_on.clear()
    issuer.answer = http(jwk_set(TWO))
    calls = [asyncio.create_task(keys.for_kid("two")) for _ in range(100)]
    async with asyncio.timeout(20):
        await issuer.asked.wait()
    assert (await keys.for_kid("one")).knows("one")  # whoever names a known key does not wait
    calls[0].cancel()
    await asyncio.wait(calls[:1])
    issuer.goes_on.set()
    async with asyncio.timeout(20):
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert all(isinstance(one, KeySet) and one.knows("two") for one in results[1:])
    assert len(issuer.requests) == 2


BAD = {
    "an error": http("{}", "500 Internal Server Error"),
    "nothing there": http(jwk_set(TWO), "404 Not Found"),
    "a redirect": http("", "302 Found", "Location: /other"),
    "no content": http(jwk_set(TWO), "203 Non-Authoritative"),
    "not JSON": http("<html>"),
    "empty": http(""),
    "no keys": http(jwk_set()),
    "only symmetric ones": http(jwk_set({"kty": "oct", "k": "AAAA", "kid": "one"})),
    "compressed": http(jwk_set(TWO), "200 OK", "Content-Encoding: gzip"),
    "cut": http(jwk_set(TWO))[:-10],
    "too long": http(jwk_set(TWO) + " " * BODY_BYTES_MAX),
    "not HTTP": b"\0\0\0\0",
    "nothing": b"",
}


@pytest.mark.parametrize("name", BAD)
async def test_what_is_bad_never_replaces_what_is_good(
    name: str, make: Make, issuer: Issuer, told: list[str], clock: Clock
) -> None:
    """After a bad answer the old keys count until they are too old, then no call is authenticated."""
    keys = make()
    await keys.start()
    issuer.answer = BAD[name]
    clock.now += KEPT_SECONDS
    assert not (await keys.for_kid("two")).knows("two")
    assert len(told) == 1
    assert told[0].startswith(issuer.url.partition("?")[0] + " ")
    assert "of=us" not in told[0]
    clock.now += STALE_SECONDS - KEPT_SECONDS
    assert (await keys.for_kid("one")).knows("one")
    clock.now += 0.01
    assert not keys.is_usable
    await unavailable(keys)
    issuer.answer = http(jwk_set(TWO))
    clock.now += ASK_SECONDS_MIN
    assert (await keys.for_kid("two")).knows("two")
    assert keys.is_usable


async def test_the_size_at_its_limit(make: Make, issuer: Issuer) -> None:
    """A set of 1 MiB is read, of one byte more it is not."""
    text = jwk_set(ONE)
    issuer.answer = http(text + " " * (BODY_BYTES_MAX - len(text)))
    keys = make()
    await keys.start()
    assert keys.is_usable
    issuer.answer = http(text + " " * (BODY_BYTES_MAX - len(text) + 1))
    keys = make()
    await keys.start()
    assert not keys.is_usable


async def test_an_issuer_that_is_not_there_yet(make: Make, issuer: Issuer, told: list[str]) -> None:
    """Without keys at the start calls are UNAVAILABLE, until the background has read them."""
    issuer.answer = http("", "503 Service Unavailable")
    keys = make()
    await keys.start()
    assert told == [f"{issuer.url.partition('?')[0]} answered HTTP 503"]
    for _ in range(50):
        await unavailable(keys)
    asked = len(issuer.requests)
    assert asked <= 3
    issuer.answer = http(jwk_set(ONE))
    async with asyncio.timeout(30):
        while not keys.is_usable:
            await asyncio.sleep(0.02)
    assert (await keys.for_kid("one")).knows("one")


async def test_keys_are_read_again_in_the_background(make: Make, issuer: Issuer) -> None:
    """Before they get old keys are read again without a call; the same set stays the same object."""
    keys = make(kept_seconds=1.2)
    await keys.start()
    first = await keys.for_kid("one")
    async with asyncio.timeout(30):
        while len(issuer.requests) < 2:
            await asyncio.sleep(0.02)
        assert await keys.for_kid("one") is first
        issuer.answer = http(jwk_set(TWO))
        while not (await keys.for_kid(None)).knows("two"):
            await asyncio.sleep(0.02)


async def test_nothing_goes_on_after_the_end(make: Make, issuer: Issuer) -> None:
    """Closing ends a reading that hangs, and the background."""
    keys = make(kept_seconds=1.2)
    await keys.start()
    issuer.goes_on.clear()
    issuer.asked.clear()
    waiting = asyncio.create_task(keys.for_kid("two"))
    async with asyncio.timeout(20):
        await issuer.asked.wait()
        await keys.aclose()
        assert not (await waiting).knows("two")
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("jwks")]


async def test_a_reading_is_bounded(
    make: Make, issuer: Issuer, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An issuer that does not answer is given up."""
    monkeypatch.setattr("falrpc_server.access.jwks.READ_SECONDS_MAX", 0.3)
    issuer.goes_on.clear()
    async with asyncio.timeout(30):
        await make().start()
    assert told == [f"{issuer.url.partition('?')[0]} did not answer within 0.3 s"]


async def test_left_out_keys_are_told_once(make: Make, issuer: Issuer, told: list[str], clock: Clock) -> None:
    """What is left out of a set is told when the set is new."""
    issuer.answer = http(jwk_set(ONE, {"kty": "oct", "k": "c2VjcmV0"}))
    keys = make()
    await keys.start()
    for _ in range(2):
        clock.now += ASK_SECONDS_MIN
        await keys.for_kid("two")
    assert len(issuer.requests) == 3
    assert told == [
        f"{issuer.url.partition('?')[0]} left out: keys[1]: is symmetric: whoever verifies with it could sign"
    ]


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.example/keys",
        "http://10.0.0.1/keys",
        "http://localhost.evil.example/keys",
        "http://127.0.0.1@evil.example/keys",
        "ftp://127.0.0.1/keys",
        "file:///etc/keys",
        "/etc/keys",
        "",
    ],
)
async def test_where_keys_are_not_fetched(url: str) -> None:
    """Only https is trusted with keys, and http on loopback."""
    async with Transport() as transport:
        with pytest.raises(ValueError, match="https"):
            UrlKeys(
                url, transport, ALGORITHMS, kept_seconds=1, stale_seconds_max=1, user_agent="", tell=print
            )


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1:1", "127.8.0.1", "[::1]:1"])
async def test_where_keys_are_fetched(make: Make, host: str) -> None:
    """https anywhere; http on loopback."""
    make(f"http://{host}/keys")
    make("https://issuer.example/keys")


async def test_keys_of_a_file() -> None:
    """Keys that somebody else reads are those that were given last."""
    first, second = (KeySet.read(jwk_set(key), ALGORITHMS) for key in (ONE, TWO))
    keys = FixedKeys(first)
    assert await keys.for_kid("two") is first
    keys.replace(second)
    assert await keys.for_kid("two") is second

"""The keys that sign callers' JWTs, fetched from their issuer's URL.

The service's own transport fetches them: no redirects, no proxies of the environment. They are read again
before they get old, in the background, so that no call waits for it. A call waits only where a token names a
key that is not known: the issuer may have a new one. That is asked once a minute however many such tokens
come, and for all of them at once.
"""

import asyncio
import ipaddress
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import cast

import httpx

from falrpc_server.access.jwk_sets import KeySet, KeySetError
from falrpc_server.access.refusals import Kind, Refusal

__all__ = ["UrlKeys"]

BODY_BYTES_MAX = 1024 * 1024
READ_SECONDS_MAX = 10.0
ASK_SECONDS_MIN = 60.0  # between two readings for the sake of unknown keys
RETRY_SECONDS_MAX = 60.0
REST_SECONDS_MIN = 1.0  # between two readings in the background
FRESH_SHARE = 0.75  # of the time that keys are kept, after which they are read again


class UrlKeys:
    """Keys at a URL. Between start() and aclose() they are kept current."""

    def __init__(
        self,
        url: str,
        transport: httpx.AsyncBaseTransport,
        algorithms: Sequence[str],
        *,
        kept_seconds: float,
        stale_seconds_max: float,
        user_agent: str,
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ValueError for a URL that is neither https nor loopback's.

        Args:
            url: Of a JWK set.
            transport: The service's own.
            algorithms: Those that JWTs may be signed with.
            kept_seconds: How long keys are kept before they are read again.
            stale_seconds_max: How long they count when they can't be read again.
            user_agent: For the request.
            tell: Takes sentences for the log: keys that can't be read, and those that are left out.
            clock: Seconds, from any beginning.
        """
        self._url = httpx.URL(url)
        if self._url.scheme != "https" and not (self._url.scheme == "http" and _is_loopback(self._url.host)):
            raise ValueError("keys are fetched by https only; http is for loopback addresses")
        self._transport = transport
        self._algorithms = algorithms
        self._kept_seconds = kept_seconds
        self._stale_seconds_max = max(stale_seconds_max, kept_seconds)
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": user_agent,
        }
        self._tell = tell
        self._clock = clock
        self._keys: KeySet | None = None
        self._body = b""
        self._read_at = 0.0
        self._asked_at: float | None = None
        self._failures = 0
        self._reading: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def is_usable(self) -> bool:
        """Whether there are keys that count."""
        return self._in_force() is not None

    async def start(self) -> None:
        """Reads the keys for the first time, and keeps them current. That they can't be read is told only."""
        await self._read_shared()
        self._keeping = asyncio.create_task(self._keep_current(), name="jwks")

    async def aclose(self) -> None:
        """Ends what goes on in the background."""
        tasks = [task for task in (self._keeping, self._reading) if task and not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def for_kid(self, kid: str | None) -> KeySet:
        """The keys in force, read again if need be. Raises Refusal when there are none."""
        keys = self._in_force()
        if keys is None or (kid is not None and not keys.knows(kid)):
            if self._is_reading() or self._may_ask():
                await self._read_shared()
            keys = self._in_force()
        if keys is None:
            raise Refusal(
                Kind.UNAVAILABLE,
                "AUTHENTICATION_UNAVAILABLE",
                "callers can't be authenticated at present: the keys of their JWTs can't be read",
                retry_seconds=REST_SECONDS_MIN,
            )
        return keys

    def _in_force(self) -> KeySet | None:
        return self._keys if self._clock() - self._read_at <= self._stale_seconds_max else None

    def _may_ask(self) -> bool:
        """Whether a call may cause a reading; then it has."""
        now = self._clock()
        if self._asked_at is not None and now - self._asked_at < ASK_SECONDS_MIN:
            return False
        self._asked_at = now
        return True

    def _is_reading(self) -> bool:
        return self._reading is not None and not self._reading.done()

    async def _read_shared(self) -> None:
        """Waits for the reading that goes on, or for a new one. A caller who leaves does not end it."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(), name="jwks.read")
        await asyncio.wait({self._reading})

    async def _keep_current(self) -> None:
        while True:
            rest = self._kept_seconds * FRESH_SHARE
            if self._failures:
                rest = min(rest, RETRY_SECONDS_MAX, 2.0 ** min(self._failures - 1, 10))
            await asyncio.sleep(max(rest, REST_SECONDS_MIN))
            await self._read_shared()

    async def _read(self) -> None:
        """Reads the keys. What is bad or empty never replaces what is good."""
        try:
            async with asyncio.timeout(READ_SECONDS_MAX):
                body = await self._fetch()
            if self._keys is None or body != self._body:  # the same set stays the same object
                keys = KeySet.read(body, self._algorithms)
                for sentence in keys.ignored:
                    self._tell(f"{self.shown_url} left out: {sentence}")
                self._keys, self._body = keys, body
        except Exception as error:
            self._failures += 1
            self._tell(f"{self.shown_url} {_reason(error)}")
            return
        self._failures = 0
        self._read_at = self._clock()

    async def _fetch(self) -> bytes:
        request = httpx.Request(
            "GET", self._url, headers=self._headers, extensions={"timeout": {"read": READ_SECONDS_MAX}}
        )
        response = await self._transport.handle_async_request(request)
        try:
            if response.status_code != 200:
                raise KeySetError(f"answered HTTP {response.status_code}")
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                raise KeySetError("answered with a content encoding")
            body = bytearray()
            async with aclosing(cast(AsyncGenerator[bytes], response.aiter_raw())) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) > BODY_BYTES_MAX:
                        raise KeySetError(f"answered with more than {BODY_BYTES_MAX} bytes")
            return bytes(body)
        finally:
            await response.aclose()

    @property
    def shown_url(self) -> str:
        """The URL without what may be secret."""
        return str(self._url.copy_with(query=None, fragment=None, username="", password=""))


def _reason(error: Exception) -> str:
    if isinstance(error, KeySetError):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"did not answer within {READ_SECONDS_MAX:g} s"
    return f"can't be read: {type(error).__name__}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""Webhooks (docs/fal-http-api.md §11): tells a URL how a queue request ended, again and again if it must.

It knows bodies, receivers and time; what a queue is it doesn't.
"""

import asyncio
import io
import ipaddress
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import aiohttp
import msgspec
from aiohttp.abc import ResolveResult
from yarl import URL

from falrpc_server.emulator.answers import Answer, Raw, dump
from falrpc_server.emulator.clock import Clock
from falrpc_server.emulator.signing import Signer

__all__ = ["ATTEMPTS_MAX", "RECORDS_MAX", "Delivery", "Webhooks", "payload", "refusal", "retry_seconds"]

ATTEMPTS_MAX = 31
FIRST_TIMEOUT_SECONDS = 15.0
RETRY_TIMEOUT_SECONDS = 120.0
REAL_TIMEOUT_SECONDS_MIN = 1.0  # however fast the clock: a receiver's computer isn't faster
RETRY_SECONDS_FIRST = 1.0
RETRY_GROWTH = 1.25  # 31 attempts then fill 54 minutes of the hour that a small result lives (§7.6)
RECORDS_MAX = 10_000
PENDING_MAX = 10_000
CONNECTIONS_MAX = 100
NOT_JSON = "Response payload is not JSON serializable. Please fetch the result from the queue."


@dataclass(frozen=True, slots=True)
class Delivery:
    """The news of a finished request.

    Attributes:
        request_id: The id given at submit.
        gateway_request_id: The id of the last attempt to run it.
        user_id: Whose request it is.
        answer: What the request ended with.
        expires_after_seconds: How many emulated seconds the stored result lives (§7.6).
    """

    request_id: str
    gateway_request_id: str
    user_id: str
    answer: Answer
    expires_after_seconds: float


@dataclass(slots=True)
class Record:
    """What became of a delivery.

    Attributes:
        attempts: For each its start, as Unix seconds (`at`) and as emulated seconds since the request ended
            (`after_seconds`); then the answer's `status` or the `error`.
        outcome: `pending`, `delivered`, `failed` (retries ended, or a redirect) or `dropped` (never sent).
        reason: Why it failed or was dropped.
    """

    url: str
    request_id: str
    attempts: list[dict[str, Any]] = field(default_factory=list)
    outcome: str = "pending"
    reason: str = ""

    def end(self, outcome: str, reason: str = "") -> None:
        """Notes the outcome."""
        self.outcome, self.reason = outcome, reason


class _Dropped(Exception):
    """This URL is never sent anything."""


class _NotPublic(OSError):
    """A name stands for an address that webhooks don't go to."""


def payload(delivery: Delivery) -> bytes:
    """The body of a webhook (§11.1). The model's JSON is in it byte for byte."""
    answer = delivery.answer
    body: dict[str, Any] = {
        "request_id": delivery.request_id,
        "gateway_request_id": delivery.gateway_request_id,
        "status": "OK",
    }
    if not 200 <= answer.status < 300:
        body |= {"status": "ERROR", "error": f"Invalid status code: {answer.status}"}
    try:
        msgspec.json.decode(answer.body, type=msgspec.Raw)  # looks at the grammar, and not at the UTF-8
        body["payload"] = Raw(answer.body.decode())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        body |= {"payload": None, "payload_error": NOT_JSON}
    return dump(body).encode()


def retry_seconds(attempts: int, passed_seconds: float, expires_after_seconds: float) -> float | None:
    """How long to wait after so many attempts, None when there are no more (§11.2).

    fal says that intervals grow, not how: here each is a quarter longer than the one before.

    Args:
        attempts: How many there were, at least one.
        passed_seconds: Emulated seconds since the request ended.
        expires_after_seconds: When the stored result expires; no attempt begins after that.
    """
    wait = RETRY_SECONDS_FIRST * RETRY_GROWTH ** (attempts - 1)
    if attempts >= ATTEMPTS_MAX or passed_seconds + wait >= expires_after_seconds:
        return None
    return wait


def refusal(url: str, *, allow_loopback: bool) -> str:
    """Why a URL is never sent anything (§11.2), empty when it may be. Names are looked up later."""
    try:
        parsed = URL(url)
        host, port = parsed.host, parsed.port
    except ValueError as error:
        return f"not a URL: {error}"
    if parsed.scheme not in ("http", "https"):
        return "not an http or https URL"
    if not host or not port:
        return "no host or port"
    if not allow_loopback and _is_private(host):
        return "private or loopback address"
    return ""


class Webhooks:
    """All deliveries. They end with `close`.

    `allow_loopback` lets them go to private and loopback addresses, which fal itself drops (§11.2).
    `mistake` is told of exceptions of our own.
    """

    def __init__(
        self, clock: Clock, signer: Signer, *, allow_loopback: bool, mistake: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._signer = signer
        self._allow_loopback = allow_loopback
        self._mistake = mistake
        self._records: deque[Record] = deque(maxlen=RECORDS_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections = asyncio.Semaphore(CONNECTIONS_MAX)
        self._session: aiohttp.ClientSession | None = None
        self._is_closed = False

    def send(self, url: str, delivery: Delivery) -> None:
        """Starts a delivery. Whatever the URL, it raises nothing: `report` tells."""
        record = Record(url, delivery.request_id)
        self._records.append(record)
        reason = refusal(url, allow_loopback=self._allow_loopback)
        if self._is_closed or len(self._tasks) >= PENDING_MAX:
            reason = "the emulator ends" if self._is_closed else "too many are pending"
        if reason:
            record.end("dropped", reason)
            return
        task = asyncio.create_task(self._deliver(record, delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def report(self) -> list[dict[str, Any]]:
        """The latest deliveries, oldest first: see Record."""
        return [asdict(record) for record in self._records]

    async def close(self) -> None:
        """Ends all deliveries; those that are not over stay `pending` in the report."""
        self._is_closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _deliver(self, record: Record, delivery: Delivery) -> None:
        try:
            await self._attempts(record, delivery)
        except _Dropped as error:
            record.end("dropped", str(error))
        except Exception as error:  # our own mistake: told, and no delivery stays pending for ever
            self._mistake()
            record.end("failed", repr(error))

    async def _attempts(self, record: Record, delivery: Delivery) -> None:
        """Sends until the receiver acknowledges, refuses for good or retries end (§11.2)."""
        ended = self._clock.now()
        body = payload(delivery)
        while True:
            timeout_seconds = RETRY_TIMEOUT_SECONDS if record.attempts else FIRST_TIMEOUT_SECONDS
            async with self._connections:
                attempt = {"at": time.time(), "after_seconds": self._clock.now() - ended}
                attempt |= await self._attempt(record.url, delivery, body, timeout_seconds)
            record.attempts.append(attempt)
            status = attempt.get("status", 0)
            if 200 <= status < 300:
                return record.end("delivered")
            if 300 <= status < 400:
                return record.end("failed", "redirects are not followed")
            passed = self._clock.now() - ended
            wait = retry_seconds(len(record.attempts), passed, delivery.expires_after_seconds)
            if wait is None:
                return record.end("failed", "retries ended")
            await self._clock.sleep(wait)
            if self._clock.now() - ended >= delivery.expires_after_seconds:  # the clock was moved
                return record.end("failed", "retries ended")

    async def _attempt(self, url: str, delivery: Delivery, body: bytes, seconds: float) -> dict[str, Any]:
        """Posts once; signed anew, as a timestamp is good for 300 s only (§11.3). Raises _Dropped.

        The status is all that counts (§11.2): a body that comes with it is not read.
        """
        timeout = max(REAL_TIMEOUT_SECONDS_MIN, self._clock.real(seconds))
        try:
            signed = self._signer.headers(delivery.request_id, delivery.user_id, body)
            headers = {"Content-Type": "application/json", **signed}
            async with (
                asyncio.timeout(timeout),
                self._opened().post(
                    URL(url), data=io.BytesIO(body), headers=headers, allow_redirects=False
                ) as response,
            ):
                return {"status": response.status}
        except TimeoutError:
            return {"error": "timeout"}
        except aiohttp.InvalidURL as error:
            raise _Dropped("not a URL") from error
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, _NotPublic):
                raise _Dropped(str(error.os_error)) from error
            return {"error": str(error)}
        except (aiohttp.ClientError, OSError) as error:
            return {"error": str(error) or type(error).__name__}
        except (ValueError, OverflowError) as error:  # odd names, and ids that no header can hold
            raise _Dropped(f"cannot be sent: {error}") from error

    def _opened(self) -> aiohttp.ClientSession:
        """The HTTP session, which opens with the first delivery."""
        if self._session is None:
            # Each attempt has its own connection: one kept open may be closed just as it is used again,
            # and that failure would be ours.
            connector = aiohttp.TCPConnector(
                resolver=_Resolver(self._allow_loopback), use_dns_cache=False, force_close=True, limit=0
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session


class _Resolver(aiohttp.ThreadedResolver):
    """Looks names up, `localhost` and odd spellings like `0x7f.1` too. Literal addresses don't come here."""

    def __init__(self, allow_loopback: bool) -> None:
        super().__init__()
        self._allow_loopback = allow_loopback

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a name. Raises _NotPublic, other OSErrors and UnicodeError."""
        found = await super().resolve(host, port, family)
        if not self._allow_loopback and any(_is_private(one["host"]) for one in found):
            raise _NotPublic("private or loopback address")
        return found


def _is_private(host: str) -> bool:
    """Whether a host is a literal address that isn't public: loopback and link-local ones are private too."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False

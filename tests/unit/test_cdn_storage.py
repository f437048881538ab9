"""CDN tokens on real sockets: when one is asked for, and where it may go."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.test_client import ACCOUNT, answering, response

from falrpc_server.fal_http.cdn_storage import CdnStorage, CdnTokens
from falrpc_server.fal_http.client import Bounds
from falrpc_server.fal_http.error_bodies import Failure, FalError
from falrpc_server.fal_http.models import Scope, Upload
from falrpc_server.fal_http.transfers import Transfers

LONG_SECONDS = 100_000.0
UPLOAD = Upload("a.bin", "application/octet-stream")
EVIL = ["https://evilfal.media", "https://u@127.0.0.1", "http://127.0.0.1.", "http://2130706433", ""]


def token(seconds: float, secret: str = "t-1", base_url: str = "http://127.0.0.1:9") -> bytes:
    """A token's answer; it lives so long."""
    now = datetime.now(UTC)
    body = {
        "token": secret,
        "base_url": base_url,
        "created_at": now.isoformat(),
        "expires_at": (now + timedelta(seconds=seconds)).isoformat(),
    }
    return response("200 OK", json.dumps(body).encode(), Connection="close")


@contextlib.asynccontextmanager
async def tokens(*answers: bytes) -> AsyncIterator[tuple[CdnTokens, list[bytes]]]:
    """Tokens of a server that gives these answers."""
    async with answering(*answers) as (exchanges, hosts, requests):
        yield CdnTokens(Transfers(exchanges, Bounds()), hosts), requests


async def test_a_token_is_kept() -> None:
    """Many at once ask for one token, and the next ones have it."""
    async with tokens(token(LONG_SECONDS)) as (kept, requests):
        found = await asyncio.gather(*(kept.current(Scope(ACCOUNT)) for _ in range(10)))
        found.append(await kept.current(Scope(ACCOUNT)))
        assert {one.secret for one in found} == {"t-1"}
        assert len(requests) == 1


async def test_a_token_is_renewed_before_it_ends() -> None:
    """A token in the last tenth of its life is not used any more."""
    async with tokens(token(1.0), token(LONG_SECONDS, "t-2")) as (kept, _):
        assert (await kept.current(Scope(ACCOUNT))).secret == "t-1"
        await asyncio.sleep(0.91)
        assert (await kept.current(Scope(ACCOUNT))).secret == "t-2"


async def test_a_token_without_a_lifetime_is_used_once() -> None:
    """Nobody knows how long it is good."""
    async with tokens(token(-5), token(LONG_SECONDS, "t-2")) as (kept, _):
        assert (await kept.current(Scope(ACCOUNT))).secret == "t-1"
        assert (await kept.current(Scope(ACCOUNT))).secret == "t-2"


async def test_a_refused_token_is_forgotten_once() -> None:
    """Those who used the old token, too, don't take the new one away."""
    async with tokens(token(LONG_SECONDS), token(LONG_SECONDS, "t-2")) as (kept, _):
        old = await kept.current(Scope(ACCOUNT))
        kept.refused(old)
        assert (await kept.current(Scope(ACCOUNT))).secret == "t-2"
        kept.refused(old)
        assert (await kept.current(Scope(ACCOUNT))).secret == "t-2"


async def test_the_one_who_asks_leaves() -> None:
    """Who waits for a token that another one asked for, and who left, asks anew."""
    async with tokens(token(LONG_SECONDS), token(LONG_SECONDS, "t-2")) as (kept, requests):
        asking = asyncio.create_task(kept.current(Scope(ACCOUNT)))
        waiting = asyncio.create_task(kept.current(Scope(ACCOUNT)))
        async with asyncio.timeout(10):
            while not requests:
                await asyncio.sleep(0)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        assert (await waiting).secret == "t-2"
        assert len(requests) == 2


async def test_many_ask_in_vain() -> None:
    """Those who waited while another one asked in vain hear the same, and ask nobody."""
    refusal = response("403 Forbidden", b"{}", Connection="close")
    async with tokens(refusal, token(LONG_SECONDS)) as (kept, requests):
        failed = await asyncio.gather(
            *(kept.current(Scope(ACCOUNT)) for _ in range(5)), return_exceptions=True
        )
        assert [error.http_status for error in failed if isinstance(error, FalError)] == [403] * 5
        assert len(requests) == 1
        assert (await kept.current(Scope(ACCOUNT))).secret == "t-1"  # who comes later asks again


async def test_a_renewal_that_fails() -> None:
    """A token that is good yet is used on while no new one is to be had."""
    refusal = response("403 Forbidden", b"{}", Connection="close")
    async with tokens(token(20.0), refusal) as (kept, requests):
        first = await kept.current(Scope(ACCOUNT))
        kept._renew_at = 0.0  # else the test would wait for 18 s
        for _ in range(3):
            assert await kept.current(Scope(ACCOUNT)) is first
        assert len(requests) == 2  # and the next try is some seconds away


@pytest.mark.parametrize("base_url", EVIL)
async def test_a_token_for_elsewhere(base_url: str) -> None:
    """A token whose CDN is not on the list is not used."""
    async with tokens(token(LONG_SECONDS, base_url=base_url)) as (kept, _):
        with pytest.raises(FalError) as caught:
            await kept.current(Scope(ACCOUNT))
    assert caught.value.failure is Failure.HOST_REFUSED


@pytest.mark.parametrize("access_url", EVIL[:-1])
async def test_parts_for_elsewhere(access_url: str) -> None:
    """Parts don't go where no file may go: the token would go with them."""
    body = json.dumps({"access_url": f"{access_url}/f", "uploadId": "u-1"}).encode()
    async with answering(response("200 OK", body, Connection="close")) as (_, at_cdn, begun):
        first = token(LONG_SECONDS, base_url=at_cdn.rest)
        async with answering(first) as (exchanges, hosts, _):
            with pytest.raises(FalError) as caught:
                await CdnStorage(Transfers(exchanges, Bounds()), hosts).begin(UPLOAD, Scope(ACCOUNT))
        assert b"authorization: Bearer t-1" in begun[0] or b"Authorization: Bearer t-1" in begun[0]
    assert caught.value.failure is Failure.HOST_REFUSED

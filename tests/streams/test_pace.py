"""How often fal is asked while a request is followed, and when its status stream is tried again."""

import asyncio
import itertools
import time
from typing import Any

import pytest
from tests.conftest import Fal, Running, running_gateway
from tests.failures import messages_and_failure
from tests.service.test_queue_calls import submitted
from tests.service.test_run import arrived
from tests.streams.test_shared_watching import LONG, last_of

from falrpc import v1

COMPLETED = v1.RequestState.REQUEST_STATE_COMPLETED
FLOOR = 0.1  # seconds
EARLY = 0.02  # seconds: a request that was slow on its way makes the next one seem early


def following(gateway: Running, handle: v1.RequestHandle) -> Any:
    return gateway.stub.StreamStatus(v1.StreamStatusRequest(handle=handle), timeout=LONG)


async def looks(fal: Fal, handle: v1.RequestHandle) -> list[tuple[str, float]]:
    """The status calls about a request: whether each was for a stream or a poll, and when it came."""
    records = [r for r in await fal.seen() if handle.request_id in r["path"]]
    kinds = {"status": "poll", "status_stream": "stream"}
    return sorted(
        ((kinds[r["operation"]], r["at"]) for r in records if r["operation"] in kinds),
        key=lambda look: look[1],
    )


def gaps(moments: list[float]) -> list[float]:
    return [late - early for early, late in itertools.pairwise(moments)]


async def test_the_interval_grows_from_the_floor(emulator_url: str, fal: Fal) -> None:
    """Polls begin at the first interval, become rarer up to the cap, and go on at that."""
    pace = {"poll_first_seconds": FLOOR, "poll_seconds_max": 3 * FLOOR}
    async with running_gateway(emulator_url=emulator_url, **pace) as gateway:
        fal.will("fail", operation="status_stream", kind="internal_server_error", times=None)
        handle = await submitted(gateway, "emulator/cancellable")
        call = following(gateway, handle)
        await arrived(fal, "status", 8)
        call.cancel()
        found = gaps([at for kind, at in await looks(fal, handle) if kind == "poll"])[:7]
    wanted = [min(FLOOR * 1.5**n, 3 * FLOOR) for n in range(7)]
    assert all(gap >= least - EARLY for gap, least in zip(found, wanted, strict=True)), found
    assert min(found[5:]) < 7 * FLOOR, found  # it stays at the cap: else 7.6 and 11.4


async def test_no_look_comes_early(emulator_url: str, fal: Fal) -> None:
    """Whether streams are tried between polls or not, no look follows a poll before the interval has passed."""
    pace = {"poll_first_seconds": FLOOR, "poll_seconds_max": 2 * FLOOR, "status_stream_again_seconds": 0.15}
    async with running_gateway(emulator_url=emulator_url, **pace) as gateway:
        fal.will("edge_page", operation="status_stream", times=None)
        handles = [await submitted(gateway, "emulator/cancellable") for _ in range(8)]
        calls = [following(gateway, handle) for handle in handles]  # many enough to find that no stream works
        await arrived(fal, "status", 8 * 12)
        for call in calls:
            call.cancel()
        found = [await looks(fal, handle) for handle in handles]
    assert any(kind == "stream" for one in found for kind, _ in one[1:])
    for one in found:
        pairs = list(itertools.pairwise(one))
        after_polls = [late - early for (kind, early), (_, late) in pairs if kind == "poll"]
        assert min(after_polls) >= FLOOR - EARLY, one
        polls = gaps([at for kind, at in one if kind == "poll"])
        assert min(polls[4:]) >= 2 * FLOOR - EARLY, one  # what has grown stays when a stream fails again


@pytest.mark.parametrize("operation", ["status_stream", "status"])
async def test_retry_after(emulator_url: str, fal: Fal, operation: str) -> None:
    """As long as fal asks for it, whether on a stream or a poll, it is not asked again about the request."""
    pace = {"poll_first_seconds": 0.05, "poll_seconds_max": 0.05}
    async with running_gateway(emulator_url=emulator_url, **pace) as gateway:
        fal.will("fail", operation=operation, kind="concurrent_requests_limit", retry_after="1")
        fal.will("edge_page", operation="status_stream", times=1)
        handle = await submitted(gateway, "emulator/cancellable")
        call = following(gateway, handle)
        await arrived(fal, "status", 4)
        call.cancel()
        found = [at for kind, at in await looks(fal, handle)]
    refused = 0 if operation == "status_stream" else 1
    assert gaps(found)[refused] >= 1 - EARLY


async def test_a_long_retry_after_ends_nobody(emulator_url: str, fal: Fal) -> None:
    """Waiting because fal asked for it does not use up the patience with failures."""
    pace = {"poll_first_seconds": 0.05, "poll_seconds_max": 0.05, "poll_patience_seconds": 0.5}
    async with running_gateway(emulator_url=emulator_url, **pace) as gateway:
        fal.will("edge_page", operation="status_stream", times=None)
        fal.will("fail", operation="status", kind="concurrent_requests_limit", retry_after="1", times=2)
        handle = await submitted(gateway, "emulator/sleep", '{"seconds":0.5}')
        last = await last_of(following(gateway, handle))
    assert last.status.state == COMPLETED


@pytest.mark.parametrize("operation", ["status_stream", "status"])
async def test_a_retry_after_of_a_day(gateway: Running, fal: Fal, operation: str) -> None:
    """A wait that is longer than anybody should be left without news is the caller's to decide."""
    fal.will("fail", operation=operation, kind="concurrent_requests_limit", retry_after="86400", times=None)
    fal.will("edge_page", operation="status_stream", times=None)
    handle = await submitted(gateway, "emulator/cancellable")
    _, failed = await messages_and_failure(following(gateway, handle))
    assert failed.code == "RESOURCE_EXHAUSTED"


async def test_patience_ends(emulator_url: str, fal: Fal) -> None:
    """Failures without a word about when to come again are borne for so long and no longer."""
    pace = {"poll_first_seconds": 0.1, "poll_seconds_max": 0.1, "poll_patience_seconds": 1.0}
    async with running_gateway(emulator_url=emulator_url, **pace) as gateway:
        fal.will("edge_page", operation="status_stream", times=None)
        fal.will("edge_page", operation="status", times=None)
        handle = await submitted(gateway, "emulator/cancellable")
        started = time.monotonic()
        _, failed = await messages_and_failure(following(gateway, handle))
        assert failed.code == "UNAVAILABLE"
        assert 0.9 < time.monotonic() - started < 20
        assert 2 <= len(fal.received(operation="status")) <= 11


async def test_back_to_the_stream(emulator_url: str, fal: Fal) -> None:
    """After FALRPC_STATUS_STREAM_AGAIN_SECONDS of polls the stream is tried again; when it works, polls end."""
    pace = {"poll_first_seconds": 0.05, "status_stream_again_seconds": 0.5}
    async with running_gateway(emulator_url=emulator_url, **pace) as gateway:
        fal.will("edge_page", operation="status_stream", times=1)
        handle = await submitted(gateway, "emulator/cancellable")
        ended = asyncio.create_task(last_of(following(gateway, handle)))
        await arrived(fal, "status_stream", 2)
        await asyncio.sleep(0.5)  # polls would go on meanwhile
        found = await looks(fal, handle)
        kinds = [kind for kind, _ in found]
        assert kinds == ["stream", *["poll"] * (len(kinds) - 2), "stream"]
        assert len(kinds) > 3
        assert found[-1][1] - found[0][1] >= 0.5 - EARLY
        await gateway.stub.Cancel(v1.CancelRequest(handle=handle))
        assert (await ended).status.state == COMPLETED
        assert [kind for kind, _ in await looks(fal, handle)] == kinds


async def test_a_silent_stream(emulator_url: str, fal: Fal) -> None:
    """A stream that is silent for FALRPC_STATUS_STREAM_IDLE_SECONDS is left; polls tell the rest."""
    async with running_gateway(emulator_url=emulator_url, status_stream_idle_seconds=0.5) as gateway:
        fal.will("stall", operation="status_stream", after_events=1)
        handle = await submitted(gateway, "emulator/sleep", '{"seconds":0.2}')
        last = await last_of(following(gateway, handle))
        assert last.status.state == COMPLETED
        (first, opened), (second, polled), *_ = await looks(fal, handle)
        assert (first, second) == ("stream", "poll")
        assert polled - opened >= 0.5 - EARLY

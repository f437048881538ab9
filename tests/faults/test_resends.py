"""What is sent again, how often, and that nothing else is."""

import asyncio
import time

import pytest
from google.rpc import error_details_pb2
from tests.conftest import Fal, Running, running_gateway
from tests.failures import failure_of
from tests.service.test_queue_calls import collected, request, submitted
from tests.service.test_run import WAIT_SECONDS_MAX, run
from tests.service.test_stream_calls import stream

from falrpc import v1

FALS_OWN = "concurrent_requests_limit"
OWN_429 = {"status": 429, "body": '{"detail":"the app is busy"}', "headers": {"x-fal-request-id": "r-1"}}


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("method", ["Run", "Stream", "Submit"])
async def test_fals_own_limit_passes(gateway: Running, fal: Fal, method: str, times: int) -> None:
    """A paid request that fal itself refused with a 429 is sent again, and its caller sees only the answer."""
    fal.will("fail", operation=method.lower(), kind=FALS_OWN, times=times)
    if method == "Run":
        await gateway.stub.Run(run("emulator/echo"))
    elif method == "Stream":
        await collected(gateway.stub.Stream(stream("emulator/events", '{"events":[1]}')))
    else:
        await submitted(gateway, "emulator/echo")
    records = fal.received(operation=method.lower())
    assert [record["status"] for record in records] == [429] * times + [200]
    [accepted] = gateway.logged("request.accepted")
    [finished] = gateway.logged("call.finished")
    assert accepted["request_id"] == finished["request_id"]
    assert finished["attempts"] == times + 1


async def test_fals_own_limit_stays(gateway: Running, fal: Fal) -> None:
    """After two resends the 429 is the answer: REJECTED, with the time to wait."""
    fal.will("fail", operation="run", kind=FALS_OWN, times=None)
    failed = await failure_of(gateway.stub.Run(run("emulator/echo")))
    assert (failed.code, failed.delivery) == ("RESOURCE_EXHAUSTED", "REJECTED")
    assert failed.find(error_details_pb2.RetryInfo) is not None
    assert len(fal.received(operation="run")) == 3


@pytest.mark.parametrize(
    ("operation", "scenario"),
    [
        pytest.param("run", {"act": "answer", **OWN_429}, id="an app's own 429"),
        pytest.param("run", {"act": "fail", "kind": FALS_OWN, "retry_after": "30"}, id="much later"),
    ],
)
async def test_what_is_told_at_once(
    gateway: Running, fal: Fal, operation: str, scenario: dict[str, object]
) -> None:
    """An app's own limit, and one that lasts, are for the caller to decide: one request."""
    fal.will(**{**scenario, "operation": operation, "times": None})  # type: ignore[arg-type]
    failed = await failure_of(gateway.stub.Run(run("emulator/echo")))
    assert failed.code == "RESOURCE_EXHAUSTED"
    assert len(fal.received(operation=operation)) == 1


async def test_a_callers_own_queue_limit(gateway: Running, fal: Fal) -> None:
    """A 429 that answers the caller's max_queue_length is told, not repeated."""
    fal.will("answer", operation="submit", times=None, **OWN_429)
    asked = request("emulator/echo")
    asked.queue.max_queue_length = 3
    failed = await failure_of(gateway.stub.Submit(asked))
    assert failed.info.reason == "QUEUE_TOO_LONG"
    assert len(fal.received(operation="submit")) == 1


@pytest.mark.parametrize(("header", "seconds"), [("1", 1.0), ("date", 1.0)])
async def test_retry_after(gateway: Running, fal: Fal, header: str, seconds: float) -> None:
    """fal's Retry-After, in seconds or as a date, is waited for."""
    started = time.monotonic()
    if header == "date":  # of whole seconds: one to two from now
        header = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 2))
    fal.will("fail", operation="run", kind=FALS_OWN, retry_after=header)
    await gateway.stub.Run(run("emulator/echo"))
    assert seconds - 0.1 <= time.monotonic() - started < 30


async def test_no_repeat_past_the_deadline(gateway: Running, fal: Fal) -> None:
    """A wait that would outlast the deadline is not begun: the caller hears at once what happened."""
    fal.will("fail", operation="run", kind=FALS_OWN, retry_after="4", times=None)
    started = time.monotonic()
    failed = await failure_of(gateway.stub.Run(run("emulator/echo"), timeout=3))
    assert (failed.code, failed.delivery) == ("RESOURCE_EXHAUSTED", "REJECTED")
    assert time.monotonic() - started < 2.5


async def test_a_cancelled_wait_sends_nothing(gateway: Running, fal: Fal) -> None:
    """A caller that leaves between two attempts is the end of them."""
    fal.will("fail", operation="run", kind=FALS_OWN, retry_after="2", times=1)
    call = gateway.stub.Run(run("emulator/echo"))
    await answered(fal)
    call.cancel()
    await asyncio.sleep(2.5)  # not for luck: until then it would have been sent again
    assert len(fal.received(operation="run")) == 1


async def test_drained_between_attempts(emulator_url: str, fal: Fal) -> None:
    """A paid call that the server's end cuts while it waits to repeat a refused request may be repeated."""
    async with running_gateway(emulator_url=emulator_url, drain_seconds=0.0) as gateway:
        fal.will("fail", operation="run", kind=FALS_OWN, retry_after="4", times=None)
        call = gateway.stub.Run(run("emulator/echo"))
        await answered(fal)
        await gateway.gateway.drain()
        failed = await failure_of(call)
        assert (failed.code, failed.info.reason, failed.delivery) == (
            "UNAVAILABLE",
            "SERVER_DRAINING",
            "NOT_SENT",
        )


async def test_an_outage_is_not_met_with_more_load(emulator_url: str, fal: Fal) -> None:
    """While everything fails, resends stay a share of the requests: here 0.1 of 200 and 10."""
    async with running_gateway(emulator_url=emulator_url, breaker_failures=1_000_000) as gateway:
        fal.will("edge_page", operation="status", times=None)
        handle = await submitted(gateway, "emulator/echo")
        asked = v1.StatusRequest(handle=handle)
        started = time.monotonic()
        failures = await asyncio.gather(*(failure_of(gateway.stub.Status(asked)) for _ in range(200)))
        assert {failed.code for failed in failures} == {"UNAVAILABLE"}
        assert time.monotonic() - started < 10, "too slow to tell: the window has moved on"
        resends = len(fal.received(operation="status")) - 200
        assert 10 <= resends <= 10 + 0.1 * 201


async def test_an_exchange_that_never_ends(emulator_url: str, fal: Fal) -> None:
    """A brief exchange whose bytes trickle in is over after FALRPC_EXCHANGE_SECONDS_MAX, silent or not."""
    limits = {"exchange_seconds_max": 0.4, "resends_max": 0}
    async with running_gateway(emulator_url=emulator_url, **limits) as gateway:
        fal.will("slow_body", operation="submit", chunk_bytes=1, seconds=2.0, times=None)
        started = time.monotonic()
        failed = await failure_of(gateway.stub.Submit(request("emulator/echo")))
        assert (failed.code, failed.info.reason) == ("UNKNOWN", "OUTCOME_UNKNOWN")
        assert 0.4 <= time.monotonic() - started < 5


async def answered(fal: Fal) -> None:
    """Waits until fal has answered the first Run, and a little for the gateway to read that."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while not any(record["outcome"] == "answered" for record in await fal.seen(operation="run")):
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)

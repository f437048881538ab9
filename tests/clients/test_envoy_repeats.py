"""What the Envoy of deploy/envoy sends again, and to whom: reads, nothing that is paid, to instances that serve."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.clients.deployed import Proxied, gateway_behind_envoy
from tests.conftest import Fal
from tests.failures import failure_of, messages_and_failure

from falrpc import v1

LONG = 60  # seconds, beyond every limit here
DRAIN_SECONDS = 8  # 5 by default; Envoy needs 3
READS_TRIES = 3  # envoy.yaml: num_retries: 2
REPEATED = ("Status", "Result", "Cancel")
HANDLE = v1.RequestHandle(endpoint_id="emulator/echo", request_id="7d1c2c0e-6a0b-4f6e-9b0e-0c6d0b1f2a11")
PAID = ("Run", "Submit", "Subscribe", "Stream", "StreamWorkflow")


@pytest.fixture
async def proxied(emulator_url: str, fal: Fal) -> AsyncIterator[Proxied]:
    """A gateway that sends nothing to fal again, behind Envoy."""
    async with gateway_behind_envoy(emulator_url=emulator_url, resends_max=0) as one:
        yield one


@pytest.mark.parametrize("method", PAID)
async def test_paid_calls_are_sent_once(proxied: Proxied, fal: Fal, method: str) -> None:
    """A paid call that fails at fal reaches the gateway once, and fal once."""
    fal.will("answer", status=503, times=None)
    await paid(proxied, method)
    assert len(fal.received()) == 1
    assert len(await proxied.gateway.finished()) == 1
    assert await proxied.envoy.statistic("cluster.falrpc.upstream_rq_retry") == 0


@pytest.mark.parametrize("method", PAID)
async def test_paid_calls_that_nothing_was_sent_of(unused_port: int, method: str) -> None:
    """A paid call that ends UNAVAILABLE before anything was sent is not repeated either."""
    settings = {"resends_max": 0, "breaker_failures": 1, "breaker_seconds": 60}
    async with gateway_behind_envoy(emulator_url=f"http://127.0.0.1:{unused_port}", **settings) as proxied:
        for nth in (1, 2):
            failure = await paid(proxied, method)
            assert failure.code == "UNAVAILABLE"
            assert len(await proxied.gateway.finished(nth)) == nth
        assert failure.info.reason == "UPSTREAM_SUSPENDED"


@pytest.mark.parametrize("method", REPEATED)
async def test_reads_are_repeated(proxied: Proxied, fal: Fal, method: str) -> None:
    """A read that ends UNAVAILABLE is sent again, as often as the file says, with the last failure as its end."""
    fal.will("answer", status=503, times=None)
    failure = await read(proxied, method)
    assert failure.code == "UNAVAILABLE"
    assert len(await proxied.gateway.finished(READS_TRIES)) == READS_TRIES
    assert len(fal.received()) == READS_TRIES


async def test_a_stream_that_reads_is_repeated(emulator_url: str, fal: Fal) -> None:
    """A StreamStatus that ends UNAVAILABLE before its first message is sent again."""
    fal.will("answer", status=503, times=None)
    settings = {"resends_max": 0, "poll_patience_seconds": 0.5}
    async with gateway_behind_envoy(emulator_url=emulator_url, **settings) as proxied:
        call = proxied.stub.StreamStatus(v1.StreamStatusRequest(handle=HANDLE), timeout=LONG)
        messages, failure = await messages_and_failure(call)
        assert (messages, failure.code) == ([], "UNAVAILABLE")
        assert len(await proxied.gateway.finished(READS_TRIES)) == READS_TRIES


async def test_a_status_is_saved_by_repeating(proxied: Proxied, fal: Fal) -> None:
    """A Status that fails in passing succeeds for its caller."""
    submitted = await proxied.stub.Submit(v1.SubmitRequest(endpoint_id="emulator/echo"), timeout=LONG)
    fal.will("answer", operation="status", status=503)
    status = await proxied.stub.Status(v1.StatusRequest(handle=submitted.handle), timeout=LONG)
    assert status.status.state != v1.RequestState.REQUEST_STATE_UNSPECIFIED
    assert await proxied.envoy.statistic("cluster.falrpc.upstream_rq_retry_success") == 1


async def paid(proxied: Proxied, method: str) -> Any:
    """Makes a paid call that fails. Returns how."""
    endpoint_id = "workflows/emulator/replay" if method == "StreamWorkflow" else "emulator/echo"
    request: Any = getattr(v1, "SubmitRequest" if method == "Subscribe" else f"{method}Request")
    request = request(endpoint_id=endpoint_id)
    if method == "Subscribe":
        request = v1.SubscribeRequest(submit=request)
    call = getattr(proxied.stub, method)(request, timeout=LONG)
    is_stream = method.startswith("S") and method != "Submit"
    return (await messages_and_failure(call))[1] if is_stream else await failure_of(call)


async def read(proxied: Proxied, method: str) -> Any:
    """Makes a read that fails. Returns how."""
    request = getattr(v1, f"{method}Request")(handle=HANDLE)
    return await failure_of(getattr(proxied.stub, method)(request, timeout=LONG))


async def test_json_is_sent_once(proxied: Proxied, fal: Fal) -> None:
    """In JSON not even a read is repeated."""
    fal.will("answer", status=503, times=None)
    handle = {"endpointId": "emulator/echo", "requestId": "7d1c2c0e-6a0b-4f6e-9b0e-0c6d0b1f2a11"}
    answer = await proxied.json("Status", {"handle": handle})
    assert (answer.status_code, answer.json()["code"]) == (503, 14)
    assert len(fal.received()) == 1


@pytest.mark.parametrize("forwarded", [(), (("x-forwarded-for", "10.0.0.1"),)])
async def test_no_caller_asks_for_more(unused_port: int, forwarded: tuple[tuple[str, str], ...]) -> None:
    """Envoy's own headers, by which a caller within may ask it to repeat a call, do nothing."""
    settings = {"resends_max": 0, "breaker_failures": 1, "breaker_seconds": 60}
    wishes = (("x-envoy-retry-on", "5xx,reset"), ("x-envoy-retry-grpc-on", "unavailable,cancelled"))
    async with gateway_behind_envoy(emulator_url=f"http://127.0.0.1:{unused_port}", **settings) as proxied:
        for nth in (1, 2):
            request = v1.RunRequest(endpoint_id="emulator/echo")
            given = (*forwarded, *wishes, ("x-envoy-max-retries", "3"))
            await failure_of(proxied.stub.Run(request, timeout=LONG, metadata=given))
            assert len(await proxied.gateway.finished(nth)) == nth
        assert await proxied.envoy.statistic("cluster.falrpc.upstream_rq_retry") == 0


async def test_an_instance_that_stops(emulator_url: str, fal: Fal) -> None:
    """An instance that drains gets no new calls before it refuses them; those in flight go on to their end."""
    async with gateway_behind_envoy(emulator_url=emulator_url, drain_delay_seconds=DRAIN_SECONDS) as proxied:
        call = proxied.stub.Run(
            v1.RunRequest(
                endpoint_id="emulator/sleep", input=v1.Input(json=f'{{"seconds": {DRAIN_SECONDS}}}')
            ),
            timeout=LONG,
        )
        async with asyncio.timeout(LONG):
            while not await fal.seen(operation="run"):
                await asyncio.sleep(0.01)
        draining = asyncio.create_task(proxied.gateway.gateway.drain())
        async with asyncio.timeout(DRAIN_SECONDS):
            while await proxied.envoy.statistic("cluster.falrpc.membership_healthy"):
                await asyncio.sleep(0.05)
        failure = await failure_of(proxied.stub.Run(v1.RunRequest(endpoint_id="emulator/echo"), timeout=LONG))
        assert (failure.code, failure.details) == ("UNAVAILABLE", [])
        assert len(await fal.seen(operation="run")) == 1
        assert (await call).output.json == f'{{"slept":{DRAIN_SECONDS}}}'
        await draining

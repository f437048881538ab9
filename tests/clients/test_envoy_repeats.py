"""What the Envoy of deploy/envoy sends again: reads, and nothing that is paid."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.clients.deployed import Proxied, gateway_behind_envoy
from tests.conftest import Fal
from tests.failures import failure_of, messages_and_failure

from falrpc import v1

LONG = 60  # seconds, beyond every limit here
READS_TRIES = 3  # envoy.yaml: num_retries: 2
REPEATED = ("Status", "Result", "Cancel")
PAID = ("Run", "Submit", "Stream", "StreamWorkflow")


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
    request = getattr(v1, f"{method}Request")(endpoint_id=endpoint_id)
    call = getattr(proxied.stub, method)(request, timeout=LONG)
    return (await messages_and_failure(call))[1] if method.startswith("Stream") else await failure_of(call)


async def read(proxied: Proxied, method: str) -> Any:
    """Makes a read that fails. Returns how."""
    handle = v1.RequestHandle(endpoint_id="emulator/echo", request_id="7d1c2c0e-6a0b-4f6e-9b0e-0c6d0b1f2a11")
    request = getattr(v1, f"{method}Request")(handle=handle)
    return await failure_of(getattr(proxied.stub, method)(request, timeout=LONG))

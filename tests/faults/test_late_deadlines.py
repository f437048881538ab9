"""Time that runs out before a paid request can leave, or leaves too little for another attempt."""

import asyncio
from typing import Any

import pytest
from tests.conftest import Fal, running_gateway
from tests.failures import ended
from tests.faults.broken_servers import full_listener
from tests.faults.each_call import CALLS, LONG, failure_of_any
from tests.service.test_queue_calls import request
from tests.service.test_run import run
from tests.service.test_stream_calls import stream
from tests.unit.test_transport import Connection, serving

from falrpc import v1

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
LIMIT = (
    b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\nx-fal-needs-retry: 1\r\n"
    b"retry-after: %d\r\ncontent-length: 14\r\n\r\n"
    b'{"detail":"x"}'
)
PICTURE = {"p": v1.Attachment(data=b"picture")}
TEXT = '{"image_url":"attachment:p"}'
CUT_SECONDS = 0.5


@pytest.mark.parametrize("resends", [0, 2])
@pytest.mark.parametrize("method", ["Submit", "Subscribe"])
async def test_an_exchange_that_ends_while_connecting(method: str, resends: int) -> None:
    """A submission whose time is over before it has a connection was not sent."""
    settings = {"connect_seconds": LONG, "exchange_seconds_max": CUT_SECONDS, "resends_max": resends}
    with full_listener() as url:
        async with running_gateway(emulator_url=url, **settings) as gateway:
            failed = await failure_of_any(CALLS[method](gateway.stub))
            assert (failed.code, failed.info.reason) == ("UNAVAILABLE", "UPSTREAM_UNREACHABLE")
            assert failed.delivery == "NOT_SENT"
            assert (await gateway.finished())[-1]["attempts"] == 1 + resends


@pytest.mark.parametrize("method", ["Submit", "Subscribe"])
async def test_an_exchange_that_ends_while_it_waits_for_a_connection(method: str) -> None:
    """A submission whose time is over while others have all connections was not sent."""

    async def hold(connection: Connection) -> None:
        await connection.request()
        await connection.until_closed()

    settings = {"connections_per_host_max": 1, "pool_seconds": LONG, "exchange_seconds_max": CUT_SECONDS}
    async with serving(hold) as fal, running_gateway(emulator_url=fal.url, **settings) as gateway:
        holding = gateway.stub.Run(run("a/b"), timeout=LONG)
        await fal.got(1)
        failed = await failure_of_any(CALLS[method](gateway.stub))
        assert failed.code in ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
        assert failed.info.reason in ("UPSTREAM_UNREACHABLE", "UPSTREAM_BUSY")
        assert failed.delivery == "NOT_SENT"
        assert len(fal.requests) == 1
        holding.cancel()


@pytest.mark.parametrize("operation", ["upload_initiate", "upload_put"])
@pytest.mark.parametrize("method", ["Run", "Submit", "Stream", "StreamWorkflow", "Subscribe"])
async def test_an_attachment_that_hangs(emulator_url: str, fal: Fal, method: str, operation: str) -> None:
    """A paid call whose time is over while its attachment is stored is told that it was not sent."""
    fal.will("hang", operation=operation, times=None)
    async with running_gateway(emulator_url=emulator_url, deadline_seconds_max=1.0) as gateway:
        failed = await failure_of_any(with_attachment(gateway.stub, method))
        assert (failed.code, failed.info.reason) == ("DEADLINE_EXCEEDED", "CALL_DEADLINE_EXCEEDED")
        assert failed.delivery == "NOT_SENT"
    assert {record["operation"] for record in fal.received()} <= {"upload_initiate", "upload_put"}


@pytest.mark.parametrize("method", ["Run", "Subscribe"])
async def test_an_attachment_that_a_drain_cuts(emulator_url: str, fal: Fal, method: str) -> None:
    """A paid call whose attachment a drain cuts is told that it was not sent, and may be made elsewhere."""
    fal.will("hang", operation="upload_put", times=None)
    async with running_gateway(emulator_url=emulator_url, drain_seconds=0.2) as gateway:
        failing = asyncio.ensure_future(failure_of_any(with_attachment(gateway.stub, method)))
        async with asyncio.timeout(LONG):
            while not await fal.seen(operation="upload_put"):
                await asyncio.sleep(0.01)
        await gateway.gateway.drain()
        failed = await failing
        assert (failed.code, failed.info.reason) == ("UNAVAILABLE", "SERVER_DRAINING")
        assert failed.delivery == "NOT_SENT"


@pytest.mark.parametrize("method", ["Run", "Stream"])
async def test_the_start_timeout_of_a_resend(method: str) -> None:
    """fal is told with each attempt how much time is left then."""

    async def behave(connection: Connection) -> None:
        for answer in (LIMIT % 1, OK):
            await connection.request()
            await connection.write(answer)

    async with serving(behave) as fal, running_gateway(emulator_url=fal.url) as gateway:
        assert await ended(paid(gateway.stub, method, timeout=30)) == "OK"
        first, second = (start_timeout(sent) for sent in fal.requests)
        assert first < 31  # grpc rounds the deadline up on its way
        assert second <= first - 0.99


@pytest.mark.parametrize("method", ["Run", "Stream", "Submit"])
async def test_too_late_to_send_again(method: str) -> None:
    """With less than a second left behind fal's own pause a refused request is told, not sent again."""

    async def behave(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.write(LIMIT % 1)

    settings = {"deadline_seconds_max": 1.9}
    async with serving(behave) as fal, running_gateway(emulator_url=fal.url, **settings) as gateway:
        failed = await failure_of_any(paid(gateway.stub, method, timeout=LONG))
        assert (failed.code, failed.delivery) == ("RESOURCE_EXHAUSTED", "REJECTED")
        assert len(fal.requests) == 1


def paid(stub: Any, method: str, timeout: float) -> Any:
    asked = {"Run": run("a/b"), "Stream": stream("a/b"), "Submit": request("a/b")}[method]
    return getattr(stub, method)(asked, timeout=timeout)


def with_attachment(stub: Any, method: str) -> Any:
    """A call with an attachment, without a deadline of its own."""
    given = {"input": v1.Input(json=TEXT), "attachments": PICTURE}
    submit = v1.SubmitRequest(endpoint_id="emulator/echo", **given)  # type: ignore[arg-type]
    asked: dict[str, Any] = {
        "Run": v1.RunRequest(endpoint_id="emulator/echo", **given),  # type: ignore[arg-type]
        "Submit": submit,
        "Stream": v1.StreamRequest(endpoint_id="emulator/events", **given),  # type: ignore[arg-type]
        "StreamWorkflow": v1.StreamWorkflowRequest(endpoint_id="workflows/a/b", **given),  # type: ignore[arg-type]
        "Subscribe": v1.SubscribeRequest(submit=submit),
    }
    return getattr(stub, method)(asked[method])


def start_timeout(sent: bytes) -> float:
    """What a request says about the time until its start."""
    lines = sent.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
    [value] = [line.partition(b":")[2] for line in lines if line.startswith(b"x-fal-request-start-timeout:")]
    return float(value)

"""Submissions whose answer's head has come, and its body has not: fal's id is known, and is not lost."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.conftest import Running, running_gateway
from tests.failures import failure_of
from tests.faults.each_call import LONG, failure_of_any
from tests.service.test_queue_calls import request
from tests.service.test_run import WAIT_SECONDS_MAX
from tests.unit.test_transport import Connection, Server, serving

from falrpc import v1

PAID_ID = "paid-id-1"
BODY = b'{"request_id":"%b"}' % PAID_ID.encode()
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    b"x-fal-request-id: %b\r\ncontent-length: %d\r\n\r\n" % (PAID_ID.encode(), len(BODY))
)
CANCELLED = (
    b"HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\ncontent-length: 35\r\n\r\n"
    b'{"status":"CANCELLATION_REQUESTED"}'
)


async def half(connection: Connection) -> None:
    """Answers a submission with the head and one byte of the body, then nothing; a cancellation in full."""
    if (await connection.request()).startswith(b"PUT"):
        await connection.write(CANCELLED)
        return
    await connection.write(HEAD + BODY[:1])
    await connection.until_closed()


@pytest.fixture
async def fal() -> AsyncIterator[Server]:
    async with serving(half) as server:
        yield server


def submission(gateway: Running, method: str) -> Any:
    """A call that submits, with a deadline far away."""
    if method == "Submit":
        return gateway.stub.Submit(request("a/b"), timeout=LONG)
    return gateway.stub.Subscribe(v1.SubscribeRequest(submit=request("a/b")), timeout=LONG)


async def accepted(gateway: Running) -> None:
    """Waits for the line, and for nothing after it."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while not gateway.logged("request.accepted"):
            await asyncio.sleep(0.01)


def assert_one_line(gateway: Running) -> None:
    [line] = gateway.logged("request.accepted")
    assert (line["request_id"], line["endpoint_id"]) == (PAID_ID, "a/b")


@pytest.mark.parametrize("method", ["Submit", "Subscribe"])
async def test_a_caller_that_leaves(fal: Server, method: str) -> None:
    """Of a caller that leaves between the head and the body the log has the id."""
    async with running_gateway(emulator_url=fal.url) as gateway:
        call = submission(gateway, method)
        await accepted(gateway)
        call.cancel()
        [finished] = await gateway.finished()
        assert finished["request_id"] == PAID_ID
        assert_one_line(gateway)
    cancels = [sent.split(b" ")[1] for sent in fal.requests if sent.startswith(b"PUT")]
    path = f"/queue/a/b/requests/{PAID_ID}/cancel".encode()
    assert cancels == ([path] if method == "Subscribe" else [])  # nobody follows it any more


@pytest.mark.parametrize("limit", ["deadline_seconds_max", "exchange_seconds_max", "read_idle_seconds"])
@pytest.mark.parametrize("method", ["Submit", "Subscribe"])
async def test_time_that_is_over(fal: Server, method: str, limit: str) -> None:
    """When time is over between the head and the body, the log and the caller have the id."""
    async with running_gateway(emulator_url=fal.url, **{limit: 1.0}) as gateway:
        failed = await failure_of_any(submission(gateway, method))
        assert failed.code == ("DEADLINE_EXCEEDED" if limit == "deadline_seconds_max" else "UNKNOWN")
        assert failed.info.metadata["request_id"] == PAID_ID
        assert_one_line(gateway)
        assert len([sent for sent in fal.requests if sent.startswith(b"POST")]) == 1


@pytest.mark.parametrize("method", ["Submit", "Subscribe"])
async def test_a_drain(fal: Server, method: str) -> None:
    """A drain that cuts a submission between the head and the body tells its caller the id."""
    async with running_gateway(emulator_url=fal.url, drain_seconds=0.2) as gateway:
        failing = asyncio.ensure_future(failure_of_any(submission(gateway, method)))
        await accepted(gateway)
        await gateway.gateway.drain()
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            failed = await failing
        assert (failed.code, failed.info.reason) == ("UNKNOWN", "SERVER_DRAINING")
        assert (failed.delivery, failed.info.metadata["request_id"]) == ("ACCEPTED", PAID_ID)
        assert_one_line(gateway)


@pytest.mark.parametrize("in_head", [True, False], ids=["in the head, too", "in the body only"])
async def test_a_whole_answer(in_head: bool) -> None:
    """A submission that is answered whole has one line, wherever fal tells the id."""
    head = HEAD if in_head else HEAD.replace(b"x-fal-request-id", b"x-other")

    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.write(head + BODY)

    async with serving(behave) as fal, running_gateway(emulator_url=fal.url) as gateway:
        response = await gateway.stub.Submit(request("a/b"), timeout=LONG)
        assert response.handle.request_id == PAID_ID
        assert_one_line(gateway)


async def test_a_body_that_is_cut() -> None:
    """A submission whose body breaks off is told with the id of its head, and made once."""

    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.write(HEAD + BODY[:1])

    async with serving(behave) as fal, running_gateway(emulator_url=fal.url) as gateway:
        failed = await failure_of(gateway.stub.Submit(request("a/b"), timeout=LONG))
        assert (failed.code, failed.info.metadata["request_id"]) == ("UNKNOWN", PAID_ID)
        assert_one_line(gateway)
        assert len(fal.requests) == 1

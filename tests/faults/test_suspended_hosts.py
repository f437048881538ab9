"""A host that only fails is left alone for a while, then tried with one request."""

import asyncio

import pytest
from google.rpc import error_details_pb2
from tests.conftest import Fal, Running, running_gateway
from tests.failures import failure_of, messages_and_failure
from tests.service.test_queue_calls import IN_PROGRESS, collected, request, submitted
from tests.service.test_run import arrived, run
from tests.unit.test_transport import Connection, serving

from falrpc import v1

FAILURES = 4
PAUSE = 1.0  # seconds
LIMITS = {"breaker_failures": FAILURES, "breaker_seconds": PAUSE, "resends_max": 0}


async def fails(gateway: Running, calls: int) -> None:
    for _ in range(calls):
        assert (await failure_of(gateway.stub.Run(run("emulator/echo")))).info.reason == "OUTCOME_UNKNOWN"


@pytest.mark.parametrize("act", ["edge_page", "close_after_body"])
async def test_a_host_that_only_fails(emulator_url: str, fal: Fal, act: str) -> None:
    """After so many failures nothing is sent for a while; then one probe goes, and its success ends it."""
    async with running_gateway(emulator_url=emulator_url, **LIMITS) as gateway:
        fal.will(act, operation="run", times=FAILURES)
        await fails(gateway, FAILURES)
        failed = await failure_of(gateway.stub.Run(run("emulator/echo")))
        assert (failed.code, failed.info.reason, failed.delivery) == (
            "UNAVAILABLE",
            "UPSTREAM_SUSPENDED",
            "NOT_SENT",
        )
        retry = failed.find(error_details_pb2.RetryInfo)
        assert retry is not None
        assert 0 < retry.retry_delay.ToMilliseconds() <= PAUSE * 1_000
        assert len(fal.received(operation="run")) == FAILURES
        await asyncio.sleep(PAUSE)
        assert (await gateway.stub.Run(run("emulator/echo"))).output.json == "{}"
        await asyncio.gather(*(gateway.stub.Run(run("emulator/echo")) for _ in range(5)))
        told = [(line["what"], line["value"]) for line in gateway.logged("fal.noticed")]
        assert told == [("host_suspended", emulator_url), ("host_restored", emulator_url)]


async def test_one_probe_at_a_time(emulator_url: str, fal: Fal) -> None:
    """Of many calls after the pause one is sent; as long as it fails, so does the next pause's."""
    async with running_gateway(emulator_url=emulator_url, **LIMITS) as gateway:
        fal.will("edge_page", operation="run", times=None)
        await fails(gateway, FAILURES)
        for probes in range(1, 4):
            await asyncio.sleep(PAUSE)
            calls = (failure_of(gateway.stub.Run(run("emulator/echo"))) for _ in range(20))
            reasons = sorted([failed.info.reason for failed in await asyncio.gather(*calls)])
            assert reasons == ["OUTCOME_UNKNOWN"] + ["UPSTREAM_SUSPENDED"] * 19
            assert len(fal.received(operation="run")) == FAILURES + probes


async def test_failures_that_are_the_requests_own(emulator_url: str, fal: Fal) -> None:
    """A model that fails, fal's limit, a refused input and an unknown path say nothing against the host."""
    async with running_gateway(emulator_url=emulator_url, **LIMITS) as gateway:
        for kind in (
            *("runner_server_error", "runner_disconnected", "concurrent_requests_limit"),
            *("less_than", "unknown_path"),
        ):
            fal.will("fail", operation="run", kind=kind, times=FAILURES)
            for _ in range(FAILURES):
                failed = await failure_of(gateway.stub.Run(run("emulator/echo")))
                assert failed.delivery in ("FAILED", "REJECTED")
        assert gateway.logged("fal.noticed") == []
        assert (await gateway.stub.Run(run("emulator/echo"))).output.json == "{}"


async def test_calls_that_their_callers_end(emulator_url: str, fal: Fal) -> None:
    """A caller's deadline and a caller that leaves say nothing against the host either."""
    async with running_gateway(emulator_url=emulator_url, **LIMITS) as gateway:
        fal.will("hang", operation="run", times=2 * FAILURES)
        calls = [gateway.stub.Run(run("emulator/echo"), timeout=1) for _ in range(2 * FAILURES)]
        await arrived(fal, "run", 2 * FAILURES)
        assert {(await failure_of(call)).code for call in calls} == {"DEADLINE_EXCEEDED"}
        assert (await gateway.stub.Run(run("emulator/echo"))).output.json == "{}"


async def test_status_streams_that_fail() -> None:
    """However many status streams the edge refuses, paid calls go on: the polls say that the host is well."""
    count = 100
    waiting, refused = asyncio.Semaphore(0), asyncio.Event()

    async def behave(connection: Connection) -> None:
        target = (await connection.request()).split(b" ")[1]
        if b"/status/stream" in target:
            waiting.release()
            await refused.wait()
            await connection.write(answered("503 Service Unavailable", b"<html>"))
        elif b"/status" in target:
            await connection.write(answered("202 Accepted", b'{"status":"IN_PROGRESS"}'))
        else:
            await connection.write(answered("200 OK", b'{"request_id":"r"}'))

    async with serving(behave) as fal, running_gateway(emulator_url=fal.url) as gateway:
        calls = []
        for number in range(count):
            handle = v1.RequestHandle(endpoint_id="a/b", request_id=f"r-{number}")
            calls.append(gateway.stub.StreamStatus(v1.StreamStatusRequest(handle=handle), timeout=60))
        for _ in range(count):
            await waiting.acquire()
        refused.set()
        for _ in range(50):
            await submitted(gateway, "emulator/echo")
            await asyncio.sleep(0.01)
        assert {(await call.read()).status.state for call in calls} == {IN_PROGRESS}
        assert gateway.logged("fal.noticed") == []
        for call in calls:
            call.cancel()


def answered(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return head.encode() + body


async def test_following_outlasts_it(emulator_url: str, fal: Fal) -> None:
    """A Subscribe whose host is suspended for a moment goes on when it is back."""
    limits = {**LIMITS, "breaker_seconds": 0.1}
    async with running_gateway(emulator_url=emulator_url, **limits) as gateway:
        fal.will("edge_page", operation="status_stream", times=None)
        fal.will("edge_page", operation="status", times=FAILURES + 2)
        asked = v1.SubscribeRequest(submit=request("emulator/echo", '{"a":1}'))
        messages = await collected(gateway.stub.Subscribe(asked))
        assert messages[-1].result.output.json == '{"a":1}'
        assert "host_suspended" in [line["what"] for line in gateway.logged("fal.noticed")]


async def test_a_host_that_is_not_there(unused_port: int, emulator_url: str, fal: Fal) -> None:
    """One host that can't be reached is left alone; the others are not."""
    urls = {
        "fal_run_url": f"http://127.0.0.1:{unused_port}",
        "fal_queue_url": f"{emulator_url}/queue",
        "fal_rest_url": f"{emulator_url}/rest",
    }
    async with running_gateway(**urls, **{**LIMITS, "breaker_seconds": 60}) as gateway:
        reasons = [
            (await failure_of(gateway.stub.Run(run("emulator/echo")))).info.reason
            for _ in range(FAILURES + 1)
        ]
        assert reasons == ["UPSTREAM_UNREACHABLE"] * FAILURES + ["UPSTREAM_SUSPENDED"]
        await submitted(gateway, "emulator/echo")
        asked = v1.SubscribeRequest(submit=request("emulator/fail", "{}"))
        _, failed = await messages_and_failure(gateway.stub.Subscribe(asked))
        assert failed.info.reason not in ("UPSTREAM_UNREACHABLE", "UPSTREAM_SUSPENDED")

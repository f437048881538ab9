"""What is refused before it is read: the same status, at a lower price, and only where nobody may come in."""

import asyncio
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from tests.conftest import Fal, running_gateway
from tests.failures import failure_of
from tests.overload.test_limits import LONG, occupied
from tests.overload.test_tenants import of, settings
from tests.security.guarded import guarded_gateway
from tests.service.test_run import run
from tests.service.test_stream_calls import stream

from falrpc import v1


async def test_it_is_the_same_refusal(emulator_url: str, fal: Fal) -> None:
    """Unary calls, streams and uploads of a full server end with reason, time and limit, not all with the same
    time; and the log tells how many they were."""
    async with running_gateway(
        emulator_url=emulator_url, calls_in_flight_max=1, streams_in_flight_max=1, uploads_in_flight_max=1
    ) as gateway:
        stub = gateway.stub
        ticking = stub.Stream(stream("emulator/ticks", '{"events":1000,"seconds":1}'))
        held = [stub.Run(run("emulator/sleep", LONG)), ticking]
        uploading = stub.Upload()
        await uploading.write(v1.UploadRequest(header=v1.UploadHeader(file_name="a", size=2)))
        await uploading.write(v1.UploadRequest(chunk=b"a"))
        await occupied(fal, held, 2)
        refused = [await failure_of(stub.Run(run("emulator/echo"))) for _ in range(5)]
        refused.append(await failure_of(stub.Stream(stream("emulator/ticks", "{}")).read()))
        refused.append(await failure_of(stub.Upload()))
        for failed in refused:
            assert (failed.code, failed.info.reason) == ("RESOURCE_EXHAUSTED", "SERVER_BUSY")
            assert failed.delivery == "NOT_SENT"
        quotas = [failed.find(error_details_pb2.QuotaFailure) for failed in refused]
        subjects = [quota.violations[0].subject for quota in quotas if quota]
        classes = ["calls"] * 5 + ["streams", "uploads"]
        assert subjects == [f"server:{name}_in_flight_max" for name in classes]
        retries = [failed.find(error_details_pb2.RetryInfo) for failed in refused]
        assert len({retry.retry_delay.nanos for retry in retries if retry}) > 3
        async with asyncio.timeout(20):
            while not (lines := gateway.logged("calls.refused")):
                await asyncio.sleep(0.05)
        assert [(line["reason"], line["count"]) for line in lines] == [("SERVER_BUSY", len(refused))]
        assert gateway.logged("call.finished") == []
        for call in (*held, uploading):
            call.cancel()


@pytest.mark.parametrize("token", [None, "token-of-nobody-at-all"])
async def test_strangers_of_several_tenants(
    emulator_url: str, fal: Fal, tmp_path: Path, token: str | None
) -> None:
    """With several tenants a call is looked at while one that is below its share might come in: a stranger is
    told that nobody knows it, and the other tenant is served beyond the limit."""
    values = settings(tmp_path, "") | {"calls_in_flight_max": 10}
    async with guarded_gateway(emulator_url, **values) as gateway:
        stub = gateway.stub
        held = [stub.Run(run("emulator/sleep", LONG), metadata=of("one")) for _ in range(10)]
        await occupied(fal, held, 10)
        metadata = [("authorization", f"Bearer {token}")] if token else []
        failed = await failure_of(stub.Run(run("emulator/echo"), metadata=metadata))
        assert failed.code == "UNAUTHENTICATED"
        await stub.Run(run("emulator/echo"), metadata=of("other"))
        held.append(stub.Run(run("emulator/sleep", LONG), metadata=of("other")))  # the overflow's only place
        await occupied(fal, held, 11)
        failed = await failure_of(stub.Run(run("emulator/echo"), metadata=metadata))
        assert (failed.code, failed.info.reason) == ("RESOURCE_EXHAUSTED", "SERVER_BUSY")
        for call in held:
            call.cancel()


async def test_a_client_that_sends_much(emulator_url: str, fal: Fal) -> None:
    """A refused call does not wait for its request: one that is large is told at once, too."""
    async with running_gateway(emulator_url=emulator_url, calls_in_flight_max=1) as gateway:
        held = gateway.stub.Run(run("emulator/sleep", LONG))
        await occupied(fal, [held], 1)
        large = run("emulator/echo", '{"text":"' + "x" * 8 * 1024 * 1024 + '"}')
        for _ in range(3):
            call = gateway.stub.Run(large, timeout=30)
            assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        held.cancel()


async def test_a_full_server_that_stops(emulator_url: str, fal: Fal) -> None:
    """A full server that is about to stop says so: who is told that it is busy would come again."""
    async with running_gateway(emulator_url=emulator_url, calls_in_flight_max=1) as gateway:
        held = gateway.stub.Run(run("emulator/sleep", LONG))
        await occupied(fal, [held], 1)
        await gateway.gateway._calls.refuse_new(0.0, 0.0)
        failed = await failure_of(gateway.stub.Run(run("emulator/echo")))
        assert (failed.code, failed.info.reason) == ("UNAVAILABLE", "SERVER_DRAINING")
        held.cancel()

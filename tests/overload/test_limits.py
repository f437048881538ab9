"""What callers see when the server serves no more at once."""

import asyncio
from typing import Any

import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.conftest import Fal, Running, running_gateway
from tests.failures import failure_of
from tests.service.test_run import run
from tests.service.test_stream_calls import stream

from falrpc import v1
from falrpc_server.interceptors.admission import METHODS

LONG = '{"seconds":60}'
WAIT_SECONDS_MAX = 20
WAVES = 6
WAVE = 8


async def occupied(fal: Fal, calls: list[Any], count: int) -> None:
    """Waits until so many requests are open at fal."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while await fal.open_requests() < count:
            assert not any(call.done() for call in calls)
            await asyncio.sleep(0.01)


def test_every_method_has_a_class() -> None:
    """Each method of FalService is counted somewhere."""
    assert set(METHODS) == {name for name in vars(v1.FalServiceServicer) if name[0].isupper()}


async def test_a_full_server(emulator_url: str, fal: Fal) -> None:
    """One call more than the limit is refused with reason, time and limit; one less is served."""
    async with running_gateway(emulator_url=emulator_url, calls_in_flight_max=2) as gateway:
        calls = [gateway.stub.Run(run("emulator/sleep", LONG)) for _ in range(2)]
        await occupied(fal, calls, 2)
        failed = await failure_of(gateway.stub.Run(run("emulator/echo")))
        assert (failed.code, failed.info.reason) == ("RESOURCE_EXHAUSTED", "SERVER_BUSY")
        assert failed.delivery == "NOT_SENT"
        retry = failed.find(error_details_pb2.RetryInfo)
        assert retry
        assert 0.4 < retry.retry_delay.ToMilliseconds() / 1_000 < 1.6
        assert len(fal.received()) == 2
        calls[0].cancel()
        await served_again(gateway)
        calls[1].cancel()


async def served_again(gateway: Running) -> None:
    """Waits until a call is served."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while True:
            call = gateway.stub.Run(run("emulator/echo"))
            if (await call.code()).name == "OK":
                return
            await asyncio.sleep(0.01)


async def test_classes_are_apart(emulator_url: str, fal: Fal) -> None:
    """With no place for calls there are still places for streams, and the other way round."""
    async with running_gateway(
        emulator_url=emulator_url, calls_in_flight_max=1, streams_in_flight_max=1
    ) as gateway:
        call = gateway.stub.Run(run("emulator/sleep", LONG))
        await occupied(fal, [call], 1)
        ticking = gateway.stub.Stream(stream("emulator/ticks", '{"events":1000,"seconds":1}'))
        assert (await ticking.read()) is not None
        failed = await failure_of(gateway.stub.Stream(stream("emulator/ticks", "{}")).read())
        assert (failed.code, failed.info.reason) == ("RESOURCE_EXHAUSTED", "SERVER_BUSY")
        failed = await failure_of(gateway.stub.Run(run("emulator/echo")))
        assert (failed.code, failed.info.reason) == ("RESOURCE_EXHAUSTED", "SERVER_BUSY")
        ticking.cancel()
        call.cancel()


async def test_health_is_exempt(emulator_url: str, fal: Fal) -> None:
    """A full server still says that it serves: a probe that fails would kill it exactly then."""
    async with running_gateway(
        emulator_url=emulator_url, calls_in_flight_max=1, streams_in_flight_max=1, memory_bytes_max=1
    ) as gateway:
        call = gateway.stub.Run(run("emulator/sleep", LONG))
        await occupied(fal, [call], 1)
        stub = health_pb2_grpc.HealthStub(gateway.channel)
        asked = health_pb2.HealthCheckRequest(service="falrpc.v1.FalService")
        watching = [stub.Watch(asked) for _ in range(5)]
        for watch in watching:
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        for _ in range(20):
            assert (await stub.Check(asked)).status == health_pb2.HealthCheckResponse.SERVING
        failed = await failure_of(gateway.stub.Run(run("emulator/echo")))
        assert failed.code == "RESOURCE_EXHAUSTED"
        for one in (*watching, call):
            one.cancel()


async def test_little_memory(emulator_url: str, fal: Fal) -> None:
    """Above the watermark a call is refused as long as others are in flight."""
    async with running_gateway(emulator_url=emulator_url, memory_bytes_max=1) as gateway:
        assert (await gateway.stub.Run(run("emulator/echo"))).output.json == "{}"
        call = gateway.stub.Run(run("emulator/sleep", LONG))
        await occupied(fal, [call], 1)
        failed = await failure_of(gateway.stub.Run(run("emulator/echo")))
        assert (failed.code, failed.info.reason) == ("RESOURCE_EXHAUSTED", "MEMORY_SHORT")
        call.cancel()


@pytest.mark.parametrize(
    ("endpoint", "input_json", "timeout", "code"),
    [
        pytest.param("emulator/sleep", '{"seconds":0.2}', None, "OK", id="served"),
        pytest.param("emulator/fail", '{"seconds":0.2}', None, "INTERNAL", id="failed"),
        pytest.param("emulator/sleep", LONG, 0.5, "DEADLINE_EXCEEDED", id="late"),
        pytest.param("emulator/sleep", LONG, None, "CANCELLED", id="left"),
    ],
)
async def test_waves_against_a_limit_of_two(
    emulator_url: str, fal: Fal, endpoint: str, input_json: str, timeout: float | None, code: str
) -> None:
    """Wave after wave exactly two of eight calls begin, however they end: no place is lost or gained."""
    async with running_gateway(emulator_url=emulator_url, calls_in_flight_max=2) as gateway:
        for wave in range(1, WAVES + 1):
            calls = [gateway.stub.Run(run(endpoint, input_json), timeout=timeout) for _ in range(WAVE)]
            await refused(calls, WAVE - 2)
            if timeout is None and input_json == LONG:
                await seen(fal, 2 * wave)
            if code == "CANCELLED":
                for call in calls:
                    call.cancel()
            codes = sorted([(await one.code()).name for one in calls])
            assert codes == sorted(["RESOURCE_EXHAUSTED"] * (WAVE - 2) + [code] * 2)
            await nothing_in_flight(gateway)
        paid = [request for request in fal.received() if request["operation"] == "run"]
        assert len(paid) == 2 * WAVES


async def seen(fal: Fal, count: int) -> None:
    """Waits until so many requests have come to fal."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while len(await fal.seen(operation="run")) < count:
            await asyncio.sleep(0.01)


async def refused(calls: list[Any], count: int) -> None:
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while sum(call.done() for call in calls) < count:
            await asyncio.sleep(0.005)


async def nothing_in_flight(gateway: Running) -> None:
    """Waits until no call is in flight, clean-ups included."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while len(gateway.gateway._calls):
            await asyncio.sleep(0.005)

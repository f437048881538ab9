"""Settings do what docs/configuration.md says, each through a running gateway."""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import time
from itertools import pairwise
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from tests.conftest import KEY, Fal, Running, running_gateway
from tests.failures import failure_of, failure_of_upload, messages_and_failure
from tests.service.test_queue_calls import submitted, waiting
from tests.service.test_run import arrived, run
from tests.service.test_server import reflected
from tests.service.test_stream_calls import replayed, stream
from tests.service.test_upload_calls import DATA, messages

from falrpc import v1

LONG = 10  # seconds: a call whose setting is ignored ends then, DEADLINE_EXCEEDED
NOT_COMPLETED = '{"seconds":30}'


# Deadlines


async def test_the_deadline_of_calls_without_one(emulator_url: str, fal: Fal) -> None:
    """A call without a deadline ends after FALRPC_DEFAULT_DEADLINE_SECONDS; one with its own has that."""
    async with running_gateway(emulator_url=emulator_url, default_deadline_seconds=0.3) as gateway:
        failed = await failure_of(gateway.stub.Run(run("emulator/sleep", f'{{"seconds":{LONG}}}')))
        assert (failed.code, failed.info.reason) == ("DEADLINE_EXCEEDED", "CALL_DEADLINE_EXCEEDED")
        assert failed.delivery == "UNKNOWN"
        response = await gateway.stub.Run(run("emulator/sleep", '{"seconds":0.5}'), timeout=LONG)
        assert response.output.json == '{"slept":0.5}'


@pytest.mark.parametrize("own", [LONG, None], ids=["with a deadline", "without one"])
async def test_the_cap_of_deadlines(emulator_url: str, fal: Fal, own: float | None) -> None:
    """No call takes longer than FALRPC_DEADLINE_SECONDS_MAX, whatever its deadline."""
    async with running_gateway(emulator_url=emulator_url, deadline_seconds_max=0.3) as gateway:
        asked = stream("emulator/events", '{"events":[1],"end":"hang"}')
        received, failed = await messages_and_failure(gateway.stub.Stream(asked, timeout=own))
        assert (failed.code, failed.info.reason) == ("DEADLINE_EXCEEDED", "CALL_DEADLINE_EXCEEDED")
        assert [m.event.json for m in received[1:]] == ["1"]


# The ways to fal


async def test_connecting(emulator_url: str, fal: Fal) -> None:
    """Connecting, a TLS handshake included, is given up after FALRPC_CONNECT_SECONDS; nothing was sent."""
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel connects, and nobody shakes hands
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        limits = {"connect_seconds": 0.2, "pool_seconds": 3_600}
        async with running_gateway(emulator_url=url, **limits) as gateway:
            failed = await failure_of(gateway.stub.Run(run("emulator/echo"), timeout=LONG))
    assert (failed.code, failed.info.reason, failed.delivery) == (
        "UNAVAILABLE",
        "UPSTREAM_UNREACHABLE",
        "NOT_SENT",
    )


@pytest.mark.parametrize("limit", ["connections_max", "connections_per_host_max"])
async def test_waiting_for_a_connection(emulator_url: str, fal: Fal, limit: str) -> None:
    """One call more than FALRPC_CONNECTIONS_MAX or FALRPC_CONNECTIONS_PER_HOST_MAX waits FALRPC_POOL_SECONDS
    for a free connection, and is not sent."""
    limits = {limit: 1, "pool_seconds": 0.2, "connect_seconds": 3_600}
    async with running_gateway(emulator_url=emulator_url, **limits) as gateway:
        first = gateway.stub.Run(run("emulator/sleep", NOT_COMPLETED))
        await arrived(fal, "run")
        failed = await failure_of(gateway.stub.Run(run("emulator/echo"), timeout=LONG))
        assert (failed.code, failed.info.reason, failed.delivery) == (
            "RESOURCE_EXHAUSTED",
            "UPSTREAM_BUSY",
            "NOT_SENT",
        )
        assert failed.find(error_details_pb2.RetryInfo) is not None
        assert len(fal.received(operation="run")) == 1
        first.cancel()


async def test_other_hosts_than_fals(emulator_url: str, fal: Fal) -> None:
    """FALRPC_FAL_RUN_URL, …QUEUE_URL and …REST_URL say where requests go, FALRPC_UPLOAD_HOSTS files."""
    urls = {f"fal_{name}_url": f"{emulator_url}/{name}" for name in ("run", "queue", "rest")}
    file = v1.UploadHeader(file_name="f", size=len(DATA))
    async with running_gateway(**urls, upload_hosts="fal.media, 127.0.0.1") as gateway:
        assert (await gateway.stub.Run(run("emulator/echo"))).output.json == "{}"
        await submitted(gateway, "emulator/echo")
        assert (await gateway.stub.Upload(messages(file))).size == len(DATA)
        assert [record["path"].split("/")[1] for record in fal.received()] == ["run", "queue", "rest", "cdn"]
    async with running_gateway(**urls) as gateway:
        failed = await failure_of_upload(gateway.address, messages(file))
        assert (failed.code, failed.info.reason) == ("INTERNAL", "UPLOAD_HOST_REFUSED")
        assert len(fal.received(operation="upload_put")) == 1


# Silence


@pytest.mark.parametrize(
    ("method", "operation", "code"),
    [
        pytest.param("Submit", "submit", "UNKNOWN", id="paid"),
        pytest.param("Cancel", "cancel", "UNAVAILABLE", id="cancel"),
        pytest.param("Status", "status", "UNAVAILABLE", id="read"),
        pytest.param("Result", "result", "UNAVAILABLE", id="read of an output"),
    ],
)
async def test_silent_exchanges(emulator_url: str, fal: Fal, method: str, operation: str, code: str) -> None:
    """An exchange that should answer at once and is silent for FALRPC_READ_IDLE_SECONDS ends."""
    async with running_gateway(emulator_url=emulator_url, read_idle_seconds=0.1) as gateway:
        asked: Any = v1.SubmitRequest(endpoint_id="emulator/echo")
        if method != "Submit":
            asked = getattr(v1, f"{method}Request")(handle=await submitted(gateway, "emulator/echo"))
        fal.will("hang", operation=operation, times=None)
        failed = await failure_of(getattr(gateway.stub, method)(asked, timeout=LONG))
        assert failed.code == code
        assert failed.info.reason in ("OUTCOME_UNKNOWN", "UPSTREAM_INTERRUPTED")


async def test_the_outcome_of_a_silent_result(emulator_url: str, fal: Fal) -> None:
    """StreamStatus asks FALRPC_READ_IDLE_SECONDS long for the outcome, then ends without one."""
    async with running_gateway(emulator_url=emulator_url, read_idle_seconds=0.1) as gateway:
        handle = await submitted(gateway, "emulator/echo")
        fal.will("hang", operation="result", times=None)
        asked = v1.StreamStatusRequest(handle=handle)
        statuses = [m.status async for m in gateway.stub.StreamStatus(asked, timeout=LONG)]
        assert statuses[-1].state == v1.RequestState.REQUEST_STATE_COMPLETED
        assert statuses[-1].outcome == v1.RequestOutcome.REQUEST_OUTCOME_UNSPECIFIED


async def test_a_run_may_be_silent(emulator_url: str, fal: Fal) -> None:
    """Neither limit of silence is for a run: a model may take its time."""
    limits = {"read_idle_seconds": 0.1, "stream_idle_seconds": 0.1}
    async with running_gateway(emulator_url=emulator_url, **limits) as gateway:
        response = await gateway.stub.Run(run("emulator/sleep", '{"seconds":0.5}'))
        assert response.output.json == '{"slept":0.5}'


async def test_silent_streams(emulator_url: str, fal: Fal) -> None:
    """A model's stream that is silent for FALRPC_STREAM_IDLE_SECONDS ends, before and between events."""
    async with running_gateway(emulator_url=emulator_url, stream_idle_seconds=0.3) as gateway:
        asked = stream("emulator/events", '{"events":[1],"end":"hang"}')
        received, failed = await messages_and_failure(gateway.stub.Stream(asked, timeout=LONG))
        assert [m.WhichOneof("kind") for m in received] == ["started", "event"]
        assert (failed.code, failed.info.reason) == ("UNKNOWN", "STREAM_TRUNCATED")
        fal.will("hang", operation="stream")
        received, failed = await messages_and_failure(gateway.stub.Stream(asked, timeout=LONG))
        assert received == []
        assert (failed.code, failed.info.reason) == ("UNKNOWN", "OUTCOME_UNKNOWN")


@pytest.mark.parametrize("method", ["Stream", "StreamWorkflow", "StreamStatus", "Subscribe"])
async def test_heartbeats_that_nobody_asked_for(emulator_url: str, fal: Fal, method: str) -> None:
    """A stream that is silent for FALRPC_HEARTBEAT_SECONDS sends a heartbeat, unless the caller said 0."""
    async with running_gateway(emulator_url=emulator_url, heartbeat_seconds=0.1) as gateway:
        asked = await silent(gateway, method)
        async for message in getattr(gateway.stub, method)(asked, timeout=LONG):
            if message.HasField("heartbeat"):
                break
        asked.heartbeat_interval.FromSeconds(0)
        assert "heartbeat" not in await kinds_for_a_while(gateway, method, asked)


async def test_no_heartbeats(emulator_url: str, fal: Fal) -> None:
    """FALRPC_HEARTBEAT_SECONDS=0 is never."""
    async with running_gateway(emulator_url=emulator_url, heartbeat_seconds=0) as gateway:
        asked = await silent(gateway, "StreamStatus")
        assert "heartbeat" not in await kinds_for_a_while(gateway, "StreamStatus", asked)


# Polling


async def test_the_first_interval(emulator_url: str, fal: Fal) -> None:
    """Without fal's status stream the second look comes after FALRPC_POLL_FIRST_SECONDS, give or take 20 %."""
    async with running_gateway(emulator_url=emulator_url, poll_first_seconds=0.8) as gateway:
        first, second = await polled(gateway, fal, 2)
        assert second - first >= 0.8 * 0.8 - 0.02  # two processes read the clock


async def test_the_longest_interval(emulator_url: str, fal: Fal) -> None:
    """The interval between looks stays at FALRPC_POLL_SECONDS_MAX: ten of them come in no time."""
    pace = {"poll_first_seconds": 0.05, "poll_seconds_max": 0.05}
    async with running_gateway(emulator_url=emulator_url, **pace) as gateway:
        times = await polled(gateway, fal, 11)
        assert times[-1] - times[0] < 3  # 0.5 s; it would be at least 4.5 s if the interval grew
        assert min(after - before for before, after in pairwise(times)) >= 0.05 * 0.8 - 0.02


# The listener


@pytest.mark.parametrize(
    ("setting", "listen", "is_offered"),
    [
        pytest.param("auto", "127.0.0.1:0", True, id="auto, loopback"),
        pytest.param("auto", "0.0.0.0:0", False, id="auto, open"),
        pytest.param("on", "0.0.0.0:0", True, id="on"),
        pytest.param("off", "127.0.0.1:0", False, id="off"),
    ],
)
async def test_whether_there_is_reflection(
    emulator_url: str, setting: str, listen: str, is_offered: bool
) -> None:
    """FALRPC_REFLECTION turns reflection on or off; `auto` offers it on a loopback listener only."""
    settings = {"reflection": setting, "listen": listen, "auth": "none"}
    async with running_gateway(emulator_url=emulator_url, **settings) as gateway:
        if is_offered:
            assert "falrpc.v1.FalService" in await reflected(gateway)
        else:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await reflected(gateway)
            assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_how_long_a_drain_waits(emulator_url: str, fal: Fal) -> None:
    """A drain ends calls in flight after FALRPC_DRAIN_DELAY_SECONDS and FALRPC_DRAIN_SECONDS."""
    limits = {"drain_delay_seconds": 0.3, "drain_seconds": 0.3}
    async with running_gateway(emulator_url=emulator_url, **limits) as gateway:
        in_flight = asyncio.create_task(failure_of(gateway.stub.Run(run("emulator/sleep", NOT_COMPLETED))))
        await arrived(fal, "run")
        started = time.monotonic()
        draining = asyncio.create_task(gateway.gateway.drain())
        assert (await in_flight).info.reason == "SERVER_DRAINING"
        assert 0.6 <= time.monotonic() - started < 4
        await draining


@pytest.mark.parametrize(
    ("level", "events"),
    [("info", ["server.failed", "server.stopped"]), ("error", ["server.failed"])],
)
def test_what_is_logged(level: str, events: list[str]) -> None:
    """serve writes lines of FALRPC_LOG_LEVEL and above, and exits 1 when it can't listen."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = subprocess.run(
            [sys.executable, "-m", "falrpc_server", "serve"],
            env={
                "PATH": "",
                "PYTHONPATH": ":".join(sys.path),
                "FAL_KEY": KEY,
                "FALRPC_LISTEN": f"127.0.0.1:{taken.getsockname()[1]}",
                "FALRPC_LOG_LEVEL": level,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 1, done.stderr
    assert sorted(json.loads(line)["event"] for line in done.stdout.splitlines()) == events


# What the tests share


async def silent(gateway: Running, method: str) -> Any:
    """The request of a stream that says nothing for a long time."""
    if method == "Stream":
        return stream("emulator/events", '{"events":[1],"end":"hang"}')
    if method == "StreamWorkflow":
        return replayed("1", end="hang")
    handle = await submitted(gateway, "emulator/sleep", NOT_COMPLETED)
    if method == "StreamStatus":
        return v1.StreamStatusRequest(handle=handle)
    return v1.SubscribeRequest(attach=handle)


async def kinds_for_a_while(gateway: Running, method: str, asked: Any) -> list[str]:
    """What a stream sends at first and in the three intervals of 0.1 s after that."""
    call = getattr(gateway.stub, method)(asked, timeout=LONG)
    kinds = [(await call.read()).WhichOneof("kind")]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.3):
            while (message := await call.read()) is not grpc.aio.EOF:
                kinds.append(message.WhichOneof("kind"))
    call.cancel()
    return kinds


async def polled(gateway: Running, fal: Fal, count: int) -> list[float]:
    """When fal saw the first looks at a request that it gives no status stream for."""
    fal.will("answer", operation="status_stream", status=404, body='{"detail":"Not Found"}', times=None)
    asked = waiting(await submitted(gateway, "emulator/sleep", NOT_COMPLETED), 30)
    call = gateway.stub.Result(asked)
    following = asyncio.ensure_future(awaited(call))
    await arrived(fal, "status", count)
    call.cancel()
    await asyncio.wait({following})
    return [record["at"] for record in fal.received(operation="status")][:count]


async def awaited(call: Any) -> Any:
    return await call

"""The server around the calls: health, reflection, drain, bugs, what it refuses."""

import asyncio
import contextlib
import io
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tests import canary
from tests.conftest import KEY, Fal, Running, running_gateway
from tests.failures import failure_of, messages_and_failure
from tests.service.test_run import arrived, run

from falrpc import v1
from falrpc_server import app
from falrpc_server.app import make_logger
from falrpc_server.config import Settings
from falrpc_server.gateway import CannotListen, Gateway

SERVICE = "falrpc.v1.FalService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.mark.parametrize("name", ["", SERVICE])
async def test_health(gateway: Running, name: str) -> None:
    """Check says SERVING for the server and for the service; another name is NOT_FOUND."""
    stub = health_pb2_grpc.HealthStub(gateway.channel)
    assert (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status == SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(health_pb2.HealthCheckRequest(service="other"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_drain(emulator_url: str, fal: Fal) -> None:
    """A drain tells NOT_SERVING first, still serves for the delay, and lets calls in flight finish."""
    async with running_gateway(emulator_url=emulator_url, drain_delay_seconds=0.5) as gateway:
        watch = health_pb2_grpc.HealthStub(gateway.channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        in_flight = asyncio.ensure_future(
            in_order(gateway.stub.Run(run("emulator/sleep", '{"seconds":0.8}')))
        )
        await arrived(fal, "run")
        draining = asyncio.create_task(gateway.gateway.drain())
        assert (await watch.read()).status == NOT_SERVING
        assert (await gateway.stub.Run(run("emulator/echo"))).output.json == "{}"
        assert (await in_flight).output.json == '{"slept":0.8}'
        await draining
        assert (await failure_code(gateway.stub.Run(run("emulator/echo")))) == "UNAVAILABLE"


async def test_the_end_of_a_drain(emulator_url: str, fal: Fal) -> None:
    """What is not finished at the limit ends: reads UNAVAILABLE, paid calls UNKNOWN, with their ids."""
    async with running_gateway(emulator_url=emulator_url, drain_seconds=0.2) as gateway:
        handle = (await gateway.stub.Submit(v1.SubmitRequest(endpoint_id="emulator/cancellable"))).handle
        paid = asyncio.create_task(failure_of(gateway.stub.Run(run("emulator/sleep", '{"seconds":30}'))))
        asked = v1.SubscribeRequest(submit=v1.SubmitRequest(endpoint_id="emulator/cancellable"))
        subscribed = asyncio.create_task(messages_and_failure(gateway.stub.Subscribe(asked)))
        reading = asyncio.create_task(
            messages_and_failure(gateway.stub.StreamStatus(v1.StreamStatusRequest(handle=handle)))
        )
        await arrived(fal, "run")
        await arrived(fal, "status_stream", 2)
        await gateway.gateway.drain()
        failed = await paid
        assert (failed.code, failed.info.reason, failed.delivery) == ("UNKNOWN", "SERVER_DRAINING", "UNKNOWN")
        messages, failed = await subscribed
        assert (failed.code, failed.info.reason, failed.delivery) == (
            "UNKNOWN",
            "SERVER_DRAINING",
            "ACCEPTED",
        )
        assert failed.info.metadata["request_id"] == messages[0].accepted.request_id
        _, failed = await reading
        assert (failed.code, failed.info.reason) == ("UNAVAILABLE", "SERVER_DRAINING")
        assert fal.received(operation="cancel") == []


async def test_reflection(gateway: Running) -> None:
    """Reflection on a loopback listener lists the services, as grpcurl asks it to."""
    assert await reflected(gateway) == {
        SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


async def test_every_method_is_there(gateway: Running) -> None:
    """Each method of the contract is served, and refuses an empty request by its own rules."""
    methods = v1.RunRequest.DESCRIPTOR.file.services_by_name["FalService"].methods
    assert len(methods) == 10
    for method in methods:
        request = getattr(v1, method.input_type.name)()
        call = getattr(gateway.stub, method.name)
        response = call(iter([request])) if method.client_streaming else call(request)
        if method.server_streaming:
            _, failed = await messages_and_failure(response)
        else:
            failed = await failure_of(response)
        assert (method.name, failed.code, failed.info.reason) == (
            method.name,
            "INVALID_ARGUMENT",
            "INVALID_REQUEST",
        )


async def test_a_bug_shows_nothing(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected exception is INTERNAL with an id; its text is in the log and nowhere else."""

    async def broken(*_: object) -> None:
        raise ValueError("secret-in-an-exception")

    monkeypatch.setattr("falrpc_server.fal_http.client.FalClient.run", broken)
    failed = await failure_of(gateway.stub.Run(run("emulator/echo")))
    assert (failed.code, failed.info.reason, failed.delivery) == ("INTERNAL", "INTERNAL_ERROR", "NOT_SENT")
    assert "secret-in-an-exception" not in f"{failed.message}{failed.details}"
    [line] = gateway.logged("call.failed")
    assert line["call_id"] == failed.info.metadata["call_id"]
    assert "secret-in-an-exception" in line["exception"]


async def test_a_foreign_cancellation(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CancelledError that is not the call's own ends it INTERNAL at once, not by the caller's deadline."""

    async def cancelled(*_: object) -> None:
        inner = asyncio.ensure_future(asyncio.sleep(9))
        inner.cancel()
        await inner

    monkeypatch.setattr("falrpc_server.fal_http.client.FalClient.run", cancelled)
    async with asyncio.timeout(20):
        failed = await failure_of(gateway.stub.Run(run("emulator/echo"), timeout=60))
    assert (failed.code, failed.info.reason) == ("INTERNAL", "INTERNAL_ERROR")


async def test_paid_calls_are_committed_first(gateway: Running, fal: Fal) -> None:
    """A client with a retry policy repeats no paid call: initial metadata has left before the request."""
    policy = (
        '{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":4,"initialBackoff":"0.01s","maxBackoff":"0.02s",'
        '"backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE","CANCELLED","UNKNOWN","INTERNAL"]}}]}'
    )
    options = [("grpc.service_config", policy), ("grpc.enable_retries", 1)]
    fal.will("close_after_body", operation="run", times=None)
    fal.will("hang", operation="stream", times=None)
    async with grpc.aio.insecure_channel(gateway.address, options=options) as channel:
        stub = v1.FalServiceStub(channel)
        call = stub.Run(run("emulator/echo"))
        assert (await failure_of(call)).code == "UNKNOWN"
        assert len(fal.received(operation="run")) == 1
        stream = stub.Stream(v1.StreamRequest(endpoint_id="emulator/events"))
        await arrived(fal, "stream")
        assert await stream.initial_metadata() is not None
        stream.cancel()


async def test_a_port_that_is_taken(emulator_url: str) -> None:
    """A second server on the same port does not start: it would take half of the traffic."""
    async with running_gateway(emulator_url=emulator_url) as first:
        with pytest.raises(CannotListen, match="FALRPC_LISTEN"):
            async with running_gateway(emulator_url=emulator_url, listen=first.address):
                pass
        assert (await first.stub.Run(run("emulator/echo"))).output.json == "{}"


async def test_the_key_is_nowhere_to_be_seen(gateway: Running, fal: Fal) -> None:
    """The key appears in no status, log line or settings text."""
    fal.will("answer", operation="run", status=401, body=f'{{"detail":"bad key {KEY}"}}')
    failed = await failure_of(gateway.stub.Run(run("emulator/echo")))
    assert failed.info.reason == "UPSTREAM_CREDENTIALS_REJECTED"
    assert KEY not in f"{failed.message}{failed.details}{gateway.log_text}"


def serve(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, "-m", "falrpc_server", "serve", *arguments],
        env={"PATH": "", "PYTHONPATH": ":".join(sys.path), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    canary.heard("the output of serve", done.stdout + done.stderr)
    return done


def test_no_key() -> None:
    """Without a key the service refuses to start and says which setting is missing."""
    refused = serve()
    assert refused.returncode == 2
    assert "FAL_KEY: is required" in refused.stderr


def test_an_open_listener() -> None:
    """A listener that is not loopback needs FALRPC_AUTH, and every other problem is listed with it."""
    refused = serve(FAL_KEY="a:b", FALRPC_LISTEN="0.0.0.0:0", FALRPC_LOOP="twisted")
    assert refused.returncode == 2
    assert "FALRPC_AUTH: is required" in refused.stderr
    assert "FALRPC_LOOP" in refused.stderr


@pytest.mark.parametrize("loop", ["auto", "asyncio"])
def test_sigterm(emulator_url: str, loop: str) -> None:
    """serve starts, says where it listens, and exits 0 on SIGTERM, with either event loop."""
    environment = {"FAL_KEY": KEY, "FALRPC_EMULATOR_URL": emulator_url, "FALRPC_LISTEN": "127.0.0.1:0"}
    process = subprocess.Popen(
        [sys.executable, "-m", "falrpc_server", "serve"],
        env={
            "PATH": "",
            "PYTHONPATH": ":".join(sys.path),
            "FALRPC_LOOP": loop,
            "FALRPC_DRAIN_DELAY_SECONDS": "0.1",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert '"server.started"' in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    canary.heard("the output of serve", out + err)
    assert process.returncode == 0, err
    assert [event in out for event in ("server.draining", "server.stopped")] == [True, True]
    assert "Traceback" not in err


async def reflected(gateway: Running) -> set[str]:
    async def requests() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    stub = reflection_pb2_grpc.ServerReflectionStub(gateway.channel)
    responses = [response async for response in stub.ServerReflectionInfo(requests())]
    return {service.name for service in responses[0].list_services_response.service}


async def in_order(call: grpc.aio.UnaryUnaryCall) -> v1.RunResponse:
    return await call


async def failure_code(call: grpc.aio.UnaryUnaryCall) -> str:
    with contextlib.suppress(asyncio.CancelledError):
        try:
            await call
        except grpc.aio.AioRpcError as error:
            return error.code().name
    return "OK"


async def test_a_server_that_ends_by_itself(
    emulator_url: str, fal: Fal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process whose gRPC server has ended says so and ends, too: it would live on without a listener."""
    begun: asyncio.Queue[Gateway] = asyncio.Queue()
    log = io.StringIO()

    @contextlib.asynccontextmanager
    async def running(*of: Any) -> AsyncIterator[Gateway]:
        async with app_running(*of) as gateway:
            begun.put_nowait(gateway)
            yield gateway

    app_running = app.running
    monkeypatch.setattr(app, "running", running)
    settings = Settings(listen="127.0.0.1:0", fal_key=KEY, emulator_url=emulator_url)
    serving = asyncio.create_task(app._serve(settings, make_logger("info", log), None))
    gateway = await begun.get()
    await gateway._server.stop(None)
    assert await serving == 1
    assert "grpc's server has ended by itself" in log.getvalue()

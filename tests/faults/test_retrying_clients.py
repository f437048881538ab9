"""Clients whose own library repeats calls: a paid call still leads to one POST."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from tests.conftest import Fal, Running, running_gateway
from tests.failures import failure_of
from tests.faults.history import History, Told, body_sha256
from tests.faults.processes import gateway_process
from tests.processes.channels import own_channel
from tests.service.test_leaving import in_order, logged
from tests.service.test_queue_calls import request
from tests.service.test_run import arrived, run
from tests.service.test_stream_calls import stream, workflow

from falrpc import v1

ATTEMPTS = 4
LONG = 60  # seconds, after which a test that waits in vain ends


def policy(*codes: str) -> str:
    """A service config that repeats every method on these codes."""
    retry = {
        "maxAttempts": ATTEMPTS,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.02s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": list(codes),
    }
    return json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": retry}]})


POLICIES = {
    "a mesh's": policy("UNAVAILABLE", "CANCELLED"),
    "a careless one": policy("UNAVAILABLE", "CANCELLED", "UNKNOWN"),
    "the default": "{}",
}

PAID: dict[str, tuple[str, Any]] = {
    "Run": ("run", run("emulator/echo", '{"of":"Run"}')),
    "Submit": ("submit", request("emulator/echo", '{"of":"Submit"}')),
    "Stream": ("stream", stream("emulator/events", '{"events":[1],"of":"Stream"}')),
    "StreamWorkflow": (
        "stream",
        workflow("workflows/emulator/replay", '{"events":[],"of":"StreamWorkflow"}'),
    ),
    "Subscribe": ("submit", v1.SubscribeRequest(submit=request("emulator/echo", '{"of":"Subscribe"}'))),
}
"""Each paid method, the operation of its POST, and a request."""


async def called(address: str, config: str, method: str, asked: Any) -> tuple[History, Told]:
    """Makes one call by a client with this service config."""
    history = History()
    async with own_channel(address, config) as channel:
        told = await history.call(v1.FalServiceStub(channel), method, asked, LONG)
    return history, told


def posts(fal: Fal, asked: Any) -> list[dict[str, Any]]:
    """The paid POSTs that fal received with this request's input."""
    sha256 = body_sha256(asked)
    return [record for record in fal.received() if record["body_sha256"] == sha256]


@pytest.mark.parametrize("config", POLICIES)
@pytest.mark.parametrize("act", ["close_after_body", "reset_after_body"])
@pytest.mark.parametrize("method", PAID)
async def test_a_cut_post_is_received_once(
    gateway: Running, fal: Fal, method: str, act: str, config: str
) -> None:
    """A POST that fal reads and then cuts is received once, whatever the client's library repeats."""
    operation, asked = PAID[method]
    fal.will(act, operation=operation, times=None)
    history, told = await called(gateway.address, POLICIES[config], method, asked)
    assert (told.code, told.reason, told.delivery) == ("UNKNOWN", "OUTCOME_UNKNOWN", "UNKNOWN")
    assert len(posts(fal, asked)) == 1
    assert len(fal.received(operation=operation)) == 1
    await history.finished(gateway.logged)
    history.check(gateway.logged(), fal.received())


@pytest.mark.parametrize("config", POLICIES)
async def test_a_followed_request_is_submitted_once(emulator_url: str, fal: Fal, config: str) -> None:
    """A Subscribe that can't be followed after its submission is not repeated by the client's library."""
    operation, asked = PAID["Subscribe"]
    for following in ("status_stream", "status"):
        fal.will("close_after_body", operation=following, times=None)
    patience = {"poll_first_seconds": 0.02, "poll_seconds_max": 0.02, "poll_patience_seconds": 0.1}
    async with running_gateway(emulator_url=emulator_url, **patience) as gateway:
        history, told = await called(gateway.address, POLICIES[config], "Subscribe", asked)
        assert (told.code, told.delivery) == ("UNKNOWN", "ACCEPTED")
        assert len(fal.received(operation=operation)) == 1
        await history.finished(gateway.logged)
        history.check(gateway.logged(), fal.received())


@pytest.mark.parametrize("method", PAID)
async def test_fal_out_of_reach(unused_port: int, method: str) -> None:
    """A paid call of which nothing could be sent is UNAVAILABLE, NOT_SENT: whoever likes may repeat it."""
    async with running_gateway(emulator_url=f"http://127.0.0.1:{unused_port}") as gateway:
        _, told = await called(gateway.address, POLICIES["a mesh's"], method, PAID[method][1])
    assert (told.code, told.reason, told.delivery) == ("UNAVAILABLE", "UPSTREAM_UNREACHABLE", "NOT_SENT")
    assert told.has_retry_info


@pytest.mark.parametrize(
    ("code", "config", "attempts"),
    [
        pytest.param(grpc.StatusCode.UNAVAILABLE, "a mesh's", ATTEMPTS, id="unavailable"),
        pytest.param(grpc.StatusCode.CANCELLED, "a mesh's", ATTEMPTS, id="cancelled"),
        pytest.param(grpc.StatusCode.UNKNOWN, "a careless one", ATTEMPTS, id="unknown"),
        pytest.param(grpc.StatusCode.UNKNOWN, "a mesh's", 1, id="unknown, not in the policy"),
        pytest.param(grpc.StatusCode.UNAVAILABLE, "the default", 1, id="unavailable, no policy"),
    ],
)
@pytest.mark.parametrize("commits", [False, True], ids=["", "after initial metadata"])
async def test_what_these_clients_do_to_others(
    code: grpc.StatusCode, config: str, attempts: int, commits: bool
) -> None:
    """The same clients do repeat calls of a server that ends them without initial metadata."""
    async with bare_server(code, commits) as (address, calls):
        for method in ("Run", "Stream"):
            calls.clear()
            _, told = await called(address, POLICIES[config], method, PAID[method][1])
            assert told.code == code.name
            assert len(calls) == (1 if commits else attempts)


async def test_reads_are_repeated(gateway: Running, fal: Fal) -> None:
    """The same client repeats a read of this gateway: nothing else than the commit stops it."""
    fal.will("close_after_body", operation="status", times=None)
    handle = v1.RequestHandle(endpoint_id="emulator/echo", request_id="some-request")
    asked = v1.StatusRequest(handle=handle)
    _, told = await called(gateway.address, POLICIES["a mesh's"], "Status", asked)
    assert told.code == "UNAVAILABLE"
    await logged(gateway, "call.finished", ATTEMPTS)
    assert len(gateway.logged("call.finished")) == ATTEMPTS


@pytest.mark.parametrize("method", PAID)
async def test_a_gateway_that_is_killed(emulator_url: str, fal: Fal, method: str) -> None:
    """A paid call whose gateway is killed is not repeated when a gateway comes back on the same port."""
    operation, asked = PAID[method]
    fal.will("hang", operation=operation)
    async with (
        gateway_process(emulator_url) as first,
        own_channel(first.address, POLICIES["a careless one"], initial_reconnect_backoff_ms=100) as channel,
    ):
        stub = v1.FalServiceStub(channel)
        history = History()
        async with asyncio.timeout(LONG):
            await channel.channel_ready()
        call = asyncio.create_task(history.call(stub, method, asked, LONG))
        await arrived(fal, operation)
        await first.killed()
        async with gateway_process(emulator_url, first.address) as second:
            told = await call
            assert (told.code, told.has_error_info) == ("UNAVAILABLE", False)
            # The same channel has found the new gateway by then: what it would have repeated, it has.
            answer = await in_order(stub.Run(run("emulator/echo"), wait_for_ready=True, timeout=LONG))
            assert answer.output.json == "{}"
            assert len(posts(fal, asked)) == 1
            await second.has_logged("request.accepted")
            assert [line["method"] for line in second.logged("request.accepted")] == ["Run"]


async def test_a_second_call_is_another_call(gateway: Running, fal: Fal) -> None:
    """What the caller itself repeats is sent again: what is counted here is really received."""
    asked = PAID["Run"][1]
    fal.will("close_after_body", operation="run", times=None)
    for _ in range(2):
        assert (await failure_of(gateway.stub.Run(asked))).code == "UNKNOWN"
    assert len(posts(fal, asked)) == 2


@contextlib.asynccontextmanager
async def bare_server(code: grpc.StatusCode, commits: bool) -> AsyncIterator[tuple[str, list[str]]]:
    """A server that ends every call with the code; gives its address and the methods that were called."""
    calls: list[str] = []

    async def run_method(_: bytes, context: Any) -> None:
        await end("Run", context)

    async def stream_method(_: bytes, context: Any) -> None:
        await end("Stream", context)

    async def end(method: str, context: Any) -> None:
        calls.append(method)
        if commits:
            await context.send_initial_metadata(())
        await context.abort(code, "no")

    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Run": grpc.unary_unary_rpc_method_handler(run_method),
        "Stream": grpc.unary_stream_rpc_method_handler(stream_method),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("falrpc.v1.FalService", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}", calls
    finally:
        await server.stop(None)

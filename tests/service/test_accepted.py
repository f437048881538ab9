"""The id of paid work is in the log before the caller hears of it: a crash in between loses nothing."""

import asyncio
from typing import Any

import pytest
from tests.conftest import Fal, Running
from tests.service.test_queue_calls import request
from tests.service.test_run import WAIT_SECONDS_MAX, run
from tests.service.test_stream_calls import replayed, stream

from falrpc import v1
from falrpc_server.interceptors.call import Call

NO_EVENT_YET = '{"events":[],"end":"hang"}'


@pytest.mark.parametrize("method", ["Run", "Stream", "StreamWorkflow"])
async def test_while_the_answer_is_still_coming(gateway: Running, fal: Fal, method: str) -> None:
    """fal's id is logged when the head of the answer is there, while the body is still to come."""
    stub = gateway.stub
    calls: dict[str, Any] = {
        # Run asks for another model's stream here: an answer whose body takes for ever
        "Run": lambda: stub.Run(run("emulator/events/stream", NO_EVENT_YET), timeout=60),
        "Stream": lambda: stub.Stream(stream("emulator/events", NO_EVENT_YET), timeout=60),
        "StreamWorkflow": lambda: stub.StreamWorkflow(replayed(end="hang"), timeout=60),
    }
    call = calls[method]()
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while not gateway.logged("request.accepted"):
            await asyncio.sleep(0.01)
    assert not call.done()
    assert gateway.logged("call.finished") == []
    [line] = gateway.logged("request.accepted")
    assert line["request_id"]
    assert line["method"] == method
    if method != "Run":
        assert (await call.read()).started.request_id == line["request_id"]
    call.cancel()


@pytest.mark.parametrize("method", ["Stream", "StreamWorkflow", "Subscribe"])
async def test_before_the_first_message(
    gateway: Running, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """The line is written before the message that tells the id is handed to grpc."""
    ids_at_sending: list[list[str]] = []
    send = Call.send

    async def watched(call: Call, message: Any) -> None:
        ids_at_sending.append([line["request_id"] for line in gateway.logged("request.accepted")])
        await send(call, message)

    monkeypatch.setattr(Call, "send", watched)
    asked: dict[str, Any] = {
        "Stream": stream("emulator/events", '{"events":[1]}'),
        "StreamWorkflow": replayed('{"type":"output","output":{}}'),
        "Subscribe": v1.SubscribeRequest(submit=request("emulator/echo")),
    }
    first, *_ = [message async for message in getattr(gateway.stub, method)(asked[method])]
    told = first.accepted if method == "Subscribe" else first.started
    assert ids_at_sending[0] == [told.request_id]


@pytest.mark.parametrize("method", ["Run", "Submit"])
async def test_before_the_answer(gateway: Running, method: str) -> None:
    """The line precedes the call's last one, which is written before the answer is handed to grpc."""
    asked: Any = run("emulator/echo") if method == "Run" else request("emulator/echo")
    response = await getattr(gateway.stub, method)(asked)
    accepted, finished = gateway.logged()[-2:]
    assert (accepted["event"], finished["event"]) == ("request.accepted", "call.finished")
    told = response.call if method == "Run" else response.handle
    assert accepted["request_id"] == finished["request_id"] == told.request_id
    assert accepted["endpoint_id"] == "emulator/echo"

"""Heartbeats beside other messages."""

from typing import Any

from tests.conftest import Fal, running_gateway
from tests.service.test_queue_calls import request
from tests.service.test_stream_calls import stream

from falrpc import v1

LONG = 60  # seconds, beyond every limit here


async def kinds(call: Any) -> list[str]:
    """What kinds of messages came."""
    return [message.WhichOneof("kind") async for message in call]


async def test_before_the_handle(emulator_url: str, fal: Fal) -> None:
    """Subscribe sends heartbeats while its request is still being submitted; the handle comes next."""
    fal.will("slow", operation="submit", seconds=1.0)
    asked = v1.SubscribeRequest(submit=request("emulator/echo"))
    async with running_gateway(emulator_url=emulator_url, heartbeat_seconds=0.1) as gateway:
        seen = await kinds(gateway.stub.Subscribe(asked, timeout=LONG))
    told = [kind for kind in seen if kind != "heartbeat"]
    assert seen.index("accepted") >= 3
    assert told[0] == "accepted"
    assert told[-1] == "result"


async def test_a_busy_stream_has_none(emulator_url: str, fal: Fal) -> None:
    """While other messages come often enough there is no heartbeat."""
    asked = stream("emulator/ticks", '{"events":60,"seconds":0.05}')
    async with running_gateway(emulator_url=emulator_url, heartbeat_seconds=2.0) as gateway:
        seen = await kinds(gateway.stub.Stream(asked, timeout=LONG))
    assert seen == ["started"] + ["event"] * 60

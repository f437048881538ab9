"""Answers of 200 that end too early: at every byte, in every framing, none is taken for a success."""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from typing import Any

import grpc
import pytest
from tests.conftest import Running, running_gateway
from tests.failures import unpacked
from tests.faults.cut_answers import FRAMINGS, at, cutting, framed
from tests.service.test_queue_calls import request
from tests.service.test_run import run

from falrpc import v1

REQUEST_ID = "7d1c2c0e-6a0b-4f6e-9b0e-0c6d0b1f2a11"
OUTPUT = b'{"images":[{"url":"x"}],"seed":196619188014358660}'
BODIES = {
    "Run": OUTPUT,
    "Submit": b'{"request_id":"%b","queue_position":0}' % REQUEST_ID.encode(),
    "Status": b'{"status":"IN_QUEUE","queue_position":3}',
    "Result": OUTPUT,
}
PAID = ("Run", "Submit")
# What fails is what is tested: nothing is sent again and nobody is given up for it.
UNGUARDED = {"resends_max": 0, "breaker_failures": 1_000_000}


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("method", BODIES)
async def test_cut_at_every_byte(method: str, framing: str) -> None:
    """Only the whole answer is OK; a paid call that is cut has an unknown outcome, and was sent once."""
    answer = framed(BODIES[method], framing)
    async with cutting(answer) as fal, running_gateway(emulator_url=fal.url, **UNGUARDED) as gateway:
        places = range(len(answer) + 1)
        told = await asyncio.gather(*(outcome(asked(gateway, method, place)) for place in places))
    assert told[-1] == ("OK", "", "")
    codes = Counter(code for code, _, _ in told[:-1])
    if method in PAID:
        assert set(codes) == {"UNKNOWN"}
        assert {delivery for _, _, delivery in told[:-1]} <= {"UNKNOWN", "ACCEPTED"}
        assert Counter(sent.partition(b"\r\n")[0] for sent in fal.requests).most_common(1)[0][1] == 1
    else:
        assert "OK" not in codes
        assert {reason for _, reason, _ in told[:-1]} <= {
            "UPSTREAM_TRUNCATED",
            "UPSTREAM_MALFORMED",
            "UPSTREAM_INTERRUPTED",
        }
    assert len(fal.requests) == len(answer) + 1


def asked(gateway: Running, method: str, place: int) -> Any:
    """The call, whose answer is cut at that place."""
    stub = gateway.stub
    if method == "Run":
        return stub.Run(run(f"cut/{at(place)}"), timeout=60)
    if method == "Submit":
        return stub.Submit(request(f"cut/{at(place)}"), timeout=60)
    handle = v1.RequestHandle(endpoint_id="cut/short", request_id=at(place))
    if method == "Status":
        return stub.Status(v1.StatusRequest(handle=handle), timeout=60)
    return stub.Result(v1.ResultRequest(handle=handle), timeout=60)


async def outcome(call: Awaitable[Any]) -> tuple[str, str, str]:
    """A call's code, with the reason and delivery of a failure."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        failed = unpacked(error)
        return failed.code, failed.info.reason, failed.delivery
    return "OK", "", ""

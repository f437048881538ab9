"""The cases as calls of a generated Python stub."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from tests.conftest import Fal, Running, running_gateway
from tests.errors.cases import Case, all_cases, told, wanted
from tests.errors.playing import CallFailed, made
from tests.failures import unpacked

from falrpc import v1


class StubClient:
    """Calls through the stub."""

    def __init__(self, stub: "v1.FalServiceAsyncStub") -> None:
        self._stub = stub

    async def call(self, method: str, *requests: Message) -> list[Any]:
        """See tests.errors.playing.Client."""
        sent: Any = iter(requests) if method == "Upload" else requests[0]
        call = getattr(self._stub, method)(sent)
        try:
            if hasattr(call, "__aiter__"):
                return [message async for message in call]
            return [await call]
        except grpc.aio.AioRpcError as error:
            raise CallFailed(unpacked(error)) from error


@pytest.fixture(scope="module")
async def shared_gateway(emulator_url: str) -> AsyncIterator[Running]:
    """One gateway for all cases."""
    async with running_gateway(emulator_url=emulator_url) as gateway:
        yield gateway


@pytest.mark.parametrize("case", [pytest.param(one, id=one.name) for one in all_cases()])
async def test_a_case(case: Case, shared_gateway: Running, fal: Fal) -> None:
    """A caller of the generated stub is told what the case wants."""
    failed, request_id = await made(case, StubClient(shared_gateway.stub), fal)
    got = told(failed, request_id)
    assert got == wanted(case, got), case.description

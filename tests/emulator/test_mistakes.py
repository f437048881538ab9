"""What the emulator does about its own mistakes, and when its queue is full."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from falrpc_server.emulator import queue
from falrpc_server.emulator.answers import EventStream
from falrpc_server.emulator.application import Application
from falrpc_server.emulator.connection import TRANSPORT
from falrpc_server.emulator.routes import Bases, Incoming, target_of
from falrpc_server.emulator.scenarios_in_place import Scenarios
from falrpc_server.emulator.service import Options

BASES = Bases("http://x/queue", "http://x/cdn", "http://x/cdn")
KEY = {"authorization": "Key a:b"}


@pytest.fixture
async def application() -> AsyncIterator[Application]:
    """The application without a network; fal's time stands still."""
    one = Application(Options(speed=1e-6))
    yield one
    await one.close()


class Connection(asyncio.Transport):
    """A connection that only knows whether it was closed."""

    is_closed = False

    def close(self) -> None:
        """Closes it."""
        self.is_closed = True


async def call(application: Application, method: str, path: str, body: bytes = b"{}") -> tuple[int, Any]:
    """Status and body of an answer of the service."""
    answer = await application.service.answer(
        Incoming(target_of(method, path, "x"), KEY, {}, body, BASES), Scenarios([])
    )
    assert not isinstance(answer, EventStream)
    return answer.status, json.loads(answer.body)


async def submit(application: Application, endpoint: str) -> str:
    """Puts a request in the queue and returns its id."""
    status, body = await call(application, "POST", f"/queue/{endpoint}")
    assert status == 200
    return str(body["request_id"])


def states(application: Application) -> dict[str, str]:
    """The requests in the queue."""
    return {one["request_id"]: one["state"] for one in application.service.queue.listed()}


async def until(application: Application, request_id: str, state: str) -> None:
    """Waits for a request's state."""
    async with asyncio.timeout(5):
        while states(application)[request_id] != state:
            await asyncio.sleep(0)


async def test_a_mistake_in_serving(application: Application, capsys: pytest.CaptureFixture[str]) -> None:
    """An exception where no answer is possible any more is counted, told, and ends record and connection."""
    connection = Connection()
    messages = [{"type": "http.request", "body": b"{}", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(_: Any) -> None:
        raise LookupError("my own")

    scope = {
        "type": "http",
        "method": "POST",
        "raw_path": b"/run/emulator/echo",
        "query_string": b"",
        "headers": [(b"host", b"x"), (b"authorization", b"Key a:b")],
        "extensions": {TRANSPORT: connection},
    }
    await application(scope, receive, send)
    evidence = application._evidence
    assert evidence.health()["internal_errors"] == 1
    assert evidence.health()["open_requests"] == 0
    assert [record["outcome"] for record in evidence.report({})["requests"]] == ["failed"]
    assert connection.is_closed
    assert "LookupError: my own" in capsys.readouterr().err


async def test_a_full_queue_forgets_what_has_ended(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest request that has ended makes room, although others are older."""
    monkeypatch.setattr(queue, "REQUESTS_MAX", 3)
    waits = await submit(application, "fal-ai/esrgan")
    over = [await submit(application, "emulator/echo") for _ in range(2)]
    for request_id in over:
        await until(application, request_id, "COMPLETED")
    new = await submit(application, "fal-ai/esrgan")
    assert states(application) == {waits: "IN_QUEUE", over[1]: "COMPLETED", new: "IN_QUEUE"}


async def test_a_full_queue_of_live_requests(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When all are live the oldest one fails, which whoever follows it is told, and is unknown then."""
    monkeypatch.setattr(queue, "REQUESTS_MAX", 2)
    oldest, other = [await submit(application, "fal-ai/esrgan") for _ in range(2)]
    request = application.service.queue.get(oldest)
    assert request is not None
    events = application.service.queue.events(request, False)
    first = await anext(events)
    assert b'"IN_QUEUE"' in first
    new = await submit(application, "fal-ai/esrgan")
    async with asyncio.timeout(5):
        rest = [event async for event in events]
    assert len(rest) == 1
    told = json.loads(rest[0].removeprefix(b"data: "))
    assert (told["status"], told["error_type"]) == ("COMPLETED", "internal_error")
    assert set(states(application)) == {other, new}
    path = f"/queue/fal-ai/esrgan/requests/{oldest}/status"
    assert await call(application, "GET", path) == (404, {"status": "NOT_FOUND"})


async def test_a_full_queue_by_bytes(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is forgotten gives its bytes back, inputs and answers: the queue never fills up for good."""
    monkeypatch.setattr(queue, "STORED_BYTES_MAX", 10)
    for _ in range(5):
        last = await submit(application, "emulator/echo")
        await until(application, last, "COMPLETED")
    assert len(states(application)) == 3  # of 4 bytes each: two, and one that just came with its 2
    assert last in states(application)
    await application.service.queue.close()
    assert application.service.queue._stored_bytes == 0

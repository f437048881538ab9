"""Paid requests that fal refuses at first: what is told of a later attempt that fails, and whose limit counts."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest
from tests.conftest import running_gateway
from tests.failures import Failure
from tests.faults.each_call import CALLS, failure_of_any
from tests.unit.test_transport import Connection, Server, serving

REFUSED_ID = "REFUSED-ID"
OWN_LIMIT = "concurrent_requests_limit"


def refusal(error_type: str = "", **headers: str) -> bytes:
    """A 429, with an id."""
    fields = {"detail": "too many", **({"error_type": error_type} if error_type else {})}
    body = json.dumps(fields).encode()
    given = {"content-type": "application/json", "x-fal-request-id": REFUSED_ID, **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in given.items()]
    head = "\r\n".join(["HTTP/1.1 429 Too Many Requests", *lines, f"content-length: {len(body)}"])
    return head.encode() + b"\r\n\r\n" + body


@contextlib.asynccontextmanager
async def refusing_then(end: str) -> AsyncIterator[Server]:
    """Refuses one request because of fal's limit; resets or keeps the next one, or is gone by then."""

    async def behave(connection: Connection) -> None:
        await connection.request()
        if len(server.requests) == 1:
            if end == "gone":
                listener.close()
            await connection.write(refusal(OWN_LIMIT, x_fal_error_type=OWN_LIMIT, connection="close"))
        elif end == "reset":
            connection.writer.transport.abort()
        else:
            await connection.until_closed()

    server = Server(behave)
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        for connection in server.connections:
            connection.writer.transport.abort()


@pytest.mark.parametrize(
    ("end", "code", "reason", "delivery", "requests"),
    [
        ("reset", "UNKNOWN", "OUTCOME_UNKNOWN", "UNKNOWN", 2),
        ("gone", "UNAVAILABLE", "UPSTREAM_UNREACHABLE", "NOT_SENT", 1),
        ("slow", "DEADLINE_EXCEEDED", "CALL_DEADLINE_EXCEEDED", "UNKNOWN", 2),
    ],
)
@pytest.mark.parametrize("method", ["Run", "Submit", "Stream", "StreamWorkflow", "Subscribe"])
async def test_the_id_of_the_refused_attempt(
    method: str, end: str, code: str, reason: str, delivery: str, requests: int
) -> None:
    """A failure after a refusal is told without the refused attempt's id, and the log never takes it for work."""
    limits = {"deadline_seconds_max": 3} if end == "slow" else {}
    async with refusing_then(end) as fal, running_gateway(emulator_url=fal.url, **limits) as gateway:
        failed = await failure_of_any(CALLS[method](gateway.stub))
        [finished] = await gateway.finished()
        assert (failed.code, failed.info.reason, failed.delivery) == (code, reason, delivery)
        assert len(fal.requests) == requests
        assert REFUSED_ID not in f"{failed.message} {failed.details}"
        assert "request_id" not in failed.info.metadata
        assert gateway.logged("request.accepted") == []
        assert REFUSED_ID not in json.dumps(finished)


@pytest.mark.parametrize("error_type", ["", "my_app_is_tired", "request_timeout", "runner_server_error"])
@pytest.mark.parametrize("method", ["Run", "Stream", "StreamWorkflow"])
async def test_an_apps_own_limit(method: str, error_type: str) -> None:
    """A 429 without fal's marks is the app's, whatever type its body names: told at once, after one request."""
    failed, requests = await refused(method, refusal(error_type))
    assert (requests, failed.delivery) == (1, "FAILED")


@pytest.mark.parametrize(
    "marks",
    [
        pytest.param({"X_Fal_Needs_Retry": "1"}, id="needs retry"),
        pytest.param({"X_Fal_Error_Type": OWN_LIMIT}, id="type in a header"),
    ],
)
@pytest.mark.parametrize("method", ["Run", "Submit", "Stream", "StreamWorkflow", "Subscribe"])
async def test_fals_own_limit(method: str, marks: dict[str, str]) -> None:
    """A 429 that one of fal's headers marks is sent twice more, and told as REJECTED, without work of its id."""
    failed, requests = await refused(method, refusal(**marks))
    assert (failed.code, failed.delivery) == ("RESOURCE_EXHAUSTED", "REJECTED")
    assert requests == 3


async def refused(method: str, answer: bytes) -> tuple[Failure, int]:
    """How a call ends whose every request gets this answer, and how many there were."""

    async def behave(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.write(answer)

    async with serving(behave) as fal, running_gateway(emulator_url=fal.url) as gateway:
        failed = await failure_of_any(CALLS[method](gateway.stub))
        assert gateway.logged("request.accepted") == []
        return failed, len(fal.requests)

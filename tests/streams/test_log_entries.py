"""The log of a request that is followed: each entry once, in order, however long it is and whoever joins when."""

import asyncio
import json
from typing import Any

import pytest
from tests.conftest import Fal, Running, running_gateway
from tests.service.test_queue_calls import request, submitted, waiting
from tests.service.test_run import arrived
from tests.streams.test_shared_watching import LONG, collected_logs, rest_of

from falrpc import v1

COMPLETED = v1.RequestState.REQUEST_STATE_COMPLETED
QUICK = {"poll_first_seconds": 0.05, "poll_seconds_max": 0.05}


def following(gateway: Running, handle: v1.RequestHandle) -> Any:
    return gateway.stub.StreamStatus(v1.StreamStatusRequest(handle=handle, include_logs=True), timeout=LONG)


def window(count: int, state: str = "IN_PROGRESS", first: int = 0, text: str = "") -> str:
    """A status body that shows so many log entries."""
    entries = [
        {"timestamp": f"2026-08-01T10:00:00.{n:06}+00:00", "level": "INFO", "message": f"line {n}{text}"}
        for n in range(first, first + count)
    ]
    return json.dumps({"status": state, "logs": entries, "metrics": {}})


def messages_of(count: int) -> list[str]:
    return [f"line {n}" for n in range(count)]


def read_logs(messages: list[Any]) -> tuple[list[str], int]:
    """The entries' texts, and how many were dropped."""
    entries = [entry.message for message in messages for entry in message.logs.entries]
    return entries, sum(message.logs.dropped for message in messages)


@pytest.mark.parametrize("streams", [True, False], ids=["status stream", "polls"])
async def test_late_entries(emulator_url: str, fal: Fal, streams: bool) -> None:
    """Entries that fal shows only after COMPLETED are told before the last message, which is COMPLETED."""
    async with running_gateway(emulator_url=emulator_url, **QUICK) as gateway:
        if not streams:
            fal.will("fail", operation="status_stream", kind="internal_server_error", times=None)
        handle = (await gateway.stub.Submit(request("emulator/logs", '{"count":3,"late":2}'))).handle
        messages = await rest_of(following(gateway, handle))
    entries, dropped = read_logs(messages)
    assert entries == ["line 0", "line 1", "line 2", "late line 0", "late line 1"]
    assert dropped == 0
    assert [m.status.state for m in messages if m.HasField("status")].count(COMPLETED) == 1
    assert messages[-1].status.state == COMPLETED


async def test_the_end_does_not_wait_for_a_log_that_fails(gateway: Running, fal: Fal) -> None:
    """The end is told although the log can't be looked at any more."""
    fal.will("edge_page", operation="status", times=None)
    handle = await submitted(gateway, "emulator/logs", '{"count":3}')
    messages = await rest_of(following(gateway, handle))
    assert read_logs(messages) == (messages_of(3), 0)
    assert messages[-1].status.state == COMPLETED


@pytest.mark.parametrize(
    ("count", "text"),
    [pytest.param(12_000, "", id="many"), pytest.param(1_500, "x" * 1_000, id="large")],
)
async def test_a_log_larger_than_memory(emulator_url: str, fal: Fal, count: int, text: str) -> None:
    """A window of more entries or bytes than are remembered is told once to a reader who is fast, uncut."""
    async with running_gateway(emulator_url=emulator_url, **QUICK) as gateway:
        fal.will("fail", operation="status_stream", kind="internal_server_error", times=None)
        fal.will("answer", operation="status", status=202, body=window(count, text=text), times=4)
        body = window(count, "COMPLETED", text=text)
        fal.will("answer", operation="status", status=200, body=body, times=None)
        handle = await submitted(gateway, "emulator/echo")
        messages = await rest_of(following(gateway, handle))
    entries, dropped = read_logs(messages)
    assert entries == [f"{line}{text}" for line in messages_of(count)]
    assert dropped == 0
    assert messages[0].HasField("status")
    assert max(message.ByteSize() for message in messages) < 1024 * 1024  # a client takes 4 MiB by default


async def test_who_joins_late(emulator_url: str, fal: Fal) -> None:
    """Who joins late is told the state, then the whole log so far, without another call to fal."""
    async with running_gateway(emulator_url=emulator_url) as gateway:
        fal.will("fail", operation="status_stream", kind="internal_server_error", times=None)
        fal.will("answer", operation="status", status=202, body=window(5_000), times=None)
        handle = await submitted(gateway, "emulator/cancellable")
        first = following(gateway, handle)
        await arrived(fal, "status", 1)
        late = following(gateway, handle)
        for call in (first, late):
            assert (await call.read()).HasField("status")
            entries: list[str] = []
            while len(entries) < 5_000:
                message = await call.read()
                assert message.logs.dropped == 0
                entries += [entry.message for entry in message.logs.entries]
            assert entries == messages_of(5_000)
        assert len(fal.received(operation="status_stream")) == 1
        first.cancel()
        late.cancel()


async def test_who_joins_too_late_for_the_whole_log(emulator_url: str, fal: Fal) -> None:
    """Of a log that is longer than what is kept, who joins late has the newest entries, and the number of the others."""

    async def whole(call: Any) -> tuple[list[str], int]:
        entries: list[str] = []
        dropped = 0
        async with asyncio.timeout(30):
            while dropped + len(entries) < 16_000:
                message = await call.read()
                dropped += message.logs.dropped
                entries += [entry.message for entry in message.logs.entries]
        return entries, dropped

    # between two looks there is time to read all that the first one brought
    pace = {"poll_first_seconds": 1.0, "poll_seconds_max": 1.0}
    async with running_gateway(emulator_url=emulator_url, **pace) as gateway:
        fal.will("fail", operation="status_stream", kind="internal_server_error", times=None)
        fal.will("answer", operation="status", status=202, body=window(8_000))
        fal.will("answer", operation="status", status=202, body=window(8_000, first=8_000), times=None)
        handle = await submitted(gateway, "emulator/cancellable")
        first = following(gateway, handle)
        reading = asyncio.create_task(whole(first))
        await arrived(fal, "status", 3)
        late = following(gateway, handle)
        entries, dropped = await whole(late)
        assert entries == messages_of(16_000)[dropped:]
        assert len(entries) >= 8_000
        assert dropped > 0
        assert await reading == (messages_of(16_000), 0)
        first.cancel()
        late.cancel()


@pytest.mark.parametrize("is_over", [False, True], ids=["seen before", "over before"])
async def test_who_joins_while_the_log_is_looked_at_again(gateway: Running, fal: Fal, is_over: bool) -> None:
    """Who joins between COMPLETED and its telling has the log, too, and opens no second flow."""
    handle = (await gateway.stub.Submit(request("emulator/logs", '{"count":3,"late":2}'))).handle
    if is_over:
        await gateway.stub.Result(waiting(handle))
        fal.reset()
    fal.will("slow", operation="status", seconds=2)  # all of it is given up after 5 s
    first = asyncio.create_task(collected_logs(following(gateway, handle)))
    await arrived(fal, "status")
    late = await rest_of(following(gateway, handle))
    assert read_logs(late) == (await first, 0)
    assert len(await first) == 5
    assert len(fal.received(operation="status_stream")) == 1

"""What can go wrong in an event stream: a model's (§8), a workflow's (§9), a status stream (§7.5)."""

import asyncio
import contextlib
import itertools
import json
import re
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from tests.emulator.queueing import queued
from tests.emulator.running import Emulator, running_emulator

from falrpc_server.emulator import scenarios
from falrpc_server.emulator.answers import CutHere
from falrpc_server.emulator.faults import spoil

Source = tuple[str, str, str]
"""Method, URL and body of a request for a stream."""

ENDS_OF_CONNECTIONS = (httpx.RemoteProtocolError, httpx.ReadError)
SOURCES = ("model", "workflow", "steps", "status")


@pytest.fixture
def source(request: pytest.FixtureRequest, emulator: Emulator) -> Source:
    """A stream that is the same each time but for the ids in it."""
    given = '{"events":[{"n":1},{"n":2,"text":"\u00e9"},[3]]}'
    match request.param:
        case "model":
            return "POST", "/run/emulator/events/stream", given
        case "workflow":
            return "POST", "/run/workflows/emulator/replay/stream", given
        case "steps":
            return "POST", "/run/workflows/emulator/failing-step/stream", '{"prompt":"a"}'
    submitted = emulator.submit("emulator/echo", {"a": 1})
    emulator.until_completed(submitted)
    return "GET", f"{submitted.json()['status_url']}/stream", ""


every_source = pytest.mark.parametrize("source", SOURCES, indirect=True)


def read(emulator: Emulator, source: Source) -> tuple[bytes, bool]:
    """A stream's bytes, and whether it ended as it should."""
    method, url, given = source
    data = b""
    with emulator.http.stream(method, url, content=given) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        try:
            for piece in answer.iter_bytes():
                data += piece
        except ENDS_OF_CONNECTIONS:
            return data, False
    return data, True


def opened(emulator: Emulator, source: Source) -> socket.socket:
    """A connection of its own over which the stream comes."""
    method, url, given = source
    return emulator.send(method, httpx.URL(url).raw_path.decode(), given.encode())


def whole_events(emulator: Emulator, source: Source) -> list[bytes]:
    """The events of the stream when nothing is wrong."""
    data, ended_well = read(emulator, source)
    assert ended_well
    return [event + b"\n\n" for event in data.split(b"\n\n")[:-1]]


def shape(data: bytes) -> bytes:
    """The same, each hexadecimal digit alike: ids differ from stream to stream, but not in length."""
    return data.translate(bytes.maketrans(b"0123456789abcdef", b"0000000000000000"))


@every_source
@pytest.mark.parametrize("operation", ["", "stream or status_stream"])
def test_cut_event(emulator: Emulator, source: Source, operation: str) -> None:
    """`cut_event` sends so many whole events and half of the next, or all where there are no more, and closes."""
    events = whole_events(emulator, source)
    if operation:
        operation = "stream" if source[0] == "POST" else "status_stream"
    for after_events in range(len(events) + 2):
        emulator.will("cut_event", after_events=after_events, operation=operation)
        data, ended_well = read(emulator, source)
        half = [event[: len(event) // 2] for event in events[after_events : after_events + 1]]
        assert shape(data) == shape(b"".join(events[:after_events] + half))
        assert not ended_well
    assert {record["outcome"] for record in emulator.ended()} == {"answered", "cut"}


@every_source
def test_cut_event_with_a_reset(emulator: Emulator, source: Source) -> None:
    """With `resets` the stream ends in a reset, which may overtake what was sent."""
    emulator.will("cut_event", after_events=0, resets=True)
    with opened(emulator, source) as connection, pytest.raises(ConnectionResetError):
        while connection.recv(65_536):
            pass


@every_source
def test_truncate_last_event(emulator: Emulator, source: Source) -> None:
    """`truncate_last_event` leaves nothing but the last event's blank line out, and ends well."""
    events = whole_events(emulator, source)
    emulator.will("truncate_last_event")
    data, ended_well = read(emulator, source)
    assert (shape(data), ended_well) == (shape(b"".join(events)[:-1]), True)


@every_source
@pytest.mark.parametrize("copies", [2, 3])
def test_repeat_events(emulator: Emulator, source: Source, copies: int) -> None:
    """`repeat_events` sends each event so many times in a row, and ends well."""
    events = whole_events(emulator, source)
    emulator.will("repeat_events", copies=copies)
    data, ended_well = read(emulator, source)
    assert shape(data) == shape(b"".join(event * copies for event in events))
    groups = [len(list(group)) for _, group in itertools.groupby(data.split(b"\n\n")[:-1])]
    assert (groups, ended_well) == ([copies] * len(events), True)


@every_source
def test_stall(emulator: Emulator, source: Source) -> None:
    """`stall` sends so many whole events, then nothing, neither end nor more, until the client leaves."""
    events = whole_events(emulator, source)
    for after_events in (0, 1, len(events), len(events) + 1):
        emulator.reset()
        emulator.will("stall", after_events=after_events)
        data, awaited = b"", events[:after_events]
        with opened(emulator, source) as connection:
            while b"\r\n\r\n" not in data or data.count(b"\n\n") < len(awaited):
                data += (piece := connection.recv(65_536))
                assert piece
            connection.settimeout(0.2)
            with pytest.raises(TimeoutError):
                connection.recv(1)
        data = data.replace(b"http://x", emulator.url.encode())  # as its Host is
        assert shape(b"".join(re.findall(rb"data: .*\n\n", data))) == shape(b"".join(awaited))
        assert [record["outcome"] for record in emulator.ended()] == ["client_closed"]


@every_source
@pytest.mark.parametrize("act", ["no_keepalives", "cut_body", "slow_body", "headers"])
def test_what_is_no_fault_of_this_stream(emulator: Emulator, source: Source, act: str) -> None:
    """Without comments to leave out, and with no byte left out, slow or renamed, a stream stays as it is."""
    fields: dict[str, dict[str, Any]] = {
        "cut_body": {"after_bytes": 1_000_000},
        "slow_body": {"chunk_bytes": 7, "seconds": 0},
        "headers": {"headers": {"x-a": "b"}},
    }
    events = whole_events(emulator, source)
    emulator.will(act, **fields.get(act, {}))
    data, ended_well = read(emulator, source)
    assert shape(data) == shape(b"".join(events))
    assert ended_well == (act != "cut_body")


@pytest.fixture(scope="module")
def commenting_emulator() -> Iterator[Emulator]:
    """An emulator with a comment every 50 ms."""
    with running_emulator("--keepalive-seconds", "0.05") as (emulator, _):
        yield emulator


@contextlib.contextmanager
def waiting(emulator: Emulator, *acts: dict[str, object]) -> Iterator[tuple[httpx.Response, str]]:
    """The status stream, with these faults, of a request that waits in the queue, and its cancel URL."""
    submitted = emulator.submit("emulator/echo", headers=queued(delay_seconds=1_000_000)).json()
    headers = {"x-emulator-scenario": json.dumps(acts)} if acts else {}
    url = f"{submitted['status_url']}/stream"
    with emulator.http.stream("GET", url, headers=headers, timeout=1) as answer:
        yield answer, submitted["cancel_url"]


def test_no_keepalives(commenting_emulator: Emulator) -> None:
    """`no_keepalives` leaves all comments out of a status stream, and its events in."""
    with waiting(commenting_emulator) as (answer, cancel_url):
        lines = answer.iter_lines()
        while next(lines) != ": keepalive":
            pass
        commenting_emulator.http.put(cancel_url)
        assert '"COMPLETED"' in "".join(lines)
    with waiting(commenting_emulator, {"act": "no_keepalives"}) as (answer, _):
        data = b""
        with pytest.raises(httpx.ReadTimeout):
            for piece in answer.iter_bytes():
                data += piece
        assert (data.count(b"data: "), data.count(b"keepalive")) == (1, 0)
    with waiting(commenting_emulator, {"act": "no_keepalives"}) as (answer, cancel_url):
        lines = answer.iter_lines()
        assert '"IN_QUEUE"' in next(lines)
        commenting_emulator.http.put(cancel_url)
        assert [line for line in lines if line][-1].count('"COMPLETED"') == 1


def test_a_stall_without_keepalives(commenting_emulator: Emulator) -> None:
    """A status stream that stalls has no comments either, although it had them before."""
    with waiting(commenting_emulator, {"act": "stall", "after_events": 1}) as (answer, cancel_url):
        data = b""
        with pytest.raises(httpx.ReadTimeout):
            for piece in answer.iter_bytes():
                data += piece
                commenting_emulator.http.put(cancel_url)
        assert (data.count(b"data: "), data.count(b"keepalive"), b"COMPLETED" in data) == (1, 0, False)


COMMENT = b": keepalive\n\n"


@pytest.mark.parametrize(
    ("scenario", "pieces"),
    [
        ({"act": "repeat_events"}, [b"data: 1\n\n", b"data: 1\n\n", COMMENT, b"data: 2\n\n", b"data: 2\n\n"]),
        ({"act": "cut_event", "after_events": 1}, [b"data: 1\n\n", COMMENT, b"data"]),
        ({"act": "stall", "after_events": 2}, [b"data: 1\n\n", COMMENT, b"data: 2\n\n"]),
        ({"act": "truncate_last_event"}, [b"data: 1\n\n", COMMENT, b"data: 2\n"]),
        ({"act": "no_keepalives"}, [b"data: 1\n\n", b"data: 2\n\n"]),
    ],
)
async def test_comments_are_no_events(scenario: dict[str, object], pieces: list[bytes]) -> None:
    """Comments are neither counted nor repeated nor cut."""

    async def stream() -> AsyncIterator[bytes]:
        for piece in (b"data: 1\n\n", COMMENT, b"data: 2\n\n"):
            yield piece

    seen = []
    with contextlib.suppress(CutHere, TimeoutError):
        async with asyncio.timeout(0.1):
            async for piece in spoil(stream(), *scenarios.read(scenario)):
                seen.append(piece)
    assert seen == pieces

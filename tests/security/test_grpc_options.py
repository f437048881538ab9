"""The listener's options of grpc: each does what it is there for. grpc ignores the names that it does not know.

Elsewhere are those of `grpc.so_reuseport` (tests/service/test_server.py: a second server on the port does not
start), `grpc.max_connection_age_ms` (tests/streams/test_connection_age.py), `grpc.max_send_message_length`
(below, with what it may receive) and `grpc.server_handshake_timeout_ms` (here, and test_floods.py).
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from hyperframe.frame import HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame
from tests.conftest import Fal, Running, running_gateway
from tests.security.frames import Connection, headers, run_message
from tests.service.test_run import run

from falrpc import v1
from falrpc_server import listening
from falrpc_server.config import Settings

STREAMS_MAX = 500
MAX_CONCURRENT_STREAMS = SettingsFrame.MAX_CONCURRENT_STREAMS
INITIAL_WINDOW_SIZE = SettingsFrame.INITIAL_WINDOW_SIZE
SECONDS_MAX = 20.0
HANDSHAKE_SECONDS = 5.0
LATE_SECONDS_MAX = 10.0
BYTES_MAX = 64 * 1024
LARGE = '{"text":"' + "x" * 60_000 + '"}'
BURST = 4_000  # beyond what grpc holds by default, 1,000 or 3,000
TESTED = {
    "grpc.max_receive_message_length",
    "grpc.max_send_message_length",
    "grpc.max_metadata_size",  # both by test_sizes.py
    "grpc.absolute_max_metadata_size",
    "grpc.max_concurrent_streams",
    "grpc.server.max_pending_requests",
    "grpc.server.max_pending_requests_hard_limit",  # with the one before: alone nothing was seen of it
    "grpc.server_handshake_timeout_ms",
    "grpc.http2.min_ping_interval_without_data_ms",
    "grpc.keepalive_permit_without_calls",
    "grpc.keepalive_time_ms",
    "grpc.http2.bdp_probe",
    "grpc.http2.lookahead_bytes",
    "grpc.so_reuseport",
    "grpc.max_connection_age_ms",
}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes options of a number of milliseconds shorter."""
    given = listening.options

    def replace(**values: int) -> None:
        def options(*of: Any) -> list[tuple[str, Any]]:
            wanted = {f"grpc.{name.replace('__', '.')}": value for name, value in values.items()}
            listed = given(*of)
            assert wanted.keys() <= dict(listed).keys()
            return [(name, wanted.get(name, value)) for name, value in listed]

        monkeypatch.setattr(listening, "options", options)

    return replace


def test_all_options_are_tested() -> None:
    """Each option that is set has a test, here or where this module says."""
    assert {name for name, _ in listening.options(Settings(fal_key="a:b"))} == TESTED


async def test_streams_of_a_connection(gateway: Running, fal: Fal) -> None:
    """A connection is told how many calls it may have, and those beyond are refused."""
    fal.will("hang", operation="run", times=None)
    with connected(gateway) as connection:
        assert await told(connection, lambda: announced(connection, MAX_CONCURRENT_STREAMS) == STREAMS_MAX)
        streams = [2 * number + 1 for number in range(STREAMS_MAX + 10)]
        for stream in streams:
            connection.send(connection.head(stream, headers()))
        assert await told(connection, lambda: len(refused(connection)) == 10)
        assert refused(connection) == streams[STREAMS_MAX:]


def refused(connection: Connection) -> list[int]:
    return [frame.stream_id for frame in connection.frames if isinstance(frame, RstStreamFrame)]


@pytest.mark.parametrize("more", [-1, 0, 1])
async def test_large_requests(emulator_url: str, fal: Fal, more: int) -> None:
    """A message of as many bytes as are allowed is taken, one with a byte more is RESOURCE_EXHAUSTED."""
    limits = {"receive_bytes_max": BYTES_MAX, "input_bytes_max": BYTES_MAX // 2}
    async with running_gateway(emulator_url=emulator_url, **limits) as gateway:
        asked = v1.RunRequest(endpoint_id="no such id" + " " * (BYTES_MAX // 2))
        asked.endpoint_id += " " * (BYTES_MAX + more - asked.ByteSize())
        assert asked.ByteSize() == BYTES_MAX + more
        failed = await failed_code(gateway.stub.Run(asked))
        assert failed == ("INVALID_ARGUMENT" if more <= 0 else "RESOURCE_EXHAUSTED")


@pytest.mark.parametrize("more", [-1, 0, 1])
async def test_large_responses(emulator_url: str, fal: Fal, quick: Callable[..., None], more: int) -> None:
    """A message of as many bytes as are allowed is sent, one with a byte more is not."""
    async with running_gateway(emulator_url=emulator_url) as gateway:
        size = (await gateway.stub.Run(run("emulator/echo", LARGE))).ByteSize()
    quick(max_send_message_length=size - more)
    async with running_gateway(emulator_url=emulator_url) as gateway:
        failed = await failed_code(gateway.stub.Run(run("emulator/echo", LARGE)))
        assert failed == ("OK" if more <= 0 else "RESOURCE_EXHAUSTED")


async def failed_code(call: Any) -> str:
    """The code of a call."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


@pytest.mark.alone
async def test_a_burst_of_new_calls(gateway: Running, fal: Fal) -> None:
    """More calls at once than grpc holds by default: none of them is cancelled."""
    port = port_of(gateway)
    connections = [Connection(port) for _ in range(BURST // STREAMS_MAX)]
    # They are all there before the first one is looked at: nothing runs here meanwhile.
    for connection in connections:
        calls = [2 * number + 1 for number in range(STREAMS_MAX)]
        connection.send(
            b"".join(connection.head(stream, headers("/falrpc.v1.FalService/None")) for stream in calls)
        )
    time.sleep(1.0)  # noqa: ASYNC251 # grpc reads meanwhile, and nobody takes what it has read
    for connection in connections:
        answers = lambda one=connection: len([f for f in one.frames if isinstance(f, HeadersFrame)])  # noqa: E731
        assert await told(connection, lambda answers=answers: answers() >= STREAMS_MAX)
        statuses = [
            dict(f.fields).get("grpc-status") for f in connection.frames if isinstance(f, HeadersFrame)
        ]
        assert statuses == ["12"] * STREAMS_MAX  # UNIMPLEMENTED
        connection.close()


@pytest.mark.parametrize("words", [b"", b"PRI * HTTP/2.0\r\n"], ids=["none", "half a preface"])
async def test_half_a_handshake(gateway: Running, words: bytes) -> None:
    """A connection that does not say HTTP/2 in time is closed."""
    with socket.create_connection(("127.0.0.1", port_of(gateway))) as one:
        one.sendall(words)
        started = time.monotonic()
        one.settimeout(HANDSHAKE_SECONDS + LATE_SECONDS_MAX)
        await asyncio.to_thread(read_to_the_end, one)
        assert time.monotonic() - started > HANDSHAKE_SECONDS * 0.9


async def test_pings_of_a_patient_client(emulator_url: str, fal: Fal, quick: Callable[..., None]) -> None:
    """A connection without calls may ping as often as the option says: here each 0.1 s, by default 5 min."""
    quick(http2__min_ping_interval_without_data_ms=50)
    async with running_gateway(emulator_url=emulator_url) as gateway:
        with connected(gateway) as connection:
            for number in range(10):
                connection.send(PingFrame(0, opaque_data=number.to_bytes(8, "big")).serialize())
                await asyncio.sleep(0.1)
            assert await told(connection, lambda: len(connection.of(PingFrame)) == 10)
            assert connection.goodbye == ""


async def test_pings_of_an_impatient_client(gateway: Running) -> None:
    """A connection that pings faster is told to go."""
    with connected(gateway) as connection:
        with contextlib.suppress(OSError):  # it may be told while it still sends
            for number in range(10):
                connection.send(PingFrame(0, opaque_data=number.to_bytes(8, "big")).serialize())
                await asyncio.sleep(0.01)
        assert await told(connection, lambda: connection.goodbye == "too_many_pings")


async def test_silent_connections_are_pinged(emulator_url: str, fal: Fal, quick: Callable[..., None]) -> None:
    """The gateway pings a connection that is silent, one without calls too."""
    quick(keepalive_time_ms=1_000)  # grpc takes no less
    async with running_gateway(emulator_url=emulator_url) as gateway:
        with connected(gateway) as connection:
            assert await told(connection, lambda: any("ACK" not in f.flags for f in connection.of(PingFrame)))


async def test_no_pings_to_measure_the_network(emulator_url: str, fal: Fal) -> None:
    """While data comes the gateway does not ping to measure the way: windows stay as they are."""
    async with running_gateway(emulator_url=emulator_url) as gateway:
        with connected(gateway) as connection:
            connection.send(connection.head(1, headers("/falrpc.v1.FalService/Upload")))
            connection.call(3, headers(), run_message())
            assert await told(connection, lambda: connection.of(HeadersFrame, 3))
            assert connection.of(PingFrame) == []


async def test_the_window_of_a_call(gateway: Running) -> None:
    """What a caller may send ahead is bounded; the connection's window is told at once."""
    with connected(gateway) as connection:
        assert await told(connection, lambda: announced(connection, INITIAL_WINDOW_SIZE) == 512 * 1024)


def connected(gateway: Running) -> Connection:
    return Connection(port_of(gateway))


def port_of(gateway: Running) -> int:
    return int(gateway.address.rpartition(":")[2])


def announced(connection: Connection, setting: int) -> int | None:
    """The last value of a setting that the gateway told."""
    values = [frame.settings[setting] for frame in connection.of(SettingsFrame) if setting in frame.settings]
    return values[-1] if values else None


async def told(connection: Connection, condition: Callable[[], object]) -> bool:
    """Whether what comes on the connection fulfils the condition in time."""
    return await asyncio.to_thread(connection.wait, condition, SECONDS_MAX)


def read_to_the_end(one: socket.socket) -> None:
    with contextlib.suppress(ConnectionError):
        while one.recv(4_096):
            pass

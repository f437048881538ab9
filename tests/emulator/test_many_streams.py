"""As many streams at once as load tests of a gateway need."""

import asyncio
import os
import re
import time
from pathlib import Path

import httpx
import pytest
from tests.emulator.running import AUTHORIZATION, Emulator, eventually, running_emulator
from tests.processes.files import allow_open_files

STREAMS = 6_000
EVENTS = 20
SECONDS = 2.0  # between events
OPENING = 256  # connections at once, while they are made
LATE_SECONDS_MAX = 5 * SECONDS  # others use this machine, too
DESCRIPTORS = STREAMS + 500

_TICK = re.compile(rb'"tick":(\d+),"of"')
_END = b"0\r\n\r\n"  # the last chunk


class Listener(asyncio.Protocol):
    """One stream: asks for it, and notes its events and when they came."""

    def __init__(self) -> None:
        self.ticks: list[int] = []
        self.times: list[float] = []
        self.is_whole = False
        self.ended = asyncio.get_running_loop().create_future()
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        body = b'{"events":%d,"seconds":%g}' % (EVENTS, SECONDS)
        head = (
            f"host: x\r\nauthorization: {AUTHORIZATION['authorization']}\r\ncontent-length: {len(body)}\r\n"
        )
        transport.write(f"POST /run/emulator/ticks/stream HTTP/1.1\r\n{head}\r\n".encode() + body)

    def data_received(self, data: bytes) -> None:
        data, now, read = self._tail + data, time.monotonic(), 0
        for match in _TICK.finditer(data):
            self.ticks.append(int(match[1]))
            self.times.append(now)
            read = match.end()
        self._tail = data[max(read, len(data) - 64) :]
        if data.endswith(_END):
            self.is_whole = True
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(None)

    @property
    def late_seconds(self) -> float:
        """How long after it was due the latest event came."""
        return max(at - (self.times[0] + SECONDS * number) for number, at in enumerate(self.times))


@pytest.mark.timeout(240)
async def test_six_thousand_streams_on_one_core() -> None:
    """6,000 streams of 20 events, one every 2 s, on one core: every event comes, in order, and in time."""
    allow_open_files(DESCRIPTORS)
    loop, opening = asyncio.get_running_loop(), asyncio.Semaphore(OPENING)
    with running_emulator() as (emulator, process):
        os.sched_setaffinity(process.pid, {min(os.sched_getaffinity(process.pid))})
        url = httpx.URL(emulator.url)

        async def listen() -> Listener:
            async with opening:
                _, listener = await loop.create_connection(Listener, url.host, url.port)
            return listener

        started = time.monotonic()
        listeners = await asyncio.gather(*(listen() for _ in range(STREAMS)))
        at_once = await asyncio.to_thread(open_streams, emulator)
        await asyncio.gather(*(listener.ended for listener in listeners))
        seconds = time.monotonic() - started
        cpu_seconds, rss_kilobytes = used_by(process.pid)
        health = emulator.http.get("/_emulator/health").json()
    late_seconds = max(listener.late_seconds for listener in listeners)
    print(  # seen with -s
        f"{STREAMS} streams in {seconds:.1f} s: {cpu_seconds} s of CPU, {rss_kilobytes // 1024} MiB, "
        f"latest event {late_seconds:.2f} s late"
    )
    whole = sum(one.is_whole and one.ticks == list(range(1, EVENTS + 1)) for one in listeners)
    assert (at_once, whole) == (STREAMS, STREAMS)
    assert late_seconds < LATE_SECONDS_MAX
    assert (health["open_requests"], health["internal_errors"]) == (0, 0)


def open_streams(emulator: Emulator) -> int:
    """How many streams are open, once the emulator has read all requests."""
    look = lambda: emulator.http.get("/_emulator/health").json()["open_requests"]  # noqa: E731
    return int(eventually(look, lambda seen: seen == STREAMS))


def used_by(pid: int) -> tuple[float, int]:
    """CPU seconds and the largest resident size in kilobytes of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmHWM" in line]
    return ticks / os.sysconf("SC_CLK_TCK"), int(line.split()[1])

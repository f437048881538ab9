"""Frames that are allowed, but too many of them: others hardly notice, and memory comes back."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from typing import Any

import pytest
from tests.processes.files import allow_open_files
from tests.processes.gateway import Gateway, served
from tests.security.bystanders import Bystander, bystander

pytestmark = pytest.mark.alone

FRAMES = {
    "rapid_resets": 20_000,
    "settings": 200_000,
    "settings_unread": 200_000,
    "pings": 200_000,
    "pings_unread": 200_000,
    "empty_data": 200_000,
    "continuations": 20_000,  # 80 MB
    "open_streams": 20_000,
}
FLOOD_SECONDS = 2.0  # at least; it begins again till then
CALLS_MIN = 100
WAIT_SECONDS_MAX = 0.05  # of all calls but 1 %
# What these two cost grpc itself makes others wait for longer where attacker and gateway have a core each.
LONGER_WAITS = {"continuations": 0.2, "open_streams": 0.2}
ATTEMPTS = 3  # on a busy machine
HELD_BYTES_MAX = 24 * 1024 * 1024  # most of it once, for the first flood of a kind
BOMBS, BOMB_FRAMES = 4, 26
BOMB_HELD_BYTES_MAX = 64 * 1024 * 1024
FILES_MORE_MAX = 2  # of connections that come and go
SOCKETS = 5_000
SOCKETS_HELD_BYTES_MAX = 48 * 1024 * 1024
HANDSHAKE_SECONDS = 5.0
GONE_SECONDS_MAX = 30.0
WORDS_OF_GRPC = ("hpack_encoder.cc", "hpack_parser.cc")  # it writes about bad headers to stderr itself


@pytest.fixture(scope="module")
def attacked(emulator_url: str) -> Iterator[Gateway]:
    """A gateway for all attacks."""
    with served(emulator_url) as gateway:
        yield gateway
        words = [line for line in gateway.failures if any(word in line for word in WORDS_OF_GRPC)]
        gateway.failures[:] = [line for line in gateway.failures if line not in words]


@pytest.mark.parametrize("kind", FRAMES)
async def test_a_flood(attacked: Gateway, kind: str) -> None:
    """No call of a bystander fails or waits, and the gateway is as large afterwards as it was."""
    await warmed(attacked)
    for _ in range(ATTEMPTS):
        before = attacked.figures()
        async with bystander(attacked.address) as other:
            sent = await attack(attacked, kind, FRAMES[kind], FLOOD_SECONDS)
        assert sent["sent"] >= FRAMES[kind]
        after = await settled(attacked, before.rss_bytes + HELD_BYTES_MAX, before.files)
        print(told(kind, other, before, after), sent)
        assert after.rss_bytes <= before.rss_bytes + HELD_BYTES_MAX
        assert after.files <= before.files + FILES_MORE_MAX
        if is_unharmed(other, LONGER_WAITS.get(kind, WAIT_SECONDS_MAX)):
            return
    raise AssertionError("the bystander waited each time")


async def test_gzip_bombs(attacked: Gateway) -> None:
    """A message that gets too large when it is unpacked is given up on the way."""
    await warmed(attacked)
    before = attacked.figures()
    async with bystander(attacked.address):
        await attack(attacked, "bombs", BOMBS * BOMB_FRAMES, 0.0)
    after = attacked.figures()
    assert after.peak_bytes <= before.rss_bytes + BOMB_HELD_BYTES_MAX
    assert after.rss_bytes <= before.rss_bytes + HELD_BYTES_MAX


async def test_idle_sockets(attacked: Gateway) -> None:
    """Connections without a handshake are closed in time; the first wave costs some memory for good, a second none.

    What is kept is the C library's: pages with little in them.
    """
    allow_open_files(2 * SOCKETS)
    await warmed(attacked)
    unharmed = []
    for held_bytes_max in (SOCKETS_HELD_BYTES_MAX, HELD_BYTES_MAX):
        before = attacked.figures()
        async with bystander(attacked.address) as other:
            gone = await attack(attacked, "idle_sockets", SOCKETS, GONE_SECONDS_MAX)
        assert gone["left"] == 0
        assert gone["seconds"] >= HANDSHAKE_SECONDS * 0.9
        after = await settled(attacked, before.rss_bytes + held_bytes_max, before.files)
        print(told("idle_sockets", other, before, after), gone)
        assert after.rss_bytes <= before.rss_bytes + held_bytes_max
        assert after.files <= before.files + FILES_MORE_MAX
        unharmed.append(is_unharmed(other))
    assert any(unharmed)  # the machine may be busy for one of them


async def attack(gateway: Gateway, kind: str, count: int, seconds: float) -> dict[str, Any]:
    """Runs the attacker to its end."""
    port = gateway.address.rpartition(":")[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = (sys.executable, "-m", "tests.security.attackers", kind, port, str(count), str(seconds))
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=PIPE)
    said, _ = await process.communicate()
    assert process.returncode == 0
    report: dict[str, Any] = json.loads(said.splitlines()[-1])
    return report


async def warmed(gateway: Gateway) -> None:
    """Calls before, so that the gateway has what it needs for any."""
    async with bystander(gateway.address) as other:
        async with asyncio.timeout(20):
            while len(other) < CALLS_MIN:
                await asyncio.sleep(0.01)


async def settled(gateway: Gateway, rss_bytes: int, files: int) -> Any:
    """What it holds, as soon as it is no more than that, or after a while."""
    for _ in range(20):
        figures = gateway.figures()
        if figures.rss_bytes <= rss_bytes and figures.files <= files:
            return figures
        await asyncio.sleep(0.25)
    return gateway.figures()


def is_unharmed(other: Bystander, wait_seconds_max: float = WAIT_SECONDS_MAX) -> bool:
    """Whether the bystander could call all the time and hardly waited."""
    return len(other) >= CALLS_MIN and other.seconds(0.99) <= wait_seconds_max


def told(kind: str, other: Bystander, before: Any, after: Any) -> str:
    """The figures."""
    waits = " ".join(f"p{100 * share:g} {other.seconds(share) * 1_000:.1f} ms" for share in (0.5, 0.99, 1.0))
    held = f"{before.rss_bytes / 1e6:.1f} MB before, {after.rss_bytes / 1e6:.1f} MB after"
    cpu = after.cpu_seconds - before.cpu_seconds
    return (
        f"{kind}: {len(other)} calls, {waits}; {held}, at most {after.peak_bytes / 1e6:.1f}; {cpu:.2f} s CPU"
    )

"""Uploads of any size, in bounded memory and at a good part of what grpc itself can do."""

import asyncio
import contextlib
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from tests.emulator.running import running_emulator
from tests.processes.channels import own_channel, own_channels
from tests.processes.gateway import served

from falrpc import v1

pytestmark = pytest.mark.alone

MIB = 1024 * 1024
CHUNK = os.urandom(256 * 1024)
FILE_BYTES = 2048 * MIB
BUFFER_BYTES = 128 * MIB
SLACK_BYTES = 64 * MIB
SHARE_MIN = 0.4  # of what a bare server takes
ATTEMPTS = 5  # on a machine that others use, too
AT_ONCE = 20
EACH_BYTES = 100 * MIB
LONG = 280  # seconds, beyond every limit here


@contextlib.contextmanager
def running(program: str) -> Iterator[str]:
    """A program that ends with its input. Gives the line that it says first."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", f"tests.processes.{program}"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()


async def file(size: int, *, is_declared: bool = True) -> AsyncIterator[v1.UploadRequest]:
    """A file of so many bytes."""
    yield v1.UploadRequest(header=v1.UploadHeader(file_name="f.bin", size=size if is_declared else None))
    chunk = v1.UploadRequest(chunk=CHUNK)
    for _ in range(size // len(CHUNK)):
        yield chunk


def digest_of(url: str) -> bytes:
    """The SHA-256 of what can be read there."""
    whole = hashlib.sha256()
    with httpx.stream("GET", url, trust_env=False, timeout=60) as response:
        for chunk in response.iter_raw():
            whole.update(chunk)
    return whole.digest()


def digest(size: int) -> bytes:
    whole = hashlib.sha256()
    for _ in range(size // len(CHUNK)):
        whole.update(CHUNK)
    return whole.digest()


SHA256 = digest(FILE_BYTES)


async def bytes_per_second(address: str, size: int) -> tuple[float, v1.UploadResponse]:
    """How fast a file goes there, and the answer."""
    async with own_channel(address) as channel:
        await channel.channel_ready()
        started = time.monotonic()
        answer = await v1.FalServiceStub(channel).Upload(file(size), timeout=LONG)
        return size / (time.monotonic() - started), answer


@pytest.mark.timeout(LONG)
async def test_two_gigabytes() -> None:
    """2 GiB take no more memory than parts may have and a little, at 40 % of a bare server's speed or more."""
    with (
        running("bucket") as port,
        served(f"http://127.0.0.1:{port}", upload_buffer_bytes_max=str(BUFFER_BYTES)) as gateway,
        running("sink") as sink,
    ):
        await bytes_per_second(gateway.address, 100 * MIB)  # what is kept for the next file is there
        before = await asyncio.to_thread(gateway.figures)
        shares = []
        for _ in range(ATTEMPTS):
            bare = [await bytes_per_second(sink, 256 * MIB)]
            rate, answer = await bytes_per_second(gateway.address, FILE_BYTES)
            bare.append(await bytes_per_second(sink, 256 * MIB))
            assert (answer.size, answer.sha256) == (FILE_BYTES, SHA256)
            shares.append(rate * len(bare) / sum(one for one, _ in bare))
            print(f"{rate / MIB:.0f} MiB/s, {shares[-1]:.2f} of a bare server's")  # seen with -s
            if shares[-1] >= SHARE_MIN:
                break
        after = await asyncio.to_thread(gateway.figures)
    growth = after.peak_bytes - before.rss_bytes
    print(f"memory {growth / MIB:+.0f} MiB")
    assert growth <= BUFFER_BYTES + SLACK_BYTES
    assert max(shares) >= SHARE_MIN


@pytest.mark.timeout(LONG)
async def test_many_at_once() -> None:
    """20 files of 100 MB at once share the memory that there is: late ones wait, and all are stored."""
    with (
        running_emulator() as (emulator, _),
        served(
            emulator.url,
            upload_buffer_bytes_max=str(BUFFER_BYTES),
            upload_single_bytes_max=str(EACH_BYTES),  # so that those of declared size go whole
        ) as gateway,
    ):
        before = await asyncio.to_thread(gateway.figures)
        async with own_channels(gateway.address, AT_ONCE) as channels:
            uploads = (
                v1.FalServiceStub(channel).Upload(file(EACH_BYTES, is_declared=n % 2 == 0), timeout=LONG)
                for n, channel in enumerate(channels)
            )
            answers = await asyncio.gather(*uploads)
        after = await asyncio.to_thread(gateway.figures)
        stored = [await asyncio.to_thread(digest_of, answer.url) for answer in answers[:2]]
    growth = after.peak_bytes - before.rss_bytes
    print(f"memory {growth / MIB:+.0f} MiB")  # seen with -s
    assert [answer.size for answer in answers] == [EACH_BYTES] * AT_ONCE
    assert {answer.sha256 for answer in answers} == {*stored} == {digest(EACH_BYTES)}
    assert growth <= BUFFER_BYTES + SLACK_BYTES

"""h2spec: what the listener does with HTTP/2 frames, the odd ones too."""

import asyncio
import contextlib
from asyncio.subprocess import DEVNULL
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.external.frozen import assert_frozen, frozen
from tests.external.tools import go_tool
from tests.processes.gateway import served

WAIT_SECONDS = 2  # of h2spec for an answer; a case that fails waits so long
AT_ONCE = 32
QUIET_SECONDS = 0.15  # without a write of h2spec
READ_BYTES = 65_536
SECONDS_MAX = 400  # the build of the tools included
FROZEN = "h2spec.txt"
WORDS_OF_GRPC = "hpack_parser.cc"  # it writes about bad headers to stderr itself


@pytest.mark.alone
@pytest.mark.timeout(SECONDS_MAX)
async def test_h2spec(emulator_url: str, tmp_path: Path) -> None:
    """Each case ends as it did the last time: what fails is grpc's affair, a change is ours to look at.

    Its requests are plain ones of HTTP: grpc resets them, and h2spec takes that for a failure.
    """
    h2spec = await asyncio.to_thread(go_tool, "h2spec")
    free = asyncio.Semaphore(AT_ONCE)

    async def checked(case: str) -> tuple[str, str]:
        report = tmp_path / f"{case.replace('/', '-')}.xml"
        async with free:
            command = (h2spec, "-h", "127.0.0.1", "-p", port, "-o", str(WAIT_SECONDS), "-j", report, case)
            process = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=DEVNULL)
            await process.wait()
        return verdict(case, report)

    with served(emulator_url) as gateway:
        gathering = await asyncio.start_server(partial(relayed, gateway.address), "127.0.0.1", 0)
        port = str(gathering.sockets[0].getsockname()[1])
        # A process for each, so that they wait side by side. Which there are is a matter of h2spec's version.
        told = dict(await asyncio.gather(*map(checked, frozen_cases())))
        gathering.close()
        gateway.failures[:] = [line for line in gateway.failures if WORDS_OF_GRPC not in line]
        assert gateway.codes == {}
    assert_frozen(FROZEN, list(told), told)


async def relayed(upstream: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Passes on what h2spec writes, several writes as one.

    grpc resets its requests soon. A frame that comes just before or just after that would end differently,
    by chance; what comes in one read is seen before.
    """
    there_reader, there_writer = await asyncio.open_connection(*upstream.split(":"))
    ways = [
        asyncio.create_task(_gathered(reader, there_writer)),
        asyncio.create_task(_at_once(there_reader, writer)),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        for one in (writer, there_writer):
            one.close()


async def _gathered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    held = b""
    with contextlib.suppress(ConnectionError):
        while True:
            try:
                async with asyncio.timeout(QUIET_SECONDS if held else None):
                    piece = await reader.read(READ_BYTES)
                if not piece:
                    break
                held += piece
            except TimeoutError:
                writer.write(held)
                held = b""
        writer.write(held)
        await writer.drain()


async def _at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(READ_BYTES):
            writer.write(piece)
            await writer.drain()


def frozen_cases() -> list[str]:
    """The cases of the list, for instance `http2/5.1/3`."""
    return [line.split()[0] for line in frozen(FROZEN)]


def verdict(case: str, report: Path) -> tuple[str, str]:
    """The verdict in a report on one case, and what was expected and seen if it failed."""
    [told] = ElementTree.parse(report).getroot().iter("testcase")
    failed = [*told.iter("failure"), *told.iter("error")]
    word = "fail" if failed else "skip" if told.find("skipped") is not None else "pass"
    return f"{case} {word}: {told.get('classname')}", "".join("".join(one.itertext()) for one in failed)

"""An answer without end costs no more than the largest one that is allowed."""

import asyncio
import gzip
import tracemalloc
import zlib

import pytest
from tests.conftest import Fal, running_gateway
from tests.failures import failure_of
from tests.service.raw_server import answering
from tests.service.test_run import WAIT_SECONDS_MAX, run

LIMIT = 1_000_000  # bytes
ENDLESS = 100_000_000_000


@pytest.mark.parametrize("status", [200, 500])
async def test_an_endless_body(emulator_url: str, fal: Fal, status: int) -> None:
    """A body without end is cut at the limit, and fal sees that nobody listens."""
    async with running_gateway(emulator_url=emulator_url, output_bytes_max=LIMIT) as gateway:
        fal.will("huge_answer", operation="run", bytes=ENDLESS, status=status)
        failed = await failure_of(gateway.stub.Run(run("emulator/echo"), timeout=60))
        if status == 200:
            assert (failed.code, failed.info.reason, failed.delivery) == (
                "UNKNOWN",
                "OUTPUT_TOO_LARGE",
                "ACCEPTED",
            )
        else:
            assert failed.info.metadata["http_status"] == "500"
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while (await fal.seen(operation="run"))[0]["outcome"] != "client_closed":
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_small_body_that_is_large_inside(encoding: str) -> None:
    """A compressed body is unpacked up to the limit: 500 MB in 500 kB take a few."""
    zeros = bytes(1_000_000)
    if encoding == "gzip":
        body = gzip.compress(zeros * 500, compresslevel=1)
    else:
        body = zlib.compress(zeros * 500, level=1)
    head = (
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
        f"content-encoding: {encoding}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    limits = {"output_bytes_max": 4 * LIMIT}
    async with answering(head.encode() + body) as url, running_gateway(emulator_url=url, **limits) as gateway:
        tracemalloc.start()
        try:
            failed = await failure_of(gateway.stub.Run(run("a/b"), timeout=60))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (failed.code, failed.info.reason) == ("UNKNOWN", "OUTPUT_TOO_LARGE")
        assert peak < 5 * len(body) + 4 * 4 * LIMIT

"""What failed uploads leave in memory."""

import asyncio
import gc
import tracemalloc

import pytest
from tests.uploads.standing import DATA, PART_BYTES, SMALL, chunks, failure, header, standing
from tests.uploads.stores import MIB, Act

from falrpc_server import upload_messages

FAILURES = 5
KEPT_BYTES_MAX = (FAILURES + 3) * MIB  # a chunk of each that was just being written, in frames of aiohttp's


@pytest.mark.parametrize(
    ("what", "size", "sha256", "data"),
    [
        pytest.param("part 2", len(DATA), b"", DATA, id="a part is refused"),
        pytest.param("", len(DATA), b"x" * 32, DATA, id="other bytes than declared, in parts"),
        pytest.param("put", None, b"", DATA[: PART_BYTES - 1], id="a file at hand is refused"),
        pytest.param(
            "put", len(DATA[:PART_BYTES]), b"", DATA[:PART_BYTES], id="a file that comes is refused"
        ),
        pytest.param("", len(SMALL) + 1, b"", SMALL, id="fewer bytes than declared"),
        pytest.param("", len(SMALL), b"x" * 32, SMALL, id="other bytes than declared"),
    ],
)
async def test_the_bytes_are_gone(what: str, size: int | None, sha256: bytes, data: bytes) -> None:
    """The bytes of an upload that failed go with it, and don't wait for a garbage collection."""
    async with standing() as (store, gateway):
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            for _ in range(FAILURES):
                if what:
                    store.will(what, Act(status=403))
                assert (await failure(gateway.address, chunks(header(size, sha256), data))).code != "OK"
            await asyncio.sleep(0.2)  # the last call's own task ends
            chunk_bytes = tracemalloc.take_snapshot().filter_traces(
                [tracemalloc.Filter(True, upload_messages.__file__)]
            )
            kept_bytes = sum(one.size for one in chunk_bytes.statistics("filename"))
        finally:
            tracemalloc.stop()
            gc.enable()
    assert kept_bytes < KEPT_BYTES_MAX

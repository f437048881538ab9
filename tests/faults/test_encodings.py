"""Answers in encodings that nobody asked for: within bounds of memory, and never half an answer for a whole."""

import gzip
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.conftest import running_gateway
from tests.failures import failure_of, messages_and_failure
from tests.faults.cut_answers import at, cutting
from tests.faults.each_call import CALLS
from tests.service.test_run import run
from tests.service.test_stream_calls import stream
from tests.unit.test_transport import answer, serving

from falrpc import v1

MIB = 1024 * 1024
BOMB_BYTES = 256 * MIB
OUTPUT_BYTES_MAX = 4 * MIB
HANDLE = v1.RequestHandle(endpoint_id="a/b", request_id="r-1")


def bomb(encoding: str) -> bytes:
    """A small body that becomes BOMB_BYTES long."""
    maker = zlib.compressobj(9, wbits=31 if encoding == "gzip" else 15)
    block = b"0" * MIB
    return b"".join([*(maker.compress(block) for _ in range(BOMB_BYTES // MIB)), maker.flush()])


def encoded(status: int, encoding: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} Whatever\r\ncontent-type: application/json\r\ncontent-encoding: {encoding}\r\n"
    return head.encode() + b"x-fal-request-id: r-1\r\ncontent-length: %d\r\n\r\n" % len(body) + body


@contextmanager
def at_most(bytes_max: int) -> Iterator[None]:
    """Asserts that no more memory than that was taken at once by Python."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < bytes_max, f"{(peak - before) // MIB} MiB"


@pytest.fixture(scope="module", params=["gzip", "deflate"])
def exploding(request: pytest.FixtureRequest) -> tuple[str, bytes]:
    """A bomb and its encoding."""
    return request.param, bomb(request.param)


@pytest.mark.parametrize("method", ["Run", "Submit", "Status", "Result"])
async def test_a_bomb(exploding: tuple[str, bytes], method: str) -> None:
    """256 MB in 256 kB are unpacked up to the limit of outputs, in little memory, and fail."""
    head = encoded(200, *exploding)
    limits = {"output_bytes_max": OUTPUT_BYTES_MAX, "resends_max": 0}
    async with serving(answer(head)) as fal, running_gateway(emulator_url=fal.url, **limits) as gateway:
        with at_most(20 * MIB):
            failed = await failure_of(CALLS[method](gateway.stub))
        code = "UNKNOWN" if method in ("Run", "Submit") else "RESOURCE_EXHAUSTED"
        assert (failed.code, failed.info.reason) == (code, "OUTPUT_TOO_LARGE")
        assert len(fal.requests) == 1


async def test_a_bomb_as_an_error(exploding: tuple[str, bytes]) -> None:
    """An error body that explodes is read up to its limit; the status is the answer."""
    head = encoded(422, *exploding)
    async with serving(answer(head)) as fal, running_gateway(emulator_url=fal.url) as gateway:
        with at_most(64 * MIB):
            failed = await failure_of(CALLS["Run"](gateway.stub))
        assert (failed.code, failed.info.reason) == ("INVALID_ARGUMENT", "HTTP_422")


async def test_a_bomb_as_a_stream(exploding: tuple[str, bytes]) -> None:
    """A stream of events in an encoding is refused, in bounded memory."""
    head = encoded(200, *exploding).replace(b"application/json", b"text/event-stream")
    async with serving(answer(head)) as fal, running_gateway(emulator_url=fal.url) as gateway:
        with at_most(64 * MIB):
            _, failed = await messages_and_failure(gateway.stub.Stream(stream("a/b"), timeout=60))
        assert (failed.code, failed.info.reason) == ("UNKNOWN", "UPSTREAM_MALFORMED")
        assert len(fal.requests) == 1


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "GZIP,br", "x" * 200])
async def test_an_encoding_that_is_not_known(encoding: str) -> None:
    """A paid answer in an encoding that cannot be undone is UNKNOWN, UPSTREAM_MALFORMED, and was sent once."""
    head = encoded(200, encoding, b"\x1b\x07\x00\xf8\xe5\x63")
    async with serving(answer(head)) as fal, running_gateway(emulator_url=fal.url) as gateway:
        failed = await failure_of(CALLS["Run"](gateway.stub))
        assert (failed.code, failed.info.reason, failed.delivery) == (
            "UNKNOWN",
            "UPSTREAM_MALFORMED",
            "ACCEPTED",
        )
        assert len(fal.requests) == 1


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_an_encoded_answer_cut_at_every_byte(encoding: str) -> None:
    """An encoded body without framing is an output only when it is whole."""
    text = b'{"images":[1,2,3],"seed":196619188014358660}'
    body = gzip.compress(text) if encoding == "gzip" else zlib.compress(text)
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: {encoding}\r\n".encode()
    whole = head + b"connection: close\r\n\r\n" + body
    async with (
        cutting(whole) as fal,
        running_gateway(emulator_url=fal.url, breaker_failures=1_000_000) as gateway,
    ):
        for place in range(len(whole) - len(body), len(whole)):
            failed = await failure_of(gateway.stub.Run(run(f"cut/{at(place)}"), timeout=60))
            assert failed.code == "UNKNOWN"
        told = await gateway.stub.Run(run(f"cut/{at(len(whole))}"), timeout=60)
        assert told.output.json == text.decode()

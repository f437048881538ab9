"""What metadata a call may bring."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import hpack
import pytest
from hyperframe.frame import DataFrame, HeadersFrame, SettingsFrame

from falrpc_server.access.metadata import METADATA_BYTES_MAX, check
from falrpc_server.access.refusals import Kind, Refusal

CANARY = "canary-4711"
Entry = tuple[str, str | bytes]


def refused(entries: list[Entry]) -> str:
    with pytest.raises(Refusal) as caught:
        check(entries)
    assert (caught.value.kind, caught.value.reason) == (Kind.BAD_METADATA, "METADATA_INVALID")
    assert CANARY not in f"{caught.value!r} {caught.value} {caught.value.text} {caught.value.cause}"
    return caught.value.text


@pytest.mark.parametrize(
    "character",
    [
        "\0",
        "\t",
        "\n",
        "\r",
        "\x1b",
        "\x1f",
        "\x7f",
        "\x80",
        "\x85",
        "\xa0",
        "\xff",
        "é",
        "\u2028",
        "\U0001d7d9",
    ],
    ids=ascii,
)
@pytest.mark.parametrize("place", ["{}canary-4711", "canary-{}4711", "canary-4711{}"])
def test_what_is_no_printable_ascii_is_refused(character: str, place: str) -> None:
    """A value with one byte outside 0x20 to 0x7e is refused, wherever it stands, and not repeated."""
    text = place.format(character)
    assert refused([("x-team", text)]) == "metadata: the value of `x-team` must be printable ASCII"
    assert "`x-team`" in refused([("x-team", text.encode())])


def test_every_printable_character_is_allowed() -> None:
    """All of 0x20 to 0x7e, a value without anything, bytes of text and `-bin` bytes pass."""
    text = "".join(map(chr, range(0x20, 0x7F)))
    check([("x-team", text), ("x-empty", ""), ("x-bytes", text.encode()), ("x-data-bin", bytes(range(256)))])
    check([])


def test_every_byte_is_one_or_the_other() -> None:
    """Of all single bytes exactly the 95 printable ones pass."""

    def passes(value: str | bytes) -> bool:
        try:
            check([("x", value)])
        except Refusal:
            return False
        return True

    expected = set(range(0x20, 0x7F))
    assert {n for n in range(256) if passes(chr(n))} == expected
    assert {n for n in range(256) if passes(bytes([n]))} == expected


@pytest.mark.parametrize("name", ["authorization", "x-fal-key"])
def test_a_credential_comes_once(name: str) -> None:
    """Two of a credential are refused, equal ones and an empty one, too; one of each is allowed."""
    for second in ("Bearer other", f"Bearer {CANARY}", ""):
        entries: list[Entry] = [(name, f"Bearer {CANARY}"), ("x-a", "b"), (name, second)]
        assert refused(entries) == f"metadata: `{name}` may be given only once"
    check([("authorization", "Bearer one"), ("x-fal-key", "id:secret")])
    check([("x-team", "a"), ("x-team", "b")])


@pytest.mark.parametrize("value", ["", b""], ids=["text", "bytes"])
@pytest.mark.parametrize("entries", [1, 3])
def test_the_size_at_its_limit(value: str | bytes, entries: int) -> None:
    """8,192 bytes pass and 8,193 do not, each entry counted with 32 bytes more."""
    name = "x-data-bin"
    small: list[Entry] = [(name, value)] * (entries - 1)
    left = METADATA_BYTES_MAX - entries * (len(name) + 32)
    filler = "a" if isinstance(value, str) else b"a"
    for size in (left - 1, left):
        check([*small, (name, filler * size)])
    assert f"has {METADATA_BYTES_MAX + 1} bytes" in refused([*small, (name, filler * (left + 1))])
    assert f"of at most {METADATA_BYTES_MAX}" in refused([*small, (name, filler * (100 * left))])


def test_many_entries_without_anything() -> None:
    """Entries cost although they are empty: 248 of one letter pass, 249 do not."""
    check([("x", "")] * (METADATA_BYTES_MAX // 33))
    refused([("x", "")] * (METADATA_BYTES_MAX // 33 + 1))


def test_a_strange_name_is_not_repeated() -> None:
    """The refusal names a long or unprintable name as little as a value."""
    for name in (CANARY * 10, f"{CANARY}\n"):
        assert refused([(name, "\n")]) == "metadata: the value of an entry must be printable ASCII"


Call = Callable[[bytes, bytes], Awaitable[list[Entry]]]


@pytest.fixture
async def call() -> AsyncIterator[Call]:
    """Sends a call with one raw header to a real server; what its metadata is there."""
    arrived: asyncio.Queue[list[Entry]] = asyncio.Queue()

    class Handler(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> object:
            async def take(request: bytes, context: grpc.aio.ServicerContext) -> bytes:  # type: ignore[type-arg]
                arrived.put_nowait(list(context.invocation_metadata() or ()))
                return b""

            return grpc.unary_unary_rpc_method_handler(take)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers([Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    async def send(name: bytes, value: bytes) -> list[Entry]:
        standard = {
            ":method": "POST",
            ":scheme": "http",
            ":path": "/a/b",
            ":authority": "x",
            "te": "trailers",
        }
        head = [
            *((k.encode(), v.encode()) for k, v in standard.items()),
            (b"content-type", b"application/grpc"),
        ]
        frames = [
            SettingsFrame(0),
            HeadersFrame(1, data=hpack.Encoder().encode([*head, (name, value)]), flags=["END_HEADERS"]),
            DataFrame(1, data=b"\0\0\0\0\0", flags=["END_STREAM"]),
        ]
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"".join(f.serialize() for f in frames))
            async with asyncio.timeout(20):
                return await arrived.get()
        finally:
            writer.close()

    yield send
    await server.stop(0)


@pytest.mark.parametrize(
    "value", [b"a\0b", b"a\nb", b"a\x1b[2J", b"\xff\xfe", "é".encode(), b"\x7f"], ids=ascii
)
async def test_what_grpc_lets_through(call: Call, value: bytes) -> None:
    """grpc hands hostile values on as they are: nothing before check() refuses them."""
    arrived = await call(b"x-team", value)
    assert "x-team" in dict(arrived)
    assert "`x-team`" in refused(arrived)


async def test_what_an_honest_call_brings(call: Call) -> None:
    """A plain value and one of bytes come through and pass."""
    check(await call(b"x-team", b"backend"))
    arrived = await call(b"x-team-bin", b"AP8")
    assert dict(arrived)["x-team-bin"] == b"\0\xff"
    check(arrived)

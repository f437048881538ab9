"""Server-sent events from bytes (docs/fal-http-api.md §8.4, docs/decisions/0002)."""

import asyncio
import contextlib
import itertools
import tracemalloc
from collections.abc import AsyncGenerator, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falrpc_server.fal_http.event_stream import SLICE_BYTES, read_events
from falrpc_server.fal_http.events import (
    BadEventStream,
    Event,
    EventReader,
    EventTooLarge,
)

JSON = '{"a":1}'


def read(*pieces: bytes, limit: int = 1_000) -> list[Event]:
    reader = EventReader(limit)
    return [event for piece in pieces for event in reader.feed(piece)] + list(reader.finish())


@pytest.mark.parametrize(
    ("wire", "data"),
    [
        pytest.param(b"", [], id="empty-stream"),
        pytest.param(b'data: {"a":1}\n\n', [JSON], id="plain"),
        pytest.param(b'data:{"a":1}\n\n', [JSON], id="no-space"),
        pytest.param(b'data: {"a":1}\r\n\r\n', [JSON], id="crlf"),
        pytest.param(b'data: {"a":1}\r\r', [JSON], id="cr"),
        pytest.param(b'data: {"a":1}\r\n\n', [JSON], id="mixed-ends"),
        pytest.param(b'event: event\ndata: {"a":1}\n\n', [JSON], id="named"),
        pytest.param(b'\xef\xbb\xbfdata: {"a":1}\n\n', [JSON], id="bom"),
        pytest.param(b'data: {\ndata: "a":1}\n\n', ['{\n"a":1}'], id="multi-line"),
        pytest.param(b": hello\n\n: again\n\n", [], id="comments"),
        pytest.param(b'id: 1\ndata: {"a":1}\n\n: beat\n\n: beat\n\n', [JSON], id="comments-after-id"),
        pytest.param(b"event: x\n\n", [], id="event-without-data"),
        pytest.param(b"retry: 10\n\nid: 5\n\n", [], id="bare-retry-and-id"),
        pytest.param(b"data\n\ndata:\n\n", ["", ""], id="empty-data"),
        pytest.param(b"data: [DONE]\n\n", ["[DONE]"], id="done"),
        pytest.param(b"data: 0\n\ndata: null\n\n", ["0", "null"], id="falsy-json"),
        pytest.param(
            'data: "a\u2028b\u0085c\u000bd"\n\n'.encode(), ['"a\u2028b\u0085c\u000bd"'], id="not-ends"
        ),
        pytest.param(b"dataset: x\nid2: y\nfoo\n\n", [], id="other-fields"),
        pytest.param(b"\n\n\n\ndata: 1\n\n\n\ndata: 2\n\n", ["1", "2"], id="spare-blank-lines"),
        pytest.param(b"data:  x\n\n", [" x"], id="one-space-removed"),
        pytest.param(b"data: a:b\n\n", ["a:b"], id="colon-in-data"),
        pytest.param(b"data: \x00\n\n", ["\x00"], id="nul"),
    ],
)
def test_reads_what_the_standard_says(wire: bytes, data: list[str]) -> None:
    """Exactly the events with data are read, as the standard interprets the bytes."""
    assert read(wire) == [Event(text) for text in data]


def test_a_bom_counts_only_at_the_start() -> None:
    """A BOM before a later line is no BOM, so its field is unknown and ignored."""
    assert read(b"data: 1\n\n\xef\xbb\xbfdata: 2\n\n") == [Event("1")]
    assert read(b"\n\xef\xbb\xbfdata: 1\n\n") == []


@pytest.mark.parametrize(
    ("wire", "events"),
    [
        pytest.param(b"data: 1\n", [Event("1", is_finished=False)], id="no-blank-line"),
        pytest.param(b"data: 1", [Event("1", is_finished=False)], id="no-line-end"),
        pytest.param(b"data: 1\r", [Event("1", is_finished=False)], id="half-crlf"),
        pytest.param(b"data: 1\n\ndata: 2", [Event("1"), Event("2", is_finished=False)], id="second"),
        pytest.param(b"data: 1\ndata: 2", [Event("1\n2", is_finished=False)], id="two-lines"),
        pytest.param(b"data: 1\n\n: comm", [Event("1")], id="cut-comment"),
        pytest.param(b"data: 1\n\nevent: x\n", [Event("1")], id="cut-without-data"),
        pytest.param(b"data: 1\n\nda", [Event("1")], id="cut-in-field-name"),
        pytest.param(b"data: 1\n\xc3", [Event("1", is_finished=False)], id="cut-in-a-line's-first-character"),
    ],
)
def test_a_cut_last_event_is_delivered_and_marked(wire: bytes, events: list[Event]) -> None:
    """An event whose blank line never came is not lost, and says that it is not finished."""
    assert read(wire) == events


@pytest.mark.parametrize(
    ("wire", "events"),
    [
        pytest.param(b"data: 1\n", [Event("1", is_finished=False)], id="no-blank-line"),
        pytest.param(b"data: 1\r", [Event("1", is_finished=False)], id="half-crlf"),
        pytest.param(b"data: 1", [], id="half-line"),
        pytest.param(b"data: 1\ndata: 2", [Event("1", is_finished=False)], id="line-and-half"),
        pytest.param(b"data: 1\n\n", [Event("1")], id="whole"),
    ],
)
async def test_a_broken_stream_loses_only_its_half_line(wire: bytes, events: list[Event]) -> None:
    """When the connection breaks, the lines that came whole are an event, and then the break is raised."""

    async def pieces() -> AsyncGenerator[bytes]:
        yield wire
        raise ConnectionResetError("broken")

    got = []
    with pytest.raises(ConnectionResetError, match="broken"):
        async for event in read_events(pieces(), 1_000):
            got.append(event)  # a comprehension would lose them
    assert got == events


@pytest.mark.parametrize(
    "line", [b": caf\xe9", b"event: \xe9", b"id: \xe9", b"retry: \xe9", b"\xe9: 1", b"\xe9"]
)
def test_only_data_is_read_as_text(line: bytes) -> None:
    """Invalid UTF-8 in a comment or in a field that is ignored anyway harms nothing."""
    assert read(line + b"\ndata: 1\n" + line + b"\n\n") == [Event("1")]


def test_invalid_utf_8_is_refused() -> None:
    """Bytes that are no UTF-8 are an error, not U+FFFD."""
    with pytest.raises(BadEventStream, match="UTF-8"):
        read(b"data: a\xffb\n\n")


@pytest.mark.parametrize("end", range(1, len('data: {"a":"é"}'.encode())))
def test_a_cut_at_any_byte_is_a_cut(end: int) -> None:
    """Wherever the last event is cut, also inside a character, it is unfinished and not called bad UTF-8."""
    events = read(b"data: 1\n\n", 'data: {"a":"é"}'.encode()[:end])
    assert events[0] == Event("1")
    assert all(not event.is_finished for event in events[1:])


@pytest.mark.parametrize(
    ("wire", "limit", "fits"),
    [
        pytest.param(b"data: 1234\n\n", 12, True, id="just-fits"),
        pytest.param(b"data: 12345\n\n", 12, False, id="one-too-many"),
        pytest.param(b"data: 1234" * 100, 12, False, id="line-without-end"),
        pytest.param(b"data: 1\n" * 100, 100, False, id="lines-without-blank-line"),
        pytest.param(b": 1\n" * 100, 100, False, id="comments-without-blank-line"),
        pytest.param(b"data: 1234\n\n" * 100, 12, True, id="many-small-events"),
    ],
)
def test_an_event_has_a_size_limit(wire: bytes, limit: int, fits: bool) -> None:
    """The bytes of one event are bounded, however they come; the number of events is not."""
    for pieces in ([wire], [wire[n : n + 1] for n in range(len(wire))]):
        if fits:
            assert len(read(*pieces, limit=limit)) == wire.count(b"\n\n")
        else:
            with pytest.raises(EventTooLarge, match="more than"):
                read(*pieces, limit=limit)


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([b"ab"] * 500_000, id="line-in-tiny-pieces"),
        pytest.param([b"data:ab\n" * 1_000] * 125, id="tiny-lines"),
    ],
)
def test_the_limit_bounds_memory(pieces: list[bytes]) -> None:
    """An event takes no more memory than a few times the limit, in however many parts it comes."""
    reader = EventReader(1_000_000)
    tracemalloc.start()
    try:
        with contextlib.suppress(EventTooLarge):
            for piece in pieces:
                assert list(reader.feed(piece)) == []
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2_000_000


def test_very_many_events_in_one_piece() -> None:
    """100,000 events that come at once are all read, in order."""
    wire = b"".join(b"data: %d\n\n" % n for n in range(100_000))
    assert [event.data for event in read(wire)] == [str(n) for n in range(100_000)]


LINES = st.sampled_from(
    [
        "data: {}",
        "data:",
        "data",
        "data: ü\u2028",
        "event: x",
        "id: 7",
        ": beat",
        "retry: 1",
        "",
        "",
        "x",
        "\ufeff",
    ]
)
STREAMS = st.lists(st.tuples(LINES, st.sampled_from(["\n", "\r", "\r\n"])), max_size=12)


def cut(wire: bytes, places: Iterable[int]) -> list[bytes]:
    edges = sorted({0, len(wire), *(place % (len(wire) + 1) for place in places)})
    return [wire[start:end] for start, end in itertools.pairwise(edges)]


@given(STREAMS, st.lists(st.integers(0, 10_000), max_size=8), st.booleans(), st.booleans())
def test_events_do_not_depend_on_the_cuts(
    lines: list[tuple[str, str]], places: list[int], bom: bool, ended: bool
) -> None:
    """However the network splits the bytes, and with empty pieces between, the events are the same."""
    wire = "".join(line + end for line, end in lines).encode()
    wire = (b"\xef\xbb\xbf" if bom else b"") + (wire if ended else wire[: len(wire) * 2 // 3])
    if not ended:
        wire = wire.decode(errors="ignore").encode()
    whole = read(wire)
    assert read(*cut(wire, places)) == whole
    assert read(*[part for n in range(len(wire)) for part in (b"", wire[n : n + 1])]) == whole


@given(st.lists(st.text().map(lambda s: s.replace("\r", "").replace("\n", "")), max_size=5))
def test_any_text_survives(texts: list[str]) -> None:
    """Data without line ends comes out as it went in."""
    wire = "".join(f"data: {text}\n\n" for text in texts).encode()
    assert [event.data for event in read(wire, limit=100_000)] == texts


async def test_the_stream_of_bytes_is_closed() -> None:
    """read_events closes what it reads from, also when its reader leaves early."""
    closed = []

    async def pieces() -> AsyncGenerator[bytes]:
        try:
            while True:
                yield b"data: 1\n\n"
        finally:
            closed.append(True)

    events = read_events(pieces(), 1_000)
    assert await anext(events) == Event("1")
    await events.aclose()
    assert closed == [True]


@pytest.mark.parametrize(
    ("line", "slices"),
    [
        pytest.param(b"\n", 8, id="blank-lines"),
        pytest.param(b": beat\n", 8, id="comments"),
        pytest.param(b"event: x\n\n", 8, id="events-without-data"),
        pytest.param(b"data: x", 8, id="a-long-line"),
        pytest.param(b"\n", 1, id="one-slice"),
    ],
)
async def test_others_have_their_turn(line: bytes, slices: int) -> None:
    """A large piece of which no event comes is read in slices, between which others run; a small one at once."""
    wire = (line * SLICE_BYTES * slices)[: SLICE_BYTES * slices]
    turns = []

    async def other() -> None:
        while True:
            turns.append(True)
            await asyncio.sleep(0)

    async def pieces() -> AsyncGenerator[bytes]:
        yield wire

    task = asyncio.create_task(other())
    assert [event async for event in read_events(pieces(), 1_000_000) if event.is_finished] == []
    assert len(turns) == slices - 1
    task.cancel()


async def test_unfinished_events_come_last() -> None:
    """read_events delivers the cut event after all others."""

    async def pieces() -> AsyncGenerator[bytes]:
        yield b"data: 1\n\nda"
        yield b"ta: 2"

    assert [event async for event in read_events(pieces(), 1_000)] == [
        Event("1"),
        Event("2", is_finished=False),
    ]

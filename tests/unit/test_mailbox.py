"""What waits for a reader: kept while there is room, merged when there is none (watchers/mailbox.py)."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falrpc_server.fal_http.models import LogBatch, LogLine, QueueState, QueueStatus
from falrpc_server.watchers.mailbox import Mailbox


def waiting(position: int) -> QueueStatus:
    return QueueStatus(QueueState.IN_QUEUE, queue_position=position)


def lines(*numbers: int) -> tuple[LogLine, ...]:
    return tuple(LogLine(timestamp=str(n), message=f"m{n}") for n in numbers)


async def read(mailbox: Mailbox) -> list[QueueStatus | LogBatch]:
    mailbox.close()
    return [item async for item in mailbox.items()]


async def test_everything_in_order() -> None:
    """A reader who keeps up gets each state and each entry, in order."""
    mailbox = Mailbox(logs=True)
    mailbox.put_status(waiting(2))
    mailbox.put_logs(lines(1))
    mailbox.put_status(waiting(1))
    assert await read(mailbox) == [waiting(2), LogBatch(lines(1)), waiting(1)]


async def test_a_reader_who_waits() -> None:
    """What comes while the reader waits is given at once; the end ends it."""
    mailbox = Mailbox(logs=False)
    found: list[QueueStatus | LogBatch] = []

    async def reader() -> None:
        async for item in mailbox.items():
            found.append(item)

    task = asyncio.create_task(reader())
    for position in (3, 2, 1):
        await asyncio.sleep(0)
        mailbox.put_status(waiting(position))
    await asyncio.sleep(0.01)
    assert found == [waiting(3), waiting(2), waiting(1)]
    mailbox.close()
    await task


async def test_no_log_where_none_is_wanted() -> None:
    """Entries are not kept for those who did not ask."""
    mailbox = Mailbox(logs=False)
    mailbox.put_logs(lines(1))
    assert await read(mailbox) == []


async def test_states_are_merged() -> None:
    """When too much waits, of the states the newest is left."""
    mailbox = Mailbox(logs=True, items_max=3)
    for position in (5, 4, 3, 2):
        mailbox.put_status(waiting(position))
    mailbox.put_status(waiting(1))
    assert await read(mailbox) == [waiting(2), waiting(1)]


async def test_dropped_entries_are_counted() -> None:
    """When too many entries wait behind the first ones, the newest are left, and how many were dropped is told."""
    mailbox = Mailbox(logs=True, entries_max=4)
    for number in range(1, 7):
        mailbox.put_logs(lines(number))
    assert await read(mailbox) == [LogBatch(lines(1)), LogBatch(lines(5, 6), dropped=3)]


@pytest.mark.parametrize("letters", ["abcd", "äöüß"], ids=["ASCII", "two bytes each"])
async def test_large_entries(letters: str) -> None:
    """The bytes that wait are bounded, whatever their number; the newest entry is left when it has room."""
    mailbox = Mailbox(logs=True, bytes_max=1_000)
    entries = [LogLine(message=letter * (390 // len(letter.encode()))) for letter in letters]
    for entry in entries:
        mailbox.put_logs((entry,))
    assert await read(mailbox) == [LogBatch((entries[0],)), LogBatch((entries[3],), dropped=2)]


async def test_many_small_batches_lose_nothing() -> None:
    """Entries that have room are all kept, however many batches they came in."""
    mailbox = Mailbox(logs=True, items_max=2, entries_max=10)
    for number in range(9):
        mailbox.put_logs(lines(number))
    read_lines = [
        entry for item in await read(mailbox) if isinstance(item, LogBatch) for entry in item.entries
    ]
    assert tuple(read_lines) == lines(*range(9))


async def test_one_batch_may_be_larger_than_the_room() -> None:
    """A batch that nothing waits before is never cut: it is read in pieces, and what follows comes after it."""
    mailbox = Mailbox(logs=True, items_max=3, entries_max=4, bytes_max=1_000)
    mailbox.put_status(waiting(1))
    mailbox.put_logs(lines(*range(10)), dropped=7)
    for position in (9, 8, 7, 6):
        mailbox.put_status(waiting(position))
    assert await read(mailbox) == [
        waiting(1),
        LogBatch(lines(0, 1, 2, 3), dropped=7),
        LogBatch(lines(4, 5, 6, 7)),
        LogBatch(lines(8, 9)),
        waiting(6),
    ]


async def test_pieces_are_bounded_in_bytes() -> None:
    """No piece has more bytes than there is room for, but for one entry that alone has."""
    mailbox = Mailbox(logs=True, bytes_max=1_000)
    entries = tuple(LogLine(message=text) for text in ("a" * 800, "b" * 100, "c" * 2_000, "d" * 300))
    mailbox.put_logs(entries)
    assert await read(mailbox) == [LogBatch((entry,)) for entry in entries]


async def test_a_reader_who_lags_has_room_again() -> None:
    """What was read frees its room: a reader who reads now and then loses nothing."""
    mailbox = Mailbox(logs=True, entries_max=4)
    mailbox.put_logs(lines(0))
    items = mailbox.items()
    for number in range(1, 50):
        mailbox.put_logs(lines(number))
        assert await anext(items) == LogBatch(lines(number - 1))
    mailbox.close()
    assert [item async for item in items] == [LogBatch(lines(49))]


async def test_the_state_stays_in_front() -> None:
    """A state that leads is not put behind the entries that follow it; of the states before it none is left."""
    mailbox = Mailbox(logs=True, items_max=3, entries_max=4)
    for position in (5, 4, 3, 2):
        mailbox.put_status(waiting(position))
    for number in range(20):
        mailbox.put_logs(lines(number))
    first, *rest = await read(mailbox)
    assert first == waiting(2)
    assert all(isinstance(item, LogBatch) for item in rest)


@pytest.mark.parametrize("error", [None, ValueError("x")])
async def test_the_end_comes_after_the_rest(error: Exception | None) -> None:
    """What was put before the end is read first; then the reader ends, and is told of the failure, if any."""
    mailbox = Mailbox(logs=False)
    mailbox.put_status(waiting(1))
    mailbox.close(error)
    assert [item async for item in mailbox.items()] == [waiting(1)]
    assert mailbox.error is error


STEPS = st.one_of(
    st.tuples(st.just("logs"), st.integers(0, 30), st.integers(0, 200)),
    st.tuples(st.sampled_from(["state", "read"]), st.just(0), st.just(0)),
)


@given(
    start=st.none() | st.tuples(st.integers(0, 40), st.integers(0, 9)),
    steps=st.lists(STEPS, max_size=80),
    items_max=st.integers(1, 6),
    entries_max=st.integers(1, 20),
    bytes_max=st.sampled_from([300, 1_000, 5_000]),
)
async def test_nothing_is_lost_without_being_counted(
    start: tuple[int, int] | None,
    steps: list[tuple[str, int, int]],
    items_max: int,
    entries_max: int,
    bytes_max: int,
) -> None:
    """Whatever comes, and whenever it is read: entries read and entries counted as dropped are all that there
    were, in order; states never go back and the newest is read; what waits has no more than its room."""
    mailbox = Mailbox(logs=True, items_max=items_max, entries_max=entries_max, bytes_max=bytes_max)
    items = mailbox.items()
    found: list[QueueStatus | LogBatch] = []
    entries: list[LogLine | None] = []  # None for those that were dropped before
    states = 0

    def put_logs(count: int, characters: int, dropped: int = 0) -> None:
        first = len(entries) + dropped
        new = tuple(LogLine(timestamp=str(first + n), message="x" * characters) for n in range(count))
        mailbox.put_logs(new, dropped)
        entries.extend([None] * dropped)
        entries.extend(new)

    if start:
        put_logs(start[0], 0, dropped=start[1])
    for step, count, characters in steps:
        if step == "logs":
            put_logs(count, characters)
        elif step == "state":
            states += 1
            mailbox.put_status(waiting(states))
        elif mailbox._first:
            found.append(await anext(items))
        behind = [e for one in mailbox._behind if isinstance(one, LogBatch) for e in one.entries]
        assert mailbox._entries == len(behind) <= entries_max
        assert mailbox._bytes == sum(entry.size for entry in behind) <= bytes_max
        assert len(mailbox._behind) <= max(items_max, 2)  # merged, it is a batch and a state
        assert len(mailbox._first) <= items_max + 2
    mailbox.close()
    found += [item async for item in items]
    at = 0
    for batch in (item for item in found if isinstance(item, LogBatch)):
        at += batch.dropped
        assert list(batch.entries) == entries[at : at + len(batch.entries)]
        at += len(batch.entries)
        assert len(batch.entries) <= entries_max
        assert len(batch.entries) <= 1 or sum(entry.size for entry in batch.entries) <= bytes_max
    assert at == len(entries)
    positions = [item.queue_position or 0 for item in found if isinstance(item, QueueStatus)]
    assert positions == sorted(set(positions))
    assert positions[-1:] == ([states] if states else [])

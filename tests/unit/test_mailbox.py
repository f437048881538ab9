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
    """When too many entries wait, the newest are left, and how many were dropped is told."""
    mailbox = Mailbox(logs=True, entries_max=4)
    for number in range(1, 6):
        mailbox.put_logs(lines(number))
    assert await read(mailbox) == [LogBatch(lines(4, 5), dropped=3)]


async def test_large_entries() -> None:
    """The bytes that wait are bounded, whatever their number; the newest entry is left when it has room."""
    mailbox = Mailbox(logs=True, bytes_max=1_000)
    for text in ("a", "b", "c"):
        mailbox.put_logs((LogLine(message=text * 390),))
    [batch] = await read(mailbox)
    assert batch == LogBatch((LogLine(message="c" * 390),), dropped=2)


@pytest.mark.parametrize("error", [None, ValueError("x")])
async def test_the_end_comes_after_the_rest(error: Exception | None) -> None:
    """What was put before the end is read first; then the reader ends, or fails."""
    mailbox = Mailbox(logs=False)
    mailbox.put_status(waiting(1))
    mailbox.close(error)
    found = []

    async def reader() -> None:
        async for item in mailbox.items():
            found.append(item)

    if error:
        with pytest.raises(ValueError, match="x"):
            await reader()
    else:
        await reader()
    assert found == [waiting(1)]


@given(st.lists(st.integers(0, 3), max_size=200), st.integers(1, 5), st.integers(1, 20))
async def test_nothing_is_lost_without_being_counted(
    batches: list[int], items_max: int, entries_max: int
) -> None:
    """Entries that are read and entries that are counted as dropped are all that there were, in order."""
    mailbox = Mailbox(logs=True, items_max=items_max, entries_max=entries_max)
    number = 0
    for size in batches:
        mailbox.put_logs(lines(*range(number, number + size)))
        number += size
    read_lines: list[LogLine] = []
    dropped = 0
    for item in await read(mailbox):
        assert isinstance(item, LogBatch)
        assert not read_lines or item.dropped == 0
        dropped += item.dropped
        read_lines += item.entries
    assert tuple(read_lines) == lines(*range(dropped, number))

"""Which log entries are new (fal-http-api.md §7.3, §7.5)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falrpc_server.fal_http.models import LogLine
from falrpc_server.fal_http.queue_watch import LogDeltas


def lines(*numbers: int) -> tuple[LogLine, ...]:
    return tuple(LogLine(timestamp=str(n), message=f"m{n}") for n in numbers)


def test_overlapping_windows_give_each_entry_once() -> None:
    """What an earlier window showed is not shown again, and order is kept."""
    deltas = LogDeltas()
    assert deltas.new(lines(1, 2, 3)) == lines(1, 2, 3)
    assert deltas.new(lines(2, 3, 4)) == lines(4)
    assert deltas.new(lines(1, 2, 3, 4)) == ()
    assert deltas.new(()) == ()


def test_entries_that_differ_in_anything_are_different() -> None:
    """Same time and text from another source or at another level is another entry."""
    deltas = LogDeltas()
    entries = (
        LogLine("t", "INFO", "USER", "m"),
        LogLine("t", "WARN", "USER", "m"),
        LogLine("t", "INFO", "X", "m"),
    )
    assert deltas.new(entries) == entries


def test_a_late_entry_is_new_wherever_it_stands() -> None:
    """An entry that arrives late, before ones that were shown, is still shown."""
    deltas = LogDeltas()
    deltas.new(lines(1, 3))
    assert deltas.new(lines(1, 2, 3)) == lines(2)


@given(st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=6))
def test_every_entry_is_shown_exactly_once(windows: list[list[int]]) -> None:
    """Over all windows each entry is shown once, in the order of its first appearance."""
    deltas = LogDeltas()
    shown = [entry for window in windows for entry in deltas.new(lines(*window))]
    assert shown == list(dict.fromkeys(entry for window in windows for entry in lines(*window)))


@pytest.mark.parametrize("limits", [{"seen_entries_max": 3}, {"seen_bytes_max": 350}], ids=str)
def test_memory_is_bounded(limits: dict[str, int]) -> None:
    """Of what came bit by bit only so much is remembered; the oldest entries are forgotten, and counted."""
    deltas = LogDeltas(**limits)
    for number in range(1, 8):
        assert deltas.new(lines(number)) == lines(number)
    assert deltas.seen() == lines(5, 6, 7)
    assert deltas.forgotten == 4


@pytest.mark.parametrize("limits", [{"seen_entries_max": 3}, {"seen_bytes_max": 350}], ids=str)
def test_a_window_larger_than_memory(limits: dict[str, int]) -> None:
    """A window that shows more than is to be remembered is shown once, like any other."""
    deltas = LogDeltas(**limits)
    assert deltas.new(lines(1, 2, 3, 4, 5)) == lines(1, 2, 3, 4, 5)
    assert deltas.new(lines(1, 2, 3, 4, 5)) == ()
    assert deltas.new(lines(1, 2, 3, 4, 5, 6)) == lines(6)
    assert deltas.new(lines(3, 4, 5, 6, 7)) == lines(7)
    assert deltas.forgotten == 2


def test_what_is_forgotten_is_not_new() -> None:
    """A window that shows what increments pushed out of memory repeats nothing."""
    deltas = LogDeltas(seen_entries_max=3)
    for number in range(1, 8):
        deltas.new(lines(number))
    assert deltas.new(lines(1, 2, 3, 4, 5, 6, 7, 8)) == lines(8)


def test_a_stale_window_keeps_the_order() -> None:
    """What was picked is remembered in its order, whatever was shown again since."""
    deltas = LogDeltas()
    for number in (1, 2, 3):
        deltas.new(lines(number))
    deltas.new(lines(1))
    assert deltas.seen() == lines(1, 2, 3)


def test_an_entry_still_in_the_window_is_not_forgotten() -> None:
    """Entries that the window goes on showing are not shown again because newer ones came."""
    deltas = LogDeltas(seen_entries_max=3)
    deltas.new(lines(1, 2))
    deltas.new(lines(1, 2, 3))
    deltas.new(lines(1, 3, 4))
    assert deltas.new(lines(1, 4, 5)) == lines(5)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 12)), max_size=40), st.integers(1, 6)
)
def test_a_moving_window_and_increments(looks: list[tuple[int, bool, int]], entries_max: int) -> None:
    """However little is remembered, a log that grows at its end is shown once and in order."""
    deltas = LogDeltas(seen_entries_max=entries_max)
    shown: list[LogLine] = []
    end = 100  # so that texts sort as numbers do
    for growth, is_window, length in looks:
        start = max(100, end - length) if is_window else end
        end += growth
        shown += deltas.new(lines(*range(start, end)))
    assert tuple(shown) == lines(*range(100, end))


def test_an_odd_timestamp_hides_nothing() -> None:
    """Entries that follow one with an odd timestamp are new, also when that one has been forgotten."""
    deltas = LogDeltas(seen_entries_max=3)
    deltas.new((LogLine(timestamp="n/a", message="odd"),))
    for number in range(10, 20):
        assert deltas.new(lines(number)) == lines(number)

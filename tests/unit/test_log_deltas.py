"""Which log entries are new (fal-http-api.md §7.3, §7.5)."""

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


def test_memory_is_bounded() -> None:
    """At most so many entries are remembered; the oldest are forgotten."""
    deltas = LogDeltas(seen_entries_max=3)
    deltas.new(lines(1, 2, 3, 4))
    assert deltas.new(lines(4, 1)) == lines(1)


def test_an_entry_still_in_the_window_is_not_forgotten() -> None:
    """Entries that the window goes on showing are not shown again because newer ones came."""
    deltas = LogDeltas(seen_entries_max=3)
    deltas.new(lines(1, 2))
    deltas.new(lines(1, 2, 3))
    deltas.new(lines(1, 3, 4))
    assert deltas.new(lines(1, 4, 5)) == lines(5)

"""When a host that only fails is left alone, and when it is tried again."""

from falrpc_server.fal_http.breaker import Breaker

FAILURES, PAUSE = 3, 5.0


def opened(at: float = 0.0) -> Breaker:
    breaker = Breaker(FAILURES, PAUSE)
    for _ in range(FAILURES):
        assert breaker.enter(at) == 0.0
        breaker.failed(at)
    return breaker


def test_failures_in_a_row_open_it() -> None:
    """It opens at the last of them, not before, and says how long to wait."""
    breaker = Breaker(FAILURES, PAUSE)
    for _ in range(FAILURES - 1):
        breaker.failed(0.0)
    assert not breaker.is_open
    breaker.failed(0.0)
    assert breaker.is_open
    assert breaker.enter(1.0) == PAUSE - 1.0


def test_one_success_starts_the_count_anew() -> None:
    """A host that answers now and then is never left alone."""
    breaker = Breaker(FAILURES, PAUSE)
    for _ in range(10):
        for _ in range(FAILURES - 1):
            breaker.failed(0.0)
        breaker.succeeded()
    assert not breaker.is_open
    assert breaker.enter(0.0) == 0.0


def test_one_probe_in_each_pause() -> None:
    """After the pause one request goes; the next one waits for another pause, however the probe fares."""
    breaker = opened()
    assert breaker.enter(PAUSE) == 0.0
    assert breaker.enter(PAUSE) == PAUSE
    breaker.failed(PAUSE + 1.0)
    assert breaker.enter(PAUSE + 2.0) == PAUSE - 2.0
    assert breaker.enter(2 * PAUSE) == 0.0
    assert breaker.is_open


def test_a_probe_that_succeeds_closes_it() -> None:
    """After one success everything goes again, and the count begins at nothing."""
    breaker = opened()
    assert breaker.enter(PAUSE) == 0.0
    breaker.succeeded()
    assert not breaker.is_open
    assert [breaker.enter(PAUSE) for _ in range(5)] == [0.0] * 5
    breaker.failed(PAUSE)
    assert not breaker.is_open


def test_stragglers_do_not_prolong_it() -> None:
    """Requests that went before it opened and fail later leave the next probe where it is."""
    breaker = opened(at=0.0)
    breaker.failed(4.0)
    assert breaker.enter(PAUSE) == 0.0

"""When a host that only fails is left alone, and when it is tried again."""

from dataclasses import dataclass

from falrpc_server.fal_http.breaker import Breaker

FAILURES, PAUSE = 3, 5.0


@dataclass(eq=False)
class Request:
    """A request on its way."""

    connected: bool = False


def opened(at: float = 0.0) -> Breaker:
    breaker = Breaker(FAILURES, PAUSE)
    for _ in range(FAILURES):
        request = Request()
        assert breaker.enter(at, request) == 0.0
        breaker.failed(at, request)
    return breaker


def test_failures_in_a_row_open_it() -> None:
    """It opens at the last of them, not before, and says how long to wait."""
    breaker = Breaker(FAILURES, PAUSE)
    for _ in range(FAILURES - 1):
        breaker.failed(0.0, Request())
    assert not breaker.is_open
    breaker.failed(0.0, Request())
    assert breaker.is_open
    assert breaker.enter(1.0, Request()) == PAUSE - 1.0


def test_one_success_starts_the_count_anew() -> None:
    """A host that answers now and then is never left alone."""
    breaker = Breaker(FAILURES, PAUSE)
    for _ in range(10):
        for _ in range(FAILURES - 1):
            breaker.failed(0.0, Request())
        breaker.succeeded()
    assert not breaker.is_open
    assert breaker.enter(0.0, Request()) == 0.0


def test_one_probe_in_each_pause() -> None:
    """After the pause one request goes; the next one waits for another pause, however the probe fares."""
    breaker, probe = opened(), Request()
    assert breaker.enter(PAUSE, probe) == 0.0
    assert breaker.enter(PAUSE, Request()) == PAUSE
    breaker.failed(PAUSE + 1.0, probe)
    assert breaker.enter(PAUSE + 2.0, Request()) == PAUSE - 2.0
    assert breaker.enter(2 * PAUSE, Request()) == 0.0
    assert breaker.is_open


def test_a_probe_that_succeeds_closes_it() -> None:
    """After one success everything goes again, and the count begins at nothing."""
    breaker = opened()
    assert breaker.enter(PAUSE, Request()) == 0.0
    breaker.succeeded()
    assert not breaker.is_open
    assert [breaker.enter(PAUSE, Request()) for _ in range(5)] == [0.0] * 5
    breaker.failed(PAUSE, Request())
    assert not breaker.is_open


def test_a_probe_that_takes_long() -> None:
    """A probe that is connected and has not failed for a pause closes it; one that hangs earlier does not."""
    breaker, probe, another = opened(), Request(), Request()
    breaker.enter(PAUSE, probe)
    assert breaker.enter(2 * PAUSE, another) == 0.0
    assert breaker.is_open
    another.connected = True
    assert [breaker.enter(3 * PAUSE, Request()) for _ in range(5)] == [0.0] * 5
    assert not breaker.is_open


def test_a_probe_whose_caller_leaves() -> None:
    """It tells nothing: the next one is as good as the first."""
    breaker, probe = opened(), Request(connected=True)
    breaker.enter(PAUSE, probe)
    breaker.gave_up(probe)
    assert breaker.enter(2 * PAUSE, Request()) == 0.0
    assert breaker.is_open


def test_stragglers_do_not_prolong_it() -> None:
    """Requests that went before it opened and fail later leave the next probe where it is."""
    breaker = opened(at=0.0)
    breaker.failed(4.0, Request())
    assert breaker.enter(PAUSE, Request()) == 0.0

"""How many resends the traffic allows."""

import random

import pytest

from falrpc_server.fal_http.retry import WINDOW_SECONDS, Budget, Policy


def taken(budget: Budget, now: float, tries: int = 10_000) -> int:
    return sum(budget.take(now) for _ in range(tries))


@pytest.mark.parametrize(
    ("share", "reserve", "first_attempts", "allowed"),
    [(0.1, 10, 0, 10), (0.1, 10, 1_000, 110), (0.1, 0, 5, 0), (0.0, 0, 1_000, 0), (1.0, 0, 7, 7)],
)
def test_the_share_of_traffic(share: float, reserve: int, first_attempts: int, allowed: int) -> None:
    """Resends are a share of the first attempts, and a reserve."""
    budget = Budget(Policy(share=share, reserve=reserve))
    for _ in range(first_attempts):
        budget.sent(100.0)
    assert taken(budget, 100.0) == allowed


def test_what_is_long_ago_does_not_count() -> None:
    """Both what was sent and what was taken is forgotten after the window."""
    budget = Budget(Policy(share=0.5, reserve=1))
    for _ in range(10):
        budget.sent(0.0)
    assert taken(budget, WINDOW_SECONDS - 0.01) == 6
    assert taken(budget, 2.0 * WINDOW_SECONDS) == 1


def test_any_window() -> None:
    """Whatever the traffic, no ten seconds on end have more resends than their share and the reserve."""
    policy = Policy(share=0.1, reserve=10)
    generator = random.Random(5)
    budget, now = Budget(policy), 0.0
    sent: list[float] = []
    resent: list[float] = []
    for _ in range(5_000):
        now += generator.expovariate(generator.choice([1.0, 50.0]))
        if generator.random() < 0.5:
            budget.sent(now)
            sent.append(now)
        elif budget.take(now):
            resent.append(now)
    assert len(resent) > 100
    for end in resent:
        start = int(end) - WINDOW_SECONDS + 1
        recent = sum(start <= moment <= end for moment in resent)
        assert recent <= policy.reserve + policy.share * sum(start <= moment <= end for moment in sent)

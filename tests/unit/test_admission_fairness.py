"""How tenants share the places: a simulation with a clock of its own."""

import heapq
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from tests.unit.door import Door

from falrpc_server.access.admission import Methods
from falrpc_server.access.rules import Tenant

LIMIT = 400
SEED = 7


@dataclass
class Traffic:
    """A tenant's calls: so many a second, at random times, from a time to another."""

    tenant: Tenant
    per_second: float
    begins_at: float = 0.0
    ends_at: float = 20.0
    came: list[float] = field(default_factory=list)
    served: list[float] = field(default_factory=list)

    def served_share(self, after: float = 5.0) -> float:
        """The share of the calls that were served, once things had settled."""
        came = len([at for at in self.came if after <= at])
        return len([at for at in self.served if after <= at]) / came

    def served_per_second(self, after: float = 5.0) -> float:
        return len([at for at in self.served if after <= at]) / (self.ends_at - after)


@dataclass
class Outcome:
    taken_max: int
    taken_mean: float


def play(traffics: Sequence[Traffic], limit: int = LIMIT, seconds: float = 1.0) -> Outcome:
    """All calls come, whatever becomes of them; each that enters takes about so long."""
    door, dice = Door(limit), random.Random(SEED)
    events = [
        (traffic.begins_at + dice.expovariate(traffic.per_second), number, "comes")
        for number, traffic in enumerate(traffics)
    ]
    heapq.heapify(events)
    taken = []
    while events:
        at, number, what = heapq.heappop(events)
        traffic = traffics[number]
        door.now = 1_000.0 + at
        if what == "goes":
            door.leave(traffic.tenant)
            continue
        if at >= traffic.ends_at:
            continue
        traffic.came.append(at)
        if door.enter(traffic.tenant) is None:
            traffic.served.append(at)
            heapq.heappush(events, (at + seconds * dice.uniform(0.8, 1.2), number, "goes"))
        heapq.heappush(events, (at + dice.expovariate(traffic.per_second), number, "comes"))
        if at > 5.0:
            taken.append(door.admission.in_flight(Methods.CALLS))
    assert door.admission.in_flight(Methods.CALLS) == 0
    return Outcome(max(taken, default=0), sum(taken) / max(1, len(taken)))


def test_one_tenant_has_the_whole_house() -> None:
    """A single tenant can use every place, and never one more."""
    alone = Traffic(Tenant("alone"), 4 * LIMIT)
    outcome = play([alone])
    assert outcome.taken_max == LIMIT
    assert outcome.taken_mean >= 0.99 * LIMIT
    assert alone.served_per_second() >= 0.97 * LIMIT


@pytest.mark.parametrize("modest_share", [0.1, 0.5, 0.9])
def test_one_greedy_tenant(modest_share: float) -> None:
    """A tenant that calls at ten times its share takes at most a tenth of what another had without it."""
    share = LIMIT / 2
    alone = Traffic(Tenant("modest"), modest_share * share)
    play([alone])
    beside, greedy = Traffic(Tenant("modest"), modest_share * share), Traffic(Tenant("greedy"), 10 * share)
    outcome = play([beside, greedy])
    assert beside.served_share() >= 0.9 * alone.served_share()
    assert outcome.taken_max <= 1.1 * LIMIT
    unused = LIMIT - beside.served_per_second()  # is the greedy one's
    assert greedy.served_per_second() >= 0.85 * unused


def test_a_greedy_tenant_and_nine_others() -> None:
    """The same with ten tenants, the others at eight tenths of their shares."""
    others = [Traffic(Tenant(str(number)), 0.8 * LIMIT / 10) for number in range(9)]
    greedy = Traffic(Tenant("greedy"), 10 * LIMIT / 10)
    outcome = play([*others, greedy])
    assert min(other.served_share() for other in others) >= 0.9
    assert outcome.taken_mean >= 0.85 * LIMIT


def test_weights() -> None:
    """Two tenants that both ask for too much get places by their weights, 1 to 3."""
    light, heavy = Traffic(Tenant("light"), 4 * LIMIT), Traffic(Tenant("heavy", weight=3.0), 4 * LIMIT)
    outcome = play([light, heavy])
    assert heavy.served_per_second() / light.served_per_second() == pytest.approx(3.0, rel=0.05)
    assert light.served_per_second() + heavy.served_per_second() >= 0.95 * LIMIT
    assert outcome.taken_max <= 1.1 * LIMIT


def test_a_newcomer_in_a_full_house() -> None:
    """A tenant that comes when another holds all places is served at once, and has its share soon."""
    greedy = Traffic(Tenant("greedy"), 10 * LIMIT)
    newcomer = Traffic(Tenant("new"), 0.4 * LIMIT, begins_at=10.0)
    outcome = play([greedy, newcomer])
    assert newcomer.served_share(after=10.0) >= 0.95
    assert outcome.taken_max <= 1.1 * LIMIT


def test_a_newcomer_among_calls_that_never_end() -> None:
    """Where nobody leaves, a newcomer still gets the overflow, a tenth of the limit."""
    door = Door(100)
    assert door.enters(200, Tenant("greedy")) == 100
    assert door.enters(50, Tenant("new")) == 10
    refusal = door.enter(Tenant("new"))
    assert refusal
    assert refusal.reason == "SERVER_BUSY"  # it has not had its share
    assert door.reason(Tenant("greedy")) == "TENANT_BUSY"


def test_what_is_not_used_is_given_to_others() -> None:
    """A tenant that calls now and then does not halve what another may use."""
    rare, busy = Traffic(Tenant("rare"), 0.5), Traffic(Tenant("busy"), 2 * LIMIT)
    play([rare, busy])
    assert busy.served_per_second() >= 0.95 * LIMIT
    assert rare.served_share() >= 0.9


def test_many_rare_tenants() -> None:
    """A thousand tenants that call now and then leave room for a busy one, and find it themselves.

    Their shares are one place each: what a tenant asks for while its last call goes on is above its share.
    """
    rare = [Traffic(Tenant(str(number)), 0.1) for number in range(1_000)]
    busy = Traffic(Tenant("busy"), 2 * LIMIT)
    play([*rare, busy])
    assert sum(len(one.served) for one in rare) >= 0.9 * sum(len(one.came) for one in rare)
    assert busy.served_per_second() >= 0.8 * (LIMIT - 100)


def test_bursts_of_a_modest_tenant() -> None:
    """A tenant whose calls come a hundred at once finds places for them, beside one that wants all."""
    door, bursty, greedy = Door(LIMIT), Tenant("bursty"), Tenant("greedy")
    entered = []
    for tick in range(200):  # a tenth of a second each; a call of either takes one second
        door.now = 1_000.0 + tick / 10
        burst = door.enters(100, bursty) if tick % 20 == 0 else 0
        entered.append((burst, door.enters(400, greedy)))
        if tick >= 9:
            for tenant, count in zip((bursty, greedy), entered[tick - 9], strict=True):
                for _ in range(count):
                    door.leave(tenant)
    assert [burst for burst, _ in entered if burst][1:] == [100] * 9


def test_a_tenant_that_has_left() -> None:
    """Ten seconds after the last call of others the house is one tenant's again."""
    door, gone, busy = Door(100), Tenant("gone"), Tenant("busy")
    assert door.enters(50, gone) == 50
    for _ in range(50):
        door.leave(gone)
    door.now += 9.0
    assert door.enters(100, busy) == 50
    door.now += 2.5
    assert door.enters(100, busy) == 50
    assert door.reason(busy) == "SERVER_BUSY"


def test_an_old_peak() -> None:
    """What a tenant had at once is kept free for it for some seconds, and not for ever."""
    door, calmer, busy = Door(100), Tenant("calmer"), Tenant("busy")
    assert door.enters(40, calmer) == 40
    for _ in range(39):
        door.leave(calmer)
    assert door.enters(100, busy) == 60
    for _ in range(3):
        door.now += 5.0
        door.enter(busy)
    assert door.enters(100, busy) >= 36  # the calmer one has one call all the time
    assert door.reason(calmer) == ""


def test_a_tenant_whose_calls_go_on() -> None:
    """A tenant with long calls takes part as long as they last."""
    door, long, busy = Door(100), Tenant("long"), Tenant("busy")
    assert door.enters(60, long) == 60
    door.now += 60.0
    assert door.enters(100, busy) == 50  # its share, ten of it beyond the limit
    assert door.reason(busy) == "TENANT_BUSY"


def test_a_decision_costs_the_same_with_many_tenants() -> None:
    """With two thousand tenants a refusal takes no more than a few times as long as with one."""
    few, many = seconds_of_refusals(1), seconds_of_refusals(2_000)
    print(f"a refusal takes {few * 1e6:.1f} us, with 2,000 tenants {many * 1e6:.1f} us")
    assert many <= 5 * few


def seconds_of_refusals(tenants: int) -> float:
    """What a refusal costs, at best, in a full house."""
    door = Door(100)
    names = [Tenant(str(number)) for number in range(tenants)]
    door.enters(100, names[0])
    for name in names:
        door.enter(name)
    costs = []
    for _ in range(20):
        began = time.perf_counter()
        for name in (names * 100)[:100]:
            door.enter(name)
        costs.append((time.perf_counter() - began) / 100)
    return min(costs)

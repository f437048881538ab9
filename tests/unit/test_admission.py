"""Which calls may begin: limits, rates, memory, deadlines."""

import pytest
from tests.unit.door import Door

from falrpc_server.access.admission import TENANTS_MAX, Methods
from falrpc_server.access.refusals import Kind
from falrpc_server.access.rules import Tenant

SETTINGS = {
    Methods.CALLS: "calls_in_flight_max",
    Methods.STREAMS: "streams_in_flight_max",
    Methods.UPLOADS: "uploads_in_flight_max",
}


@pytest.mark.parametrize("methods", Methods)
def test_the_limit_of_a_class(methods: Methods) -> None:
    """n - 1 calls enter, and one more; the next is refused until one leaves."""
    door = Door(**{SETTINGS[methods]: 5})
    assert door.enters(4, methods=methods) == 4
    assert door.reason(methods=methods) == ""
    assert door.reason(methods=methods) == "SERVER_BUSY"
    assert door.admission.in_flight(methods) == 5
    door.leave(methods=methods)
    assert door.reason(methods=methods) == ""
    assert door.reason(methods=methods) == "SERVER_BUSY"


def test_classes_are_apart() -> None:
    """A full class refuses nobody of another."""
    door = Door(2)
    for methods in Methods:
        assert door.enters(5, methods=methods) == 2


def test_a_refusal_says_what_it_is() -> None:
    """It is an overload with a sentence, a time, a limit, and figures for the log only."""
    door = Door(1)
    door.enter()
    refusal = door.enter()
    assert refusal
    assert (refusal.kind, refusal.subject) == (Kind.OVERLOADED, "server:calls_in_flight_max")
    assert refusal.text == "this server has as many calls in flight as it may have; nothing was sent"
    assert refusal.cause == "1 in flight of 1, of this tenant 1"
    assert refusal.retry_seconds == 1.0


@pytest.mark.parametrize("methods", Methods)
def test_a_tenants_own_limit(methods: Methods) -> None:
    """A tenant with n places of its own gets n, while others enter."""
    door, narrow = Door(10), Tenant("narrow", **{SETTINGS[methods]: 3})
    assert door.enters(2, narrow, methods=methods) == 2
    assert door.reason(narrow, methods=methods) == ""
    refusal = door.enter(narrow, methods=methods)
    assert refusal
    assert (refusal.reason, refusal.subject) == ("TENANT_BUSY", f"tenant:{SETTINGS[methods]}")
    assert door.reason(Tenant("other"), methods=methods) == ""
    door.leave(narrow, methods)
    assert door.reason(narrow, methods=methods) == ""


def test_the_rate() -> None:
    """After the burst, a call may begin whenever a token is there; the refusal says when."""
    door, slow = Door(100), Tenant("one", calls_per_second=2.0, burst=3)
    assert door.enters(5, slow) == 3
    refusal = door.enter(slow)
    assert refusal
    assert (refusal.reason, refusal.subject) == ("TENANT_RATE", "tenant:calls_per_second")
    assert refusal.retry_seconds == 0.5 + 0.5 * 0.5  # the next token, and half of the spread
    door.now += 0.49
    assert door.reason(slow) == "TENANT_RATE"
    door.now += 0.01
    assert door.enters(2, slow) == 1
    door.now += 60.0
    assert door.enters(5, slow) == 3


def test_the_rate_without_a_burst() -> None:
    """Without a burst as many calls may come at once as in a second."""
    assert Door(100).enters(50, Tenant("one", calls_per_second=7.5)) == 8
    assert Door(100).enters(50, Tenant("one", calls_per_second=0.1)) == 1


def test_a_rate_holds_for_all_methods() -> None:
    """The rate counts calls of every class."""
    door, slow = Door(100), Tenant("one", calls_per_second=1.0, burst=3)
    assert [door.reason(slow, methods=methods) for methods in Methods] == ["", "", ""]
    assert door.reason(slow) == "TENANT_RATE"


def test_a_refused_call_takes_no_token() -> None:
    """What is refused for another reason does not count against the rate."""
    door, slow = Door(1), Tenant("one", calls_per_second=0.001, burst=2)
    assert door.reason(slow) == ""
    assert [door.reason(slow) for _ in range(10)] == ["SERVER_BUSY"] * 10
    door.leave(slow)
    assert door.reason(slow) == ""
    door.leave(slow)
    assert door.reason(slow) == "TENANT_RATE"


def test_another_policy() -> None:
    """Another limit holds from the next call on, and gives no tokens for free."""
    door = Door(100)
    assert door.enters(10, Tenant("one", calls_per_second=1.0, burst=5)) == 5
    assert door.reason(Tenant("one", calls_per_second=1.0, burst=50)) == "TENANT_RATE"
    assert door.reason(Tenant("one", calls_in_flight_max=5)) == "TENANT_BUSY"
    assert door.reason(Tenant("one")) == ""


def test_little_memory() -> None:
    """Above the watermark calls are refused, below it they enter; memory is looked at every 250 ms."""
    door = Door(100, memory_bytes_max=1_000)
    door.memory_bytes = 1_000
    assert door.enters(50) == 50
    assert door.looks == 1
    door.memory_bytes = 1_001
    door.now += 0.24
    assert door.reason() == ""
    door.now += 0.01
    assert door.reason() == "MEMORY_SHORT"
    assert door.reason(methods=Methods.UPLOADS) == "MEMORY_SHORT"
    door.memory_bytes = 999
    door.now += 0.25
    assert door.reason() == ""
    assert door.looks == 3


def test_memory_that_nobody_uses() -> None:
    """With nothing in flight a call enters all the same: else what is held for good would refuse for good."""
    door = Door(100, memory_bytes_max=1_000)
    door.memory_bytes = 2_000
    assert [door.reason(), door.reason()] == ["", "MEMORY_SHORT"]
    door.leave()
    assert door.reason() == ""


def test_no_limit_of_memory() -> None:
    """Without a limit nobody looks."""
    door = Door()
    door.memory_bytes = 2**60
    assert (door.reason(), door.looks) == ("", 0)


def test_too_little_time() -> None:
    """In a class that is more than half full, a call is refused that nearly surely would not end in time."""
    door = Door(10)
    door.passes(100, seconds=2.0)
    assert door.enters(5, left_seconds=1.9) == 5  # half full
    assert door.reason(left_seconds=1.9) == ""  # not more than half full when it comes
    assert door.reason(left_seconds=1.9) == "DEADLINE_TOO_SHORT"
    assert door.reason(left_seconds=2.0) == ""
    assert door.reason() == ""
    assert door.reason(method="Status", left_seconds=0.1) == ""


def test_a_few_fast_calls() -> None:
    """One in ten that is faster is reason enough to try; one in a hundred is not."""
    for share, reason in ((10, ""), (100, "DEADLINE_TOO_SHORT")):
        door = Door(10)
        for number in range(128):
            door.passes(1, seconds=0.5 if number % share == 0 else 2.0)
        door.enters(6)
        assert door.reason(left_seconds=1.0) == reason


def test_failures_and_streams_say_nothing() -> None:
    """Calls that failed are not counted, and a stream is of use before it ends."""
    door = Door(10)
    door.passes(100, seconds=2.0, succeeded=False)
    door.enters(6)
    assert door.reason(left_seconds=0.1) == ""
    door.passes(100, seconds=2.0, method="Stream")
    door.enters(6, methods=Methods.STREAMS)
    assert door.reason(methods=Methods.STREAMS, method="Stream", left_seconds=0.1) == ""


def test_old_durations() -> None:
    """What calls took half a minute ago refuses nobody."""
    door = Door(10)
    door.passes(100, seconds=2.0)
    door.enters(6)
    door.now += 30.0
    assert door.reason(left_seconds=1.0) == "DEADLINE_TOO_SHORT"
    door.now += 0.1
    assert door.reason(left_seconds=1.0) == ""


def test_tenants_are_not_remembered_for_ever() -> None:
    """However many names come, only so many are remembered, and none that has calls in flight is forgotten."""
    door, first = Door(10), Tenant("first")
    assert door.reason(first) == ""
    for number in range(3 * TENANTS_MAX):
        tenant = Tenant(str(number))
        door.now += 0.001
        assert door.reason(tenant) == ""
        door.leave(tenant)
    assert door.admission.tenants <= TENANTS_MAX
    door.leave(first)
    assert door.admission.in_flight(Methods.CALLS) == 0


def test_more_busy_tenants_than_are_remembered() -> None:
    """Tenants with calls in flight are all remembered; with their calls they can be forgotten."""
    door = Door(2 * TENANTS_MAX)
    tenants = [Tenant(str(number)) for number in range(TENANTS_MAX + 100)]
    assert [door.reason(tenant) for tenant in tenants] == [""] * len(tenants)
    for tenant in tenants:
        door.leave(tenant)
    assert door.admission.in_flight(Methods.CALLS) == 0


def test_a_spent_burst_is_remembered_longer() -> None:
    """Other names do not make a tenant's burst new: one without a rate is forgotten rather."""
    door, slow = Door(10), Tenant("slow", calls_per_second=0.001, burst=1)
    assert door.reason(slow) == ""
    door.leave(slow)
    for number in range(TENANTS_MAX + 2):
        door.reason(Tenant(str(number)))
        door.leave(Tenant(str(number))) if door.admission.in_flight(Methods.CALLS) else None
    assert door.reason(slow) == "TENANT_RATE"

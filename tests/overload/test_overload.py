"""More calls than the server can serve: a generator keeps its schedule whatever becomes of its calls.

Gateway, emulator and generator share the machine: with two cores they have little to spare at four times the
load, so a bound on time is met by the best of a few rounds.
"""

import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.emulator.running import Emulator, running_emulator
from tests.overload.load import Calls, Load, Traffic, generated
from tests.processes.files import allow_open_files
from tests.processes.gateway import Gateway, served

pytestmark = [pytest.mark.alone, pytest.mark.usefixtures("generator"), pytest.mark.timeout(180)]

ROUNDS = 3
LIMIT = 400
FULL = float(LIMIT)  # calls a second that fill the limit, at one second each
PHASE_SECONDS = 3.0
SETTLING_SECONDS = 1.2
# At four times the load one processor is nearly used up here: a served call costs it 1.3 ms, a refused one 0.2.
# So these are what holds on a machine that others use, too; on a quiet one it is far less (seen with -s).
GOODPUT_SHARE_MIN = 0.85  # of the peak; aimed at is 0.95
ACCEPTED_TIMES_MAX = 1.75  # what calls take without load; 1.5
REFUSAL_SECONDS_MAX = 0.5  # 0.02
HEALTH_SECONDS_MAX = 0.2  # 0.1
BURST = 5_000
AFTER_SECONDS = 5.0


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """An emulator that other tests' requests do not slow."""
    allow_open_files(3 * BURST)
    with running_emulator() as (emulator, _):
        yield emulator


@pytest.fixture
def gateway(emulator: Emulator) -> Iterator[Gateway]:
    """A gateway that serves LIMIT calls at once."""
    with served(emulator.url, calls_in_flight_max=str(LIMIT)) as gateway:
        yield gateway


def steady(name: str, per_second: float, begin: float, seconds: float, **rest: str) -> Traffic:
    """So many calls a second for some seconds."""
    return Traffic(name, int(per_second * seconds), per_second, begin, **rest)  # type: ignore[arg-type]


async def test_a_limit_that_binds(gateway: Gateway) -> None:
    """At two and four times what fills the limit nearly as many calls are served as at best, hardly slower;
    the others are refused at once; and health is told all the time."""
    await generated(gateway.address, steady("first", 100, 0, 1))
    alone = await generated(gateway.address, steady("alone", 40, 0, 2))
    unloaded = alone.traffics["alone"].ok.seconds(0.99)
    for _ in range(ROUNDS):
        begins = [PHASE_SECONDS * number for number in range(3)]
        load = await generated(
            gateway.address,
            *(
                steady(f"{times}x", times * FULL, begin, PHASE_SECONDS)
                for times, begin in zip((1, 2, 4), begins, strict=True)
            ),
        )
        phases = [Phase(load, begin) for begin in begins]
        print(f"unloaded p99 {unloaded:.3f} s; ", *phases, sep="\n")  # seen with -s
        for traffic in load.traffics.values():
            assert {call.code for call in traffic.all} <= {"OK", "RESOURCE_EXHAUSTED"}, traffic.codes
            assert {call.reason for call in traffic.refused.all} <= {"SERVER_BUSY"}
        problems = [*found(phases, unloaded)]
        if not problems:
            break
    assert not problems


class Phase:
    """What came of the calls while so many came."""

    def __init__(self, load: Load, begin: float) -> None:
        self.calls = Calls([call for traffic in load.traffics.values() for call in traffic.all])
        settled, end = begin + SETTLING_SECONDS, begin + PHASE_SECONDS
        due = self.calls.due(settled, end)
        self.offered = len(due) / (end - settled)
        self.goodput = len(self.calls.ok.ended(settled, end)) / (end - settled)
        self.accepted, self.refused = due.ok, due.refused
        self.health = load.health.due(settled, end)
        self.late = sorted(call.late_seconds for call in due.all)[int(0.99 * len(due))]

    def __str__(self) -> str:
        return (
            f"offered {self.offered:.0f}/s: served {self.goodput:.0f}/s, p99 {self.accepted.seconds(0.99):.3f} s; "
            f"{len(self.refused)} refused, p50 {1e3 * self.refused.seconds(0.5):.1f} ms, "
            f"p99 {1e3 * self.refused.seconds(0.99):.1f} ms; "
            f"health p99 {1e3 * self.health.seconds(0.99):.1f} ms; generator late by {1e3 * self.late:.1f} ms"
        )


def found(phases: list[Phase], unloaded: float) -> Iterator[str]:
    """What is not as it should be."""
    peak = max(phase.goodput for phase in phases)
    for phase in phases[1:]:
        if phase.goodput < GOODPUT_SHARE_MIN * peak:
            yield f"served {phase.goodput:.0f}/s of {peak:.0f}/s"
        if (seconds := phase.accepted.seconds(0.99)) > ACCEPTED_TIMES_MAX * unloaded:
            yield f"served calls took {seconds:.3f} s, {unloaded:.3f} s without load"
        if (seconds := phase.refused.seconds(0.99)) > REFUSAL_SECONDS_MAX:
            yield f"refusals took {seconds:.3f} s"
        if (seconds := phase.health.seconds(0.99)) > HEALTH_SECONDS_MAX:
            yield f"Health.Check took {seconds:.3f} s"
        if any(call.code != "OK" for call in phase.health.all):
            yield f"Health.Check: {phase.health.codes}"


async def test_more_than_the_processor_can_do(gateway: Gateway) -> None:
    """With an upstream that answers at once the processor is the limit: calls are served or refused, none is
    cancelled, and five seconds later all is as before."""
    echo = {"endpoint": "emulator/echo", "input": "{}"}
    await generated(gateway.address, steady("first", 100, 0, 1, **echo))
    before = (await generated(gateway.address, steady("before", 50, 0, 1, **echo))).traffics["before"]
    for _ in range(ROUNDS):
        seconds = 2.0
        load = await generated(
            gateway.address,
            steady("much", 2_500, 0, seconds, **echo),
            steady("after", 50, seconds + AFTER_SECONDS, 1, **echo),
        )
        much, after = load.traffics["much"], load.traffics["after"]
        print(
            f"{dict(much.codes)}: served {len(much.ok) / max(call.ended_at for call in much.all):.0f}/s, "
            f"p99 {much.ok.seconds(0.99):.3f} s; p99 before {before.seconds(0.99) * 1e3:.1f} ms, "
            f"after {after.seconds(0.99) * 1e3:.1f} ms; health p99 {load.health.seconds(0.99) * 1e3:.1f} ms"
        )
        assert {call.code for call in much.all} <= {"OK", "RESOURCE_EXHAUSTED"}, much.codes
        assert {call.code for call in after.all} == {"OK"}, after.codes
        assert {call.code for call in load.health.all} == {"OK"}, load.health.codes
        if after.seconds(0.5) <= 2 * before.seconds(0.5):
            break
    assert after.seconds(0.5) <= 2 * before.seconds(0.5)


async def test_a_burst(gateway: Gateway) -> None:
    """Of 5,000 calls at once as many are served as may be, and all others are refused as they should be."""
    load = await generated(gateway.address, Traffic("burst", BURST), connections=10)
    burst = load.traffics["burst"]
    print(f"{dict(burst.codes)}; the last one ended after {max(call.ended_at for call in burst.all):.2f} s")
    assert {call.code for call in burst.all} <= {"OK", "RESOURCE_EXHAUSTED"}, burst.codes
    assert len(burst) == BURST
    assert len(burst.ok) >= LIMIT
    assert {call.reason for call in burst.refused.all} == {"SERVER_BUSY"}
    waits = [call.retry_seconds for call in burst.refused.all]
    assert all(wait is not None and 0.4 < wait < 1.6 for wait in waits)
    assert len(set(waits)) > 100  # they do not come back together


SHARED = 100
"""Places for two tenants. Not more: what is asked for above their shares must not be more than the processor
can refuse, which is another test's affair."""
TOKENS = {name: f"{name}-token-4d1f8a6c2b907e35" for name in ("modest", "greedy")}


@pytest.fixture
async def shared(emulator: Emulator, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway with two tenants of equal weight."""
    tokens, policy, keys = tmp_path / "tokens.toml", tmp_path / "policy.toml", tmp_path / "keys"
    tokens.write_text(
        "\n".join(
            f'[[tokens]]\nidentity = "{name}"\nsha256 = "{hashlib.sha256(token.encode()).hexdigest()}"'
            for name, token in TOKENS.items()
        )
    )
    policy.write_text(
        "\n".join(
            f'[tenants.{name}]\n[[rules]]\nidentities = ["{name}"]\ntenant = "{name}"\nrpcs = ["Run"]\n'
            'endpoints = ["*"]'
            for name in TOKENS
        )
    )
    keys.write_text("an-ownership-key-of-more-than-thirty-two-characters\n")
    with served(
        emulator.url,
        calls_in_flight_max=str(SHARED),
        auth="tokens",
        tokens_file=str(tokens),
        policy_file=str(policy),
        ownership_keys_file=str(keys),
    ) as gateway:
        yield gateway


async def test_a_greedy_tenant(shared: Gateway) -> None:
    """A tenant that calls at ten times its share lowers what another has by a tenth at the most."""
    share = SHARED / 2
    modest = steady("modest", 0.9 * share, 0, 4, token=TOKENS["modest"])
    greedy = steady("greedy", 10 * share, 0, 4, token=TOKENS["greedy"])
    await generated(shared.address, steady("first", 100, 0, 1, token=TOKENS["modest"]))
    alone = (await generated(shared.address, modest)).traffics["modest"]
    for _ in range(ROUNDS):
        load = await generated(shared.address, modest, greedy)
        beside = load.traffics["modest"]
        print(f"alone {dict(alone.codes)}; beside {dict(beside.codes)}")
        print(f"the greedy one: {dict(load.traffics['greedy'].codes)}")
        if served_per_second(beside) >= 0.9 * served_per_second(alone):
            break
    assert served_per_second(beside) >= 0.9 * served_per_second(alone)


def served_per_second(calls: Calls) -> float:
    """How many calls were served in a second, once the first ones had ended."""
    return len(calls.ok.ended(1.2, 4.0)) / 2.8

"""Every fault between the gateway and fal, under every method: what fal received, and what the caller is told.

Faults are in faults.py, methods in calls.py, and how each call must end under each fault in expected.py.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.conftest import Fal, Running, running_gateway
from tests.faults.broken_servers import Relay, forget_hosts, full_listener, relaying, untrusted_tls
from tests.faults.calls import RPCS, Rpc, prepared
from tests.faults.expected import EXPECTED, End, end_of
from tests.faults.faults import FAULTS, Fault
from tests.faults.history import History, Told

from falrpc import v1

ATTEMPTS_MAX = 3
WATCH = {"poll_first_seconds": 0.05, "poll_seconds_max": 0.1, "poll_patience_seconds": 0.01}
CLOSING_SECONDS_MAX = 20

CASES = [(fault, rpc) for fault in FAULTS for rpc in RPCS if end_of(fault.name, rpc)]


@dataclass
class Upstream:
    """What stands in fal's place."""

    url: str
    relay: Relay | None = None

    @property
    def swallowed(self) -> list[dict[str, Any]]:
        """What was received and never reached the emulator."""
        return self.relay.swallowed if self.relay else []


@contextlib.asynccontextmanager
async def upstream_of(
    fault: Fault, fal: Fal, unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Upstream]:
    """Puts in fal's place what the fault needs there."""
    match fault.upstream:
        case "emulator":
            yield Upstream(fal.url)
        case "no such host":
            forget_hosts(monkeypatch)
            yield Upstream("https://fal.invalid")
        case "refused":
            yield Upstream(f"http://127.0.0.1:{unused_port}")
        case "full":
            with full_listener() as url:
                yield Upstream(url)
        case "untrusted TLS":
            async with untrusted_tls() as url:
                yield Upstream(url)
        case "swallows the second" | "closes when idle" as kind:
            async with relaying(fal.url, closes_idle=kind == "closes when idle") as relay:
                yield Upstream(relay.url, relay)
        case other:
            raise AssertionError(other)


def put_in_place(fal: Fal, fault: Fault, rpc: Rpc) -> None:
    """Tells the emulator what to spoil: the method's first operation, or all when it calls several."""
    if fault.act:
        operation = rpc.operations[0] if len(rpc.operations) == 1 else ""
        fal.will(fault.act, operation=operation, times=fault.times, **fault.fields)


async def warmed_up(history: History, gateway: Running, relay: Relay) -> None:
    """Leaves one idle connection in the gateway's pool, closed if the relay closes it."""
    await history.call(gateway.stub, "Run", RPCS[0].make(v1.RequestHandle()))
    async with asyncio.timeout(CLOSING_SECONDS_MAX):
        while relay.closes_idle and not relay.idle_closed:
            await asyncio.sleep(0.001)


@dataclass
class Seen:
    """A call under a fault, and what fal received of it."""

    told: Told
    evidence: list[dict[str, Any]] = field(default_factory=list)

    def ended_as(self, end: End) -> None:
        """Compares with what is expected."""
        told = self.told
        assert told.code == end.code, told
        if end.reason is not None:
            assert told.reason == end.reason, told
        if end.delivery is not None:
            assert told.delivery == end.delivery, told
        if end.has_retry_info is not None and told.has_error_info:
            assert told.has_retry_info == end.has_retry_info, told

    @property
    def posts(self) -> int:
        """How many paid POSTs fal received: those of this call, or cut before their body told whose."""
        ours = {self.told.body_sha256, ""}
        return sum(one["method"] == "POST" and one["body_sha256"] in ours for one in self.evidence)

    def exchanges(self, operation: str) -> int:
        """How many requests of an operation fal received."""
        return sum(one["operation"] == operation for one in self.evidence)


@pytest.mark.parametrize(("fault", "rpc"), CASES, ids=lambda one: one.name.replace(" ", "_"))
async def test_a_fault(
    fault: Fault, rpc: Rpc, fal: Fal, unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call ends as the table says, in time, and fal received its paid POST as often as it says."""
    row, end, history = EXPECTED[fault.name], end_of(fault.name, rpc), History()
    assert end is not None
    request = await prepared(rpc, fal.url)
    fal.reset()
    async with upstream_of(fault, fal, unused_port, monkeypatch) as upstream:
        settings = {"emulator_url": upstream.url, "breaker_failures": 1_000, **WATCH, **fault.settings}
        async with running_gateway(**settings) as faulted:
            if upstream.relay:
                await warmed_up(history, faulted, upstream.relay)
            put_in_place(fal, fault, rpc)
            told = await history.call(faulted.stub, rpc.method, request, fault.timeout_seconds)
            await history.finished(faulted.logged)
            seen = Seen(told, [*await fal.seen(), *upstream.swallowed])
            history.check(faulted.logged(), seen.evidence)
    seen.ended_as(end)
    assert row.seconds_min <= told.seconds <= row.seconds_max
    if rpc.is_paid:
        assert seen.posts == end.posts
    elif not rpc.follows:
        assert seen.exchanges(rpc.operations[0]) <= ATTEMPTS_MAX
    attempts = faulted.logged("call.finished")[-1]["attempts"]
    if end.attempts and not rpc.follows:
        assert attempts == end.attempts
    if end.code != "UNAVAILABLE" and rpc.method in ("Status", "Cancel"):  # all of them reached fal
        assert attempts == seen.exchanges(rpc.operations[0])
    if upstream.relay:
        assert upstream.relay.after_close == b""


def test_the_table_is_complete() -> None:
    """Every fault has its row and every row its fault; the eight methods are all there."""
    assert [fault.name for fault in FAULTS] == list(EXPECTED)
    assert {rpc.method for rpc in RPCS} >= {
        *("Run", "Submit", "Status", "Result", "Cancel", "Stream", "StreamWorkflow", "Subscribe")
    }
    assert {name for row in EXPECTED.values() for name in row.but} <= {rpc.name for rpc in RPCS}


@pytest.mark.parametrize(
    ("act", "fields"),
    [
        pytest.param("reset_after_body", {}, id="reset"),
        pytest.param("close_after_body", {}, id="closed"),
        pytest.param("edge_page", {"status": 503}, id="edge page"),
        pytest.param("cut_body", {"after_bytes": 3}, id="truncated"),
        pytest.param("fail", {"kind": "concurrent_requests_limit"}, id="429"),
        pytest.param("fail", {"kind": "runner_disconnected"}, id="503"),
    ],
)
async def test_subscribe_that_is_cut_after_accepted(
    emulator_url: str, fal: Fal, act: str, fields: dict[str, Any]
) -> None:
    """It ends UNKNOWN with the handle, nothing is cancelled, and who attaches to the handle has the result."""
    history = History()
    for operation in ("status_stream", "status", "result"):
        fal.will(act, operation=operation, times=None, **fields)
    async with running_gateway(emulator_url=emulator_url, breaker_failures=1_000, **WATCH) as gateway:
        [subscribe] = [rpc for rpc in RPCS if rpc.name == "Subscribe"]
        request = await prepared(subscribe, fal.url)
        told = await history.call(gateway.stub, "Subscribe", request, 20.0)
        assert (told.code, told.reason, told.delivery) == ("UNKNOWN", "OUTCOME_UNKNOWN", "ACCEPTED")
        handle = told.messages[0].accepted
        assert told.request_ids == {handle.request_id}
        assert handle.request_id in told.status_text
        evidence = await fal.seen()
        fal.reset()
        attached = await history.call(gateway.stub, "Subscribe", v1.SubscribeRequest(attach=handle), 20.0)
        assert attached.messages[-1].WhichOneof("kind") == "result"
        evidence += await fal.seen()
        assert [one for one in evidence if one["operation"] == "cancel"] == []
        await history.finished(gateway.logged)
        history.check(gateway.logged(), evidence)

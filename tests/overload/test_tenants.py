"""What callers of a tenant see when it has what its policy allows."""

from pathlib import Path

from google.rpc import error_details_pb2
from tests.conftest import Fal
from tests.failures import Failure, failure_of
from tests.overload.test_limits import LONG, occupied
from tests.security.guarded import Files, guarded_gateway
from tests.service.test_run import run
from tests.service.test_stream_calls import stream

POLICY = """
[tenants.one]
{limits}
[tenants.other]
[[rules]]
identities = ["one"]
tenant = "one"
rpcs = ["Run", "Stream"]
endpoints = ["emulator/echo", "emulator/sleep", "emulator/ticks"]
[[rules]]
identities = ["other"]
tenant = "other"
rpcs = ["Run", "Stream"]
endpoints = ["emulator/echo", "emulator/sleep", "emulator/ticks"]
"""
TOKENS = {"one": "token-of-the-tenant-one", "other": "token-of-the-other-tenant"}
SLEEP_SECONDS = 0.5
KNOWN = 32  # calls whose durations are known, before a deadline is held against them


def settings(tmp_path: Path, limits: str) -> dict[str, object]:
    """Settings of a gateway with two tenants."""
    files = Files(tmp_path)
    return {
        "auth": ("tokens",),
        "tokens_file": files.tokens(TOKENS),
        "policy_file": files.policy(POLICY.format(limits=limits)),
        "ownership_keys_file": files.ownership_keys(),
    }


def of(tenant: str) -> list[tuple[str, str]]:
    """The metadata of a tenant's calls."""
    return [("authorization", f"Bearer {TOKENS[tenant]}")]


def told(failed: Failure) -> tuple[str, str, str]:
    """Code, reason and the limit that is reached."""
    quota = failed.find(error_details_pb2.QuotaFailure)
    assert quota
    assert failed.delivery == "NOT_SENT"
    assert failed.find(error_details_pb2.RetryInfo)
    return failed.code, failed.info.reason, quota.violations[0].subject


async def test_calls_in_flight(emulator_url: str, fal: Fal, tmp_path: Path) -> None:
    """A tenant's last place is served, one more is refused, and other classes and tenants are not touched."""
    limits = "calls_in_flight_max = 2\nstreams_in_flight_max = 1"
    async with guarded_gateway(emulator_url, **settings(tmp_path, limits)) as gateway:
        stub = gateway.stub
        calls = [stub.Run(run("emulator/sleep", LONG), metadata=of("one")) for _ in range(2)]
        await occupied(fal, calls, 2)
        failed = await failure_of(stub.Run(run("emulator/echo"), metadata=of("one")))
        assert told(failed) == ("RESOURCE_EXHAUSTED", "TENANT_BUSY", "tenant:calls_in_flight_max")
        await stub.Run(run("emulator/echo"), metadata=of("other"))
        ticking = stub.Stream(stream("emulator/ticks", '{"events":1000,"seconds":1}'), metadata=of("one"))
        await ticking.read()
        failed = await failure_of(stub.Stream(stream("emulator/ticks", "{}"), metadata=of("one")).read())
        assert told(failed) == ("RESOURCE_EXHAUSTED", "TENANT_BUSY", "tenant:streams_in_flight_max")
        for call in (*calls, ticking):
            call.cancel()


async def test_a_rate(emulator_url: str, fal: Fal, tmp_path: Path) -> None:
    """A tenant's burst is served, one call more is told when the next one is due, and others are served."""
    limits = "calls_per_second = 0.02\nburst = 3"
    async with guarded_gateway(emulator_url, **settings(tmp_path, limits)) as gateway:
        for _ in range(3):
            await gateway.stub.Run(run("emulator/echo"), metadata=of("one"))
        failed = await failure_of(gateway.stub.Run(run("emulator/echo"), metadata=of("one")))
        assert told(failed) == ("RESOURCE_EXHAUSTED", "TENANT_RATE", "tenant:calls_per_second")
        retry = failed.find(error_details_pb2.RetryInfo)
        assert retry
        assert 20 < retry.retry_delay.ToSeconds() <= 51
        await gateway.stub.Run(run("emulator/echo"), metadata=of("other"))
        assert len(fal.received()) == 4


async def test_a_deadline_that_is_too_short(emulator_url: str, fal: Fal, tmp_path: Path) -> None:
    """While the server is more than half full, a call that could not end in time is refused at once."""
    asked = run("emulator/sleep", f'{{"seconds":{SLEEP_SECONDS}}}')
    values = settings(tmp_path, "") | {"calls_in_flight_max": KNOWN + 2}
    async with guarded_gateway(emulator_url, **values) as gateway:
        stub = gateway.stub
        for call in [stub.Run(asked, metadata=of("one")) for _ in range(KNOWN)]:
            await call
        long = [stub.Run(run("emulator/sleep", LONG), metadata=of("one")) for _ in range(KNOWN // 2 + 2)]
        await occupied(fal, long, len(long))
        failed = await failure_of(stub.Run(asked, metadata=of("one"), timeout=SLEEP_SECONDS / 2))
        assert (failed.code, failed.info.reason) == ("RESOURCE_EXHAUSTED", "DEADLINE_TOO_SHORT")
        await stub.Run(asked, metadata=of("one"), timeout=60)
        for call in long:
            call.cancel()

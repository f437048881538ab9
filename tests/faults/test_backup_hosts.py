"""The backup hosts stand in when no connection can be made, and only then."""

from typing import Any

import pytest
from tests.conftest import KEY, Fal, running_gateway
from tests.failures import failure_of
from tests.faults.broken_servers import forget_hosts
from tests.service.raw_server import answering
from tests.service.test_leaving import logged
from tests.service.test_queue_calls import collected, request, submitted
from tests.service.test_run import run
from tests.service.test_stream_calls import replayed, stream

from falrpc import v1
from falrpc_server.config import Settings


def urls(primary: str, backup: str) -> dict[str, Any]:
    return {
        "fal_run_url": f"{primary}/run",
        "fal_run_backup_url": backup and f"{backup}/run",
        "fal_queue_url": f"{primary}/queue",
        "fal_queue_backup_url": backup and f"{backup}/queue",
    }


async def test_every_call(unused_port: int, emulator_url: str, fal: Fal) -> None:
    """With both first hosts gone all calls go through the backups, each request once, and the log says so."""
    async with running_gateway(**urls(f"http://127.0.0.1:{unused_port}", emulator_url)) as gateway:
        stub = gateway.stub
        assert (await stub.Run(run("emulator/echo", '{"a":1}'))).output.json == '{"a":1}'
        assert len(await collected(stub.Stream(stream("emulator/events", '{"events":[1]}')))) == 2
        assert len(await collected(stub.StreamWorkflow(replayed('{"type":"output","output":{}}')))) == 2
        handle = await submitted(gateway, "emulator/cancellable")
        await stub.Status(v1.StatusRequest(handle=handle))
        await stub.Cancel(v1.CancelRequest(handle=handle))
        asked = v1.SubscribeRequest(submit=request("emulator/echo", '{"b":1}'))
        messages = await collected(stub.Subscribe(asked))
        assert messages[-1].result.output.json == '{"b":1}'
        paid = [record for record in fal.received() if record["operation"] in ("run", "stream", "submit")]
        assert len(paid) == 5
        noticed = gateway.logged("fal.noticed")
        assert {line["value"] for line in noticed if line["what"] == "backup_host"} == {emulator_url}


async def test_only_before_the_first_byte(emulator_url: str, fal: Fal) -> None:
    """A request whose bytes may have reached the first host never goes to the backup."""
    async with answering(b"") as url, running_gateway(**urls(url, emulator_url)) as gateway:
        failed = await failure_of(gateway.stub.Run(run("emulator/echo")))
        assert (failed.code, failed.info.reason, failed.delivery) == ("UNKNOWN", "OUTCOME_UNKNOWN", "UNKNOWN")
        assert fal.received() == []


async def test_an_answer_is_an_answer(emulator_url: str, fal: Fal) -> None:
    """An error answer of the first host, fal's or its edge's, does not lead to the backup."""
    answer = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n"
    async with answering(answer) as url, running_gateway(**urls(url, emulator_url)) as gateway:
        failed = await failure_of(gateway.stub.Run(run("emulator/echo")))
        assert failed.code == "UNKNOWN"
        assert fal.received() == []


async def test_neither_can_be_reached(unused_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With both hosts gone it is the first one's failure that counts."""
    forget_hosts(monkeypatch)
    gone = f"http://127.0.0.1:{unused_port}"
    limits = {"resends_max": 0}
    async with running_gateway(**urls("https://no-such-host.invalid", gone), **limits) as gateway:
        failed = await failure_of(gateway.stub.Run(run("emulator/echo")))
        assert (failed.code, failed.info.reason, failed.delivery) == (
            "UNAVAILABLE",
            "UPSTREAM_UNREACHABLE",
            "NOT_SENT",
        )
        [line] = gateway.logged("fal.failed")
        assert "DNS" in line["cause"]


async def test_a_suspended_host_has_its_backup(unused_port: int, emulator_url: str, fal: Fal) -> None:
    """While the first host is suspended the backup is used without a try at the first one."""
    limits = {"breaker_failures": 2, "breaker_seconds": 60}
    settings = urls(f"http://127.0.0.1:{unused_port}", emulator_url)
    async with running_gateway(**settings, **limits) as gateway:
        for _ in range(5):
            await gateway.stub.Run(run("emulator/echo"))
        attempts = [line["attempts"] for line in gateway.logged("call.finished")]
        assert attempts == [2, 2, 1, 1, 1]


def test_fals_backups_are_fals_own() -> None:
    """The default backups stand in for the default hosts only; others must be named."""
    default = Settings(fal_key=KEY)
    assert (default.run_backup_url, default.queue_backup_url) == (
        "https://falrun.com",
        "https://queue.falrun.com",
    )
    proxied = Settings(
        fal_key=KEY, fal_run_url="https://fal.example.com", fal_queue_url="https://q.example.com"
    )
    assert (proxied.run_backup_url, proxied.queue_backup_url) == ("", "")
    named = Settings(fal_key=KEY, fal_run_url="https://a.example", fal_run_backup_url="https://b.example")
    assert named.run_backup_url == "https://b.example"
    assert Settings(fal_key=KEY, fal_run_backup_url="").run_backup_url == ""


async def test_no_backup(unused_port: int, emulator_url: str, fal: Fal) -> None:
    """Without a backup the call ends with the first host's failure."""
    settings = urls(f"http://127.0.0.1:{unused_port}", "")
    async with running_gateway(**settings, resends_max=1) as gateway:
        failed = await failure_of(gateway.stub.Run(run("emulator/echo")))
        assert failed.info.reason == "UPSTREAM_UNREACHABLE"
        await logged(gateway, "call.finished")
        [line] = await gateway.finished()
        assert line["attempts"] == 2

"""What is held against a host, and when one that was left alone is used again."""

import asyncio
from typing import Any

from tests.conftest import Fal, Running, running_gateway
from tests.failures import failure_of, failure_of_upload
from tests.faults.each_call import LONG
from tests.service.test_queue_calls import request
from tests.service.test_run import WAIT_SECONDS_MAX, run
from tests.service.test_upload_calls import DATA, messages
from tests.unit.test_transport import Connection, serving

from falrpc import v1

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
FAILURES = 3
PAUSE_SECONDS = 0.5
CALLERS = 20
BAD_UPLOADS = 30


async def test_uploads_that_their_senders_spoil(gateway: Running, fal: Fal) -> None:
    """Uploads that are broken off because their bytes are not what was declared do not suspend anybody's."""
    too_large = v1.UploadHeader(file_name="f", size=len(DATA) + 1)
    for _ in range(BAD_UPLOADS):
        failed = await failure_of_upload(gateway.address, messages(too_large), timeout=LONG)
        assert failed.info.reason == "UPLOAD_MISMATCH"
    right = v1.UploadHeader(file_name="f", size=len(DATA))
    assert (await gateway.stub.Upload(messages(right), timeout=LONG)).size == len(DATA)
    assert gateway.logged("fal.noticed") == []


async def test_a_slow_model_on_a_host_that_is_well_again() -> None:
    """Once a probe has had a connection for a pause, all calls go, though no model has answered yet."""
    is_well = False
    answers = asyncio.Event()

    async def behave(connection: Connection) -> None:
        await connection.request()
        if is_well:
            await answers.wait()
            await connection.write(OK)

    limits = {"breaker_failures": FAILURES, "breaker_seconds": PAUSE_SECONDS}
    async with serving(behave) as fal, running_gateway(emulator_url=fal.url, **limits) as gateway:
        await suspended(gateway)
        is_well = True
        await asyncio.sleep(PAUSE_SECONDS)
        before = len(fal.requests)
        probe = asyncio.ensure_future(gateway.stub.Run(run("a/b"), timeout=LONG))
        await requests_were(fal, before + 1)
        await asyncio.sleep(PAUSE_SECONDS)
        calls = [asyncio.ensure_future(gateway.stub.Run(run("a/b"), timeout=LONG)) for _ in range(CALLERS)]
        try:
            await requests_were(fal, before + 1 + CALLERS)
        finally:
            answers.set()
        told = await asyncio.gather(probe, *calls)
        assert {response.output.json for response in told} == {"{}"}
        noticed = [line["what"] for line in gateway.logged("fal.noticed")]
        assert noticed == ["host_suspended", "host_restored"]


async def test_a_silent_host_stays_suspended_for_others(emulator_url: str, fal: Fal) -> None:
    """Until a pause is over a probe that has a connection proves nothing."""
    limits = {"breaker_failures": FAILURES, "breaker_seconds": 3.0, "resends_max": 0}
    async with running_gateway(emulator_url=emulator_url, **limits) as gateway:
        fal.will("edge_page", operation="run", times=FAILURES)
        await suspended(gateway)
        await asyncio.sleep(3.0)
        fal.will("hang", operation="run", times=1)
        probe = gateway.stub.Run(run("emulator/echo"), timeout=LONG)
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while len(await fal.seen(operation="run")) <= FAILURES:
                await asyncio.sleep(0.01)
        failed = await failure_of(gateway.stub.Run(run("emulator/echo"), timeout=LONG))
        assert failed.info.reason == "UPSTREAM_SUSPENDED"
        probe.cancel()


async def test_abandoned_work_of_a_suspended_host(emulator_url: str, fal: Fal) -> None:
    """The request of a Subscribe that is abandoned while its host is suspended is cancelled a pause later."""
    limits = {"breaker_failures": FAILURES, "breaker_seconds": 2.0, "resends_max": 0}
    async with running_gateway(emulator_url=emulator_url, **limits) as gateway:
        asked = v1.SubscribeRequest(submit=request("emulator/cancellable"))
        call = gateway.stub.Subscribe(asked, timeout=LONG)
        first: Any = await call.read()
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while not await fal.seen(operation="status_stream"):
                await asyncio.sleep(0.01)
        fal.will("edge_page", operation="run", times=FAILURES)
        await suspended(gateway)
        call.cancel()
        await gateway.finished(FAILURES + 1)
        failed = await failure_of(gateway.stub.Run(run("emulator/echo"), timeout=LONG))
        assert failed.info.reason == "UPSTREAM_SUSPENDED"  # still, when the cancel was due
        assert fal.received(operation="cancel") == []
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while not gateway.logged("request.cancelled"):
                await asyncio.sleep(0.01)
        [line] = gateway.logged("request.cancelled")
        assert (line["request_id"], line["outcome"]) == (first.accepted.request_id, "CANCELLATION_REQUESTED")
        [cancel] = fal.received(operation="cancel")
        assert cancel["status"] == 202


async def suspended(gateway: Running) -> None:
    """Makes as many calls that fail as it takes."""
    for _ in range(FAILURES):
        failed = await failure_of(gateway.stub.Run(run("emulator/echo"), timeout=LONG))
        assert failed.info.reason == "OUTCOME_UNKNOWN"
    assert gateway.logged("fal.noticed")[-1]["what"] == "host_suspended"


async def requests_were(fal: Any, count: int) -> None:
    """Waits until the server has got that many requests."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while len(fal.requests) < count:
            await asyncio.sleep(0.01)

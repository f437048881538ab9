"""Where handles come from, and how long they are good: all of them are their tenant's, and nobody else's."""

import pytest
from tests.conftest import Fal, Running
from tests.failures import ended
from tests.faults.each_call import failure_of_any
from tests.faults.test_ids_of_cut_submissions import BODY, CANCELLED, HEAD, PAID_ID
from tests.security.each_method import begun, nothing_came
from tests.security.guarded import OWNERSHIP_KEY, Files, guarded_gateway, reloaded
from tests.security.two_tenants import ENDPOINT, NEXT_KEY, as_, handle_of, is_nobodys, is_usable, two_tenants
from tests.service.test_queue_calls import request, submitted
from tests.unit.test_transport import Connection, serving

from falrpc import v1

STATUS = b'{"status":"IN_QUEUE","request_id":"paid-id-1","queue_position":1}'


async def test_the_handle_of_a_subscription(shared: Running, fal: Fal) -> None:
    """The handle that Subscribe tells first is its tenant's, in full, and nobody else's."""
    asked = v1.SubscribeRequest(
        submit=request(ENDPOINT, '{"seconds":20}'), on_abandon=v1.AbandonPolicy.ABANDON_POLICY_DETACH
    )
    call = shared.stub.Subscribe(asked, metadata=as_("a"), timeout=60)
    handle = (await call.read()).accepted
    call.cancel()
    await is_usable(shared, fal, handle, "a", "a-2")
    fal.reset()
    failed = await failure_of_any(begun(shared.stub, "Result", handle=handle, metadata=as_("b")))
    is_nobodys(failed, handle.request_id)
    # Attaching tells the same handle again.
    again = shared.stub.Subscribe(v1.SubscribeRequest(attach=handle), metadata=as_("a"), timeout=60)
    assert (await again.read()).accepted == handle
    again.cancel()


@pytest.mark.parametrize("method", ["Submit", "Subscribe"])
async def test_the_handle_of_a_cut_submission(files: Files, method: str) -> None:
    """Who is told the id of a request whose submission was cut has its whole handle, and nobody else has."""

    async def behave(connection: Connection) -> None:
        sent = await connection.request()
        if sent.startswith(b"POST"):
            await connection.write(HEAD + BODY[:1])
        elif sent.startswith(b"PUT"):
            await connection.write(CANCELLED)
        else:
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            await connection.write(head % len(STATUS) + STATUS)

    async with serving(behave) as fal, guarded_gateway(fal.url, **two_tenants(files)) as gateway:
        failed = await failure_of_any(begun(gateway.stub, method, endpoint="a/b/c", metadata=as_("a")))
        assert (failed.code, failed.info.metadata["request_id"]) == ("UNKNOWN", PAID_ID)
        handle = v1.RequestHandle(
            endpoint_id=failed.info.metadata["endpoint_id"],
            request_id=PAID_ID,
            ownership_token=failed.info.metadata["ownership_token"],
        )
        assert handle.endpoint_id == "a/b/c"
        before = len(fal.requests)
        status, cancel = v1.StatusRequest(handle=handle), v1.CancelRequest(handle=handle)
        for call in (
            gateway.stub.Status(status, metadata=as_("b")),
            gateway.stub.Cancel(cancel, metadata=as_("b")),
        ):
            is_nobodys(await failure_of_any(call), PAID_ID)
        assert len(fal.requests) == before
        assert (await gateway.stub.Status(status, metadata=as_("a"))).status.queue_position == 1
        assert await ended(gateway.stub.Cancel(cancel, metadata=as_("a-2"))) == "OK"
        assert handle.ownership_token not in gateway.log_text


async def test_a_denied_submission_tells_no_handle(shared: Running, fal: Fal) -> None:
    """A refusal has no token: there is no request that it could be of."""
    for method in ("Submit", "Subscribe"):
        call = begun(shared.stub, method, endpoint="../x", metadata=as_("a"))
        assert "ownership_token" not in (await failure_of_any(call)).info.metadata
    nothing_came(fal)


# Keys


async def test_keys_that_change(emulator_url: str, fal: Fal, files: Files) -> None:
    """A new key signs from then on; handles of the old one are good as long as it is in the file."""
    async with guarded_gateway(emulator_url, **two_tenants(files)) as gateway:
        old = await handle_of(gateway)
        files.ownership_keys(NEXT_KEY, OWNERSHIP_KEY)
        await reloaded(gateway)
        new = await handle_of(gateway)
        assert new.ownership_token.split(".")[1] != old.ownership_token.split(".")[1]
        for handle in (old, new):
            await is_usable(gateway, fal, handle, "a")
            fal.reset()
            call = begun(gateway.stub, "Cancel", handle=handle, metadata=as_("b"))
            is_nobodys(await failure_of_any(call), handle.request_id)
            nothing_came(fal)
        files.ownership_keys(NEXT_KEY)
        await reloaded(gateway, count=2)
        fal.reset()
        failed = await failure_of_any(begun(gateway.stub, "Status", handle=old, metadata=as_("a")))
        is_nobodys(failed, old.request_id)
        nothing_came(fal)
        await is_usable(gateway, fal, new, "a")
        for count, bad in enumerate(("", "short", f"{NEXT_KEY}\n{NEXT_KEY}"), start=1):
            files.write("ownership.keys", bad)
            await reloaded(gateway, "reload.refused", count)
            await is_usable(gateway, fal, new, "a")
        assert not any(key in gateway.log_text for key in (OWNERSHIP_KEY, NEXT_KEY))


async def test_without_keys(gateway: Running, fal: Fal) -> None:
    """Without keys handles have no token, and whatever token one has does not matter."""
    handle = await submitted(gateway, ENDPOINT, '{"seconds":20}')
    assert handle.ownership_token == ""
    for token in ("", "1.0.x", "anything"):
        handle.ownership_token = token
        fal.reset()
        assert await ended(gateway.stub.Status(v1.StatusRequest(handle=handle))) == "OK"
        assert len(fal.received(operation="status")) == 1

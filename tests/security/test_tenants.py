"""Queue requests belong to tenants: a handle is worth nothing to anybody else, and tells them nothing."""

import asyncio
import base64
from collections.abc import Callable

import pytest
from tests.conftest import Fal, Running
from tests.faults.each_call import code_of, failure_of_any
from tests.security.each_method import HANDLED, begun, nothing_came
from tests.security.guarded import OWNERSHIP_KEY
from tests.security.two_tenants import (
    ENDPOINT,
    NEXT_KEY,
    as_,
    handle_of,
    is_nobodys,
)

from falrpc import v1
from falrpc_server.access.ownership import Ownership
from falrpc_server.fal_http.models import EndpointId, RequestRef


@pytest.mark.parametrize("method", HANDLED)
async def test_anothers_handle(shared: Running, fal: Fal, method: str) -> None:
    """To another tenant a handle is that of a request that does not exist; to its own callers it is good."""
    handle = await handle_of(shared)
    assert handle.ownership_token
    fal.reset()
    for identity in ("b", "b-2"):
        failed = await failure_of_any(begun(shared.stub, method, handle=handle, metadata=as_(identity)))
        is_nobodys(failed, handle.request_id)
    nothing_came(fal)
    for identity in ("a", "a-2"):
        call = begun(shared.stub, method, handle=handle, metadata=as_(identity))
        if method in ("StreamStatus", "Subscribe, attached"):
            assert await call.read()
            call.cancel()
        else:
            assert await code_of(call) in ("OK", "FAILED_PRECONDITION")
    assert fal.received() != []


def token_of(key: str = OWNERSHIP_KEY, tenant: str = "b", **ref: str) -> Callable[[v1.RequestHandle], str]:
    """What makes a token that is right for something else than the handle."""

    def made(handle: v1.RequestHandle) -> str:
        about = {"endpoint": handle.endpoint_id, "request_id": handle.request_id} | ref
        signed = RequestRef(EndpointId.parse(about["endpoint"]), about["request_id"])
        return Ownership([key]).token(tenant, signed)

    return made


def flipped(handle: v1.RequestHandle) -> str:
    """A token with one bit of its signature changed."""
    version, key_id, signature = handle.ownership_token.split(".")
    raw = bytearray(base64.urlsafe_b64decode(signature + "="))
    raw[0] ^= 1
    return f"{version}.{key_id}.{base64.urlsafe_b64encode(raw).rstrip(b'=').decode()}"


TOKENS: dict[str, Callable[[v1.RequestHandle], str]] = {
    "none": lambda handle: "",
    "a bit of it": lambda handle: handle.ownership_token[:20],
    "without the signature": lambda handle: handle.ownership_token.rpartition(".")[0] + ".",
    "one bit changed": flipped,
    "something behind it": lambda handle: handle.ownership_token + "=",
    "a space before it": lambda handle: " " + handle.ownership_token,
    "another version": lambda handle: "2" + handle.ownership_token[1:],
    "very long": lambda handle: handle.ownership_token + "A" * 100_000,
    "not ASCII": lambda handle: handle.ownership_token[:-1] + "é",
    "the other tenant's": token_of(),
    "of another request": token_of(tenant="a", request_id="another-request"),
    "of another endpoint": token_of(tenant="a", endpoint="emulator/echo"),
    "of another key": token_of(NEXT_KEY, "a"),
    "of a tenant whose name goes on": token_of(tenant="a" + "emulator"),
}


@pytest.mark.parametrize("method", HANDLED)
async def test_forged_tokens(shared: Running, fal: Fal, method: str) -> None:
    """Without exactly the token of its request a handle is nobody's, not even its owner's."""
    handle = await handle_of(shared)
    fal.reset()
    for name, make in TOKENS.items():
        forged = v1.RequestHandle()
        forged.CopyFrom(handle)
        forged.ownership_token = make(handle)
        failed = await failure_of_any(begun(shared.stub, method, handle=forged, metadata=as_("a")))
        assert failed.code in ("NOT_FOUND", "INVALID_ARGUMENT"), name
        if failed.code == "NOT_FOUND":
            is_nobodys(failed, handle.request_id)
    nothing_came(fal)
    assert token_of(tenant="a")(handle) == handle.ownership_token
    assert await code_of(shared.stub.Status(v1.StatusRequest(handle=handle), metadata=as_("a"))) == "OK"


@pytest.mark.parametrize("change", ["request_id", "endpoint_id"])
async def test_a_token_for_something_else(shared: Running, fal: Fal, change: str) -> None:
    """A tenant's good token does not open another request, nor the same id at another endpoint."""
    own, others = await handle_of(shared, "b"), await handle_of(shared, "a")
    fal.reset()
    for method in HANDLED:
        forged = v1.RequestHandle(
            endpoint_id="emulator/cancellable" if change == "endpoint_id" else others.endpoint_id,
            request_id=others.request_id if change == "request_id" else own.request_id,
            ownership_token=own.ownership_token,
        )
        failed = await failure_of_any(begun(shared.stub, method, handle=forged, metadata=as_("b")))
        is_nobodys(failed, forged.request_id)
    nothing_came(fal)


async def test_nobody_cancels_by_leaving(shared: Running, fal: Fal) -> None:
    """Who attaches to another tenant's request, and leaves, cancels nothing; its owner does, who asks for it."""
    handle = await handle_of(shared, endpoint="emulator/stubborn")
    attach = v1.SubscribeRequest(attach=handle, on_abandon=v1.AbandonPolicy.ABANDON_POLICY_CANCEL)
    fal.reset()
    for _ in range(3):
        call = shared.stub.Subscribe(attach, metadata=as_("b"), timeout=30)
        is_nobodys(await failure_of_any(call), handle.request_id)
    left = [shared.stub.Subscribe(attach, metadata=as_("b"), timeout=30) for _ in range(20)]
    for number, call in enumerate(left):
        await asyncio.sleep(0.001 * number)
        call.cancel()
    await shared.finished(3)
    status = v1.StatusRequest(handle=handle)
    assert await code_of(shared.stub.Status(status, metadata=as_("a"))) == "OK"
    assert {record["operation"] for record in fal.received()} == {"status"}
    call = shared.stub.Subscribe(attach, metadata=as_("a"), timeout=30)
    assert (await call.read()).HasField("accepted")
    assert (await call.read()).HasField("status")
    call.cancel()
    async with asyncio.timeout(20):
        while not await fal.seen(operation="cancel"):
            await asyncio.sleep(0.01)
    assert len(shared.logged("request.cancelled")) <= 1


async def test_a_refusal_takes_as_long_as_another(shared: Running, fal: Fal) -> None:
    """From the time that it takes nobody learns whether an id is another tenant's: neither asks fal."""
    handle = await handle_of(shared)
    unknown = v1.RequestHandle(endpoint_id=ENDPOINT, request_id="no-such-request", ownership_token="1.a.b")
    fal.reset()
    loop = asyncio.get_running_loop()
    best: dict[bool, float] = {}
    texts = set()
    for _ in range(40):
        for is_there, asked in ((True, handle), (False, unknown)):
            begin = loop.time()
            failed = await failure_of_any(begun(shared.stub, "Status", handle=asked, metadata=as_("b")))
            best[is_there] = min(best.get(is_there, 1e9), loop.time() - begin)
            texts.add(failed.message)
    assert len(texts) == 1
    assert abs(best[True] - best[False]) < 0.005, best
    nothing_came(fal)

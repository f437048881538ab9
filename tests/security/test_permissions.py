"""What callers may call: methods and endpoints. What is denied never reaches fal."""

from pathlib import Path

import pytest
from tests.conftest import Fal, Running
from tests.failures import ended
from tests.faults.each_call import code_of, failure_of_any
from tests.security.each_method import METHODS, begun, nothing_came, refused
from tests.security.permitting import (
    NAMES,
    STRANGERS,
    as_,
    is_denied,
)
from tests.service.test_queue_calls import request

from falrpc import v1

# Who, and which method


@pytest.mark.parametrize("method", METHODS)
async def test_whom_no_rule_names(guarded: Running, fal: Fal, method: str) -> None:
    """A caller whom no rule names may call nothing, however like another one the name is."""
    for identity in STRANGERS:
        is_denied(await refused(guarded, method, metadata=as_(identity)), "CALLER_NOT_ALLOWED", identity)
    nothing_came(fal)


@pytest.mark.parametrize("method", METHODS)
async def test_methods(guarded: Running, fal: Fal, method: str) -> None:
    """A method is allowed to those whose rule names it; whoever may call all others may not call this one."""
    name = method.partition(",")[0]
    is_denied(await refused(guarded, method, metadata=as_(f"not-{name}")), "RPC_NOT_ALLOWED")
    for other in NAMES:
        if other != name:
            failed = await refused(guarded, method, metadata=as_(f"only-{other}"))
            is_denied(failed, "RPC_NOT_ALLOWED", other)
    nothing_came(fal)
    call = begun(guarded.stub, method, metadata=as_(f"only-{name}"))
    if name in ("Run", "Submit", "Stream", "StreamWorkflow", "Upload") or method == "Subscribe":
        assert await ended(call) == "OK"
        assert fal.received() != []
    else:  # it may be called, for a request of its own: this is nobody's
        failed = await failure_of_any(call)
        assert (failed.code, failed.info.reason) == ("NOT_FOUND", "REQUEST_NOT_FOUND")
        nothing_came(fal)


async def test_which_methods_there_are() -> None:
    """The tests here know every method of the service."""
    service = v1.RunRequest.DESCRIPTOR.file.services_by_name["FalService"]
    assert {method.name for method in service.methods} == set(NAMES)


# Endpoints

ELSEWHERE = (
    "emulator/echo-pro", "emulator/echoes", "emulator/ech", "emulator/events", "emulator/echo2/x",
    "Emulator/echo", "emulator/Echo", "workflows/emulator/echo", "comfy/emulator/echo", "other/emulator/echo",
)  # fmt: skip
UNREADABLE = (
    "emulator/echo/../fail",
    "emulator//echo",
    "emulator/./echo",
    "emulator/echo%2fx",
    "emulator/echo?x",
)


@pytest.mark.parametrize("method", [method for method in METHODS if method != "Upload"])
async def test_endpoints(guarded: Running, fal: Fal, method: str) -> None:
    """Each method asks whether the endpoint is the caller's, compared in whole parts."""
    reason = "ENDPOINT_NOT_ALLOWED"
    is_handled = method in ("Status", "StreamStatus", "Result", "Cancel", "Subscribe, attached")
    for endpoint in ELSEWHERE:
        failed = await refused(guarded, method, metadata=as_("echo"), endpoint=endpoint)
        if is_handled:  # a request that is nobody's comes first: it tells least
            assert (failed.code, failed.info.reason) == ("NOT_FOUND", "REQUEST_NOT_FOUND"), endpoint
        else:
            is_denied(failed, reason, endpoint)
    for endpoint in UNREADABLE:
        failed = await refused(guarded, method, metadata=as_("echo"), endpoint=endpoint)
        assert failed.code == "INVALID_ARGUMENT", endpoint
    if not is_handled:
        is_denied(await refused(guarded, method, metadata=as_("nowhere")), reason)
    nothing_came(fal)
    if not is_handled and not method.startswith("Stream"):
        for endpoint in ("emulator/echo", "emulator/echo/x"):
            await code_of(begun(guarded.stub, method, metadata=as_("echo"), endpoint=endpoint))
        paths = [record["path"] for record in fal.received() if record["method"] == "POST"]
        assert [path.partition("/emulator/")[2] for path in paths] == ["echo", "echo/x"]


@pytest.mark.parametrize("method", ["Status", "StreamStatus", "Result", "Cancel", "Subscribe, attached"])
async def test_endpoints_of_requests(guarded: Running, fal: Fal, method: str) -> None:
    """A handle of the same tenant is worth nothing to a caller who may not use its endpoint."""
    asked = request("emulator/echo")
    handle = (await guarded.stub.Submit(asked, metadata=as_("free"))).handle
    fal.reset()
    is_denied(await refused(guarded, method, metadata=as_("nowhere"), handle=handle), "ENDPOINT_NOT_ALLOWED")
    nothing_came(fal)
    for identity in ("free", "echo"):
        call = begun(guarded.stub, method, metadata=as_(identity), handle=handle)
        if method == "Result":  # it may be that it is not completed
            call = guarded.stub.Result(waited(handle), metadata=as_(identity))
        assert await ended(call) == "OK"
    assert fal.received() != []


def waited(handle: v1.RequestHandle) -> v1.ResultRequest:
    asked = v1.ResultRequest(handle=handle)
    asked.wait.FromSeconds(20)
    return asked


async def test_the_log_says_which_rule(guarded: Running, fal: Fal, tmp_path: Path) -> None:
    """The log has who was denied, and by which rule; a caller is not told."""
    before = len(guarded.logged("call.finished"))
    is_denied(await refused(guarded, "Run", metadata=as_("nowhere")), "ENDPOINT_NOT_ALLOWED")
    line = (await guarded.finished(before + 1))[-1]
    assert (line["identity"], line["tenant"], line["reason"]) == ("nowhere", "shop", "ENDPOINT_NOT_ALLOWED")
    assert "rules[" in line["cause"]
    assert "c4n4ry" not in guarded.log_text
    nothing_came(fal)


async def test_cancelling_by_leaving(guarded: Running, fal: Fal) -> None:
    """Who may not call Cancel can't attach in order to cancel by leaving, either."""
    handle = (await guarded.stub.Submit(request("emulator/echo"), metadata=as_("free"))).handle
    fal.reset()
    asked = v1.SubscribeRequest(attach=handle, on_abandon=v1.AbandonPolicy.ABANDON_POLICY_CANCEL)
    denied = await failure_of_any(guarded.stub.Subscribe(asked, metadata=as_("only-Subscribe")))
    is_denied(denied, "RPC_NOT_ALLOWED")
    nothing_came(fal)


async def test_the_log_names_the_caller(guarded: Running, fal: Fal) -> None:
    """The line of a call that is denied its method names who was denied."""
    await refused(guarded, "Run", metadata=as_("only-Cancel"))
    assert (await guarded.finished())[-1]["identity"] == "only-Cancel"

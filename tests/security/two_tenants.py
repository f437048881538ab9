"""A gateway with two tenants who share a fal key, and what their handles are worth."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.conftest import Fal, Running
from tests.failures import Failure
from tests.faults.each_call import code_of
from tests.security.each_method import HANDLED, begun
from tests.security.guarded import Files, guarded_gateway
from tests.service.test_queue_calls import request

from falrpc import v1

__all__ = [
    "ENDPOINT",
    "NEXT_KEY",
    "as_",
    "handle_of",
    "is_nobodys",
    "is_usable",
    "shared",
    "two_tenants",
]

RULES = "".join(
    f"""
[tenants.{name}]
[[rules]]
identities = ["{name}", "{name}-2"]
tenant = "{name}"
rpcs = ["Submit", "Subscribe", "Status", "StreamStatus", "Result", "Cancel"]
endpoints = ["*"]
"""
    for name in ("a", "b")
)
NEXT_KEY = "c4n4ry-the-next-ownership-key-of-fifty-characters"
ENDPOINT = "emulator/sleep"


def as_(identity: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer c4n4ry-token-of-{identity}")]


def two_tenants(files: Files) -> dict[str, Any]:
    """Settings of a gateway with two tenants, who share the server's key."""
    return {
        "auth": ("tokens",),
        "tokens_file": files.tokens({name: f"c4n4ry-token-of-{name}" for name in ("a", "a-2", "b", "b-2")}),
        "policy_file": files.policy(RULES),
        "ownership_keys_file": files.ownership_keys(),
    }


@pytest.fixture
async def shared(emulator_url: str, fal: Fal, files: Files) -> AsyncIterator[Running]:
    async with guarded_gateway(emulator_url, **two_tenants(files)) as gateway:
        yield gateway


async def handle_of(gateway: Running, identity: str = "a", endpoint: str = ENDPOINT) -> v1.RequestHandle:
    """The handle of a request that takes long."""
    asked = request(endpoint, '{"seconds":20}')
    return (await gateway.stub.Submit(asked, metadata=as_(identity))).handle


def is_nobodys(failed: Failure, request_id: str) -> None:
    """Whether the caller is told what is told of requests that do not exist."""
    assert (failed.code, failed.info.reason, failed.delivery) == (
        "NOT_FOUND",
        "REQUEST_NOT_FOUND",
        "NOT_SENT",
    )
    told = f"{failed.message}{failed.details}".lower()
    assert not any(word in told for word in ("tenant", "owner", "signature", "token"))
    assert failed.info.metadata["request_id"] in ("", request_id)


async def is_usable(gateway: Running, fal: Fal, handle: v1.RequestHandle, *identities: str) -> None:
    """Whether each of the methods takes the handle from these callers, and asks fal."""
    for identity in identities:
        for method in HANDLED:
            fal.reset()
            call = begun(gateway.stub, method, handle=handle, metadata=as_(identity))
            if method in ("StreamStatus", "Subscribe, attached"):
                assert await call.read()
                if method != "StreamStatus":
                    assert (await call.read()).HasField("status")
                call.cancel()
            else:
                assert await code_of(call) in ("OK", "FAILED_PRECONDITION"), method  # not completed yet
            assert fal.received() != [], (identity, method)

"""Certificates, policies, tokens and keys that change while calls are open."""

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.conftest import Fal, Running
from tests.failures import failure_of
from tests.security.guarded import TRUST_DOMAIN, Files, as_caller, guarded_gateway, reloaded

from falrpc import v1

STREAMS = 200
POLICY = """
[tenants.shop]
[[rules]]
identities = ["spiffe://prod.example/shop"]
tenant = "shop"
rpcs = ["Stream", "Run"{more}]
endpoints = ["emulator/ticks"]
"""
ECHO = v1.RunRequest(endpoint_id="emulator/echo")


def shown(address: str, files: Files, caller: tuple[bytes, bytes], directory: Path) -> int:
    """The serial number of the certificate that a new connection is shown."""
    key, chain = directory / "caller.key", directory / "caller.pem"
    key.write_bytes(caller[0])
    chain.write_bytes(caller[1])
    context = ssl.create_default_context(cadata=files.authority.pem.decode())
    context.load_cert_chain(chain, key)
    context.set_alpn_protocols(["h2"])
    host, port = address.rsplit(":", 1)
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        told = connection.getpeercert()
    assert told is not None
    return int(str(told["serialNumber"]), 16)


async def test_under_open_streams(emulator_url: str, fal: Fal, files: Files) -> None:
    """Of 200 open streams none fails while certificate and policy change; new connections see the new ones,
    and neither a bad certificate nor a bad policy replaces them."""
    caller = files.authority.issue(uris=[f"spiffe://{TRUST_DOMAIN}/shop"])
    settings = files.tls(mutual=True)
    settings |= {
        "policy_file": files.policy(POLICY.format(more="")),
        "auth": ("mtls",),
        "trust_domain": TRUST_DOMAIN,
    }
    async with guarded_gateway(emulator_url, **settings) as gateway, contextlib.AsyncExitStack() as stack:

        def serial() -> "asyncio.Future[int]":
            return asyncio.ensure_future(
                asyncio.to_thread(shown, gateway.address, files, caller, files.directory)
            )

        stubs = [await stack.enter_async_context(as_caller(gateway, files, caller)) for _ in range(4)]
        asked = v1.StreamRequest(
            endpoint_id="emulator/ticks", input=v1.Input(json='{"events":40,"seconds":0.25}')
        )
        calls = [stubs[number % len(stubs)].Stream(asked, timeout=120) for number in range(STREAMS)]
        await asyncio.gather(*(call.read() for call in calls))
        reading = [asyncio.create_task(events_of(call)) for call in calls]

        before = await serial()
        failed = await failure_of(stubs[0].Status(v1.StatusRequest(), timeout=30))
        assert (failed.code, failed.info.reason) == ("PERMISSION_DENIED", "RPC_NOT_ALLOWED")
        files.certificate()
        files.policy(POLICY.format(more=', "Status"'))
        await reloaded(gateway, count=2)
        after = await serial()
        assert after != before
        failed = await failure_of(stubs[0].Status(v1.StatusRequest(), timeout=30))
        assert failed.code == "INVALID_ARGUMENT"  # it may be called now

        files.write("server.pem", "no certificate")
        files.policy(POLICY.format(more=', "Delete"'))
        refused = await reloaded(gateway, "reload.refused", count=2)
        assert {line["what"] for line in refused} == {"certificates", "policy"}
        assert [line["refused"] for line in refused] == [1, 1]
        assert all(line["problems"] for line in refused)
        assert await serial() == after
        failed = await failure_of(stubs[0].Status(v1.StatusRequest(), timeout=30))
        assert failed.code == "INVALID_ARGUMENT"
        assert not any(task.done() for task in reading), "the streams ended too soon to prove anything"

        assert await asyncio.gather(*reading) == [40] * STREAMS


async def events_of(call: Any) -> int:
    """How many events a stream has; raises when it fails."""
    found = 0
    while (message := await call.read()) is not grpc.aio.EOF:
        found += message.HasField("event")
    assert (await call.code()).name == "OK"
    return found


async def test_a_token_that_goes(emulator_url: str, fal: Fal, files: Files) -> None:
    """A token that is taken out of the file is refused from then on, and one that is put in counts."""
    path = files.tokens({"old": "token-of-the-old-caller", "both": "token-of-both-times"})
    async with guarded_gateway(emulator_url, auth=("tokens",), tokens_file=path) as gateway:
        assert await codes(gateway, "token-of-the-old-caller", "token-of-both-times") == ["OK", "OK"]
        files.tokens({"new": "token-of-the-new-caller", "both": "token-of-both-times"})
        await reloaded(gateway)
        tokens = ("token-of-the-old-caller", "token-of-both-times", "token-of-the-new-caller")
        assert await codes(gateway, *tokens) == ["UNAUTHENTICATED", "OK", "OK"]
        files.write("tokens.toml", "[[tokens]]\nidentity = 3")
        await reloaded(gateway, "reload.refused")
        assert await codes(gateway, *tokens) == ["UNAUTHENTICATED", "OK", "OK"]


async def codes(gateway: Running, *tokens: str) -> list[str]:
    """How calls with these tokens end."""
    found = []
    for token in tokens:
        call = gateway.stub.Run(ECHO, metadata=[("authorization", f"Bearer {token}")], timeout=30)
        found.append((await call.code()).name)
    return found


async def test_a_file_that_vanishes(emulator_url: str, fal: Fal, files: Files) -> None:
    """A file that is gone is a bad change: what was read stays in force, and what comes back is read."""
    path = files.tokens({"a": "token-of-the-caller-a"})
    async with guarded_gateway(emulator_url, auth=("tokens",), tokens_file=path) as gateway:
        files.remove("tokens.toml")
        [line] = await reloaded(gateway, "reload.refused")
        assert line["problems"] == [f"FALRPC_TOKENS_FILE: {path}: No such file or directory"]
        assert await codes(gateway, "token-of-the-caller-a") == ["OK"]
        files.tokens({"b": "token-of-the-caller-b"})
        await reloaded(gateway)
        assert await codes(gateway, "token-of-the-caller-a", "token-of-the-caller-b") == [
            "UNAUTHENTICATED",
            "OK",
        ]


async def test_a_fal_key_that_changes(
    emulator_url: str, fal: Fal, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new key in the server's key file is used from the next request on, while calls go on, none failing."""
    path = files.write("fal.key", "id:first-secret-of-fal")
    monkeypatch.setenv("FAL_KEY_FILE", path)
    async with guarded_gateway(emulator_url, fal_key="id:first-secret-of-fal") as gateway:
        going = asyncio.create_task(calls_for(gateway, seconds=1.0))
        await gateway.stub.Run(ECHO, timeout=30)
        files.write("fal.key", "id:second-secret-of-fal\n")
        await reloaded(gateway)
        await gateway.stub.Run(ECHO, timeout=30)
        assert await going == {"OK"}
        files.write("fal.key", "no key")
        [line] = await reloaded(gateway, "reload.refused")
        assert line["problems"] == ["FAL_KEY: must be printable ASCII without spaces"]
        assert "no key" not in str(line)
        await gateway.stub.Run(ECHO, timeout=30)


async def calls_for(gateway: Running, seconds: float) -> set[str]:
    """The codes of calls that are made for so long, one after the other."""
    loop = asyncio.get_running_loop()
    end, found = loop.time() + seconds, set()
    while loop.time() < end:
        found.add((await gateway.stub.Run(ECHO, timeout=30).code()).name)
    return found

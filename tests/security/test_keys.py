"""Whose fal key pays: the server's, a tenant's, or the caller's; never another one than was meant."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.conftest import KEY, Fal
from tests.failures import failure_of_upload
from tests.faults.each_call import code_of, failure_of_any
from tests.faults.test_environment import OK, credentials
from tests.security.each_method import METHODS, PAID, begun, nothing_came, refused
from tests.security.guarded import Files, guarded_gateway
from tests.security.raw_calls import raw_call
from tests.service.test_run import run
from tests.service.test_upload_calls import messages
from tests.unit.test_transport import Connection, Server, answer, serving

from falrpc import v1

CALLERS = "caller-id:c4n4ry-secret-of-the-caller"
OTHERS = "other-id:c4n4ry-secret-of-another-caller"
TENANTS = "tenant-id:c4n4ry-secret-of-the-tenant"
POLICY = """
[tenants.shop]
fal_key_from = "file"
fal_key_file = "{path}"
[[rules]]
identities = ["anonymous"]
tenant = "shop"
rpcs = ["Run", "Submit", "Status", "StreamStatus", "Result", "Cancel", "Subscribe", "Stream",
        "StreamWorkflow", "Upload"]
endpoints = ["*"]
"""
MODES = {"server": KEY, "file": TENANTS, "caller": CALLERS}
INVALID = str(grpc.StatusCode.INVALID_ARGUMENT.value[0])
UNAUTHENTICATED = str(grpc.StatusCode.UNAUTHENTICATED.value[0])


@pytest.fixture
async def fals() -> AsyncIterator[Server]:
    """A fal that says {} to everything, and keeps whole requests: the emulator hides keys."""
    async with serving(answer(OK)) as server:
        yield server


def settings(mode: str, tmp_path: Path) -> dict[str, Any]:
    """Settings of a gateway where that key pays. The server has one in each mode: nobody may fall back to it."""
    if mode == "caller":
        return {"fal_key_from": "caller"}
    if mode == "server":
        return {}
    files = Files(tmp_path)
    return {"policy_file": files.policy(POLICY.format(path=files.write("shop.key", TENANTS)))}


def with_key(key: str) -> list[tuple[str, str]]:
    return [("x-fal-key", key)]


def keys_at(fal: Server) -> set[bytes]:
    """The keys that reached fal."""
    return {key.removeprefix(b"Key ") for sent in fal.requests for key in credentials(sent)}


@pytest.mark.parametrize("mode", MODES)
async def test_the_key_that_pays(fals: Server, tmp_path: Path, mode: str) -> None:
    """Every request of every method has the one key that pays in that mode, and no other."""
    metadata = with_key(CALLERS) if mode == "caller" else []
    async with guarded_gateway(fals.url, **settings(mode, tmp_path)) as gateway:
        for method in METHODS:
            fals.connections.clear()
            await code_of(begun(gateway.stub, method, metadata=metadata))
            assert keys_at(fals) == {MODES[mode].encode()}, method


@pytest.mark.parametrize("method", METHODS)
async def test_without_the_callers_key(emulator_url: str, fal: Fal, tmp_path: Path, method: str) -> None:
    """Where callers pay, a call without a good key of its own is refused: the server's never stands in."""
    async with guarded_gateway(emulator_url, **settings("caller", tmp_path)) as gateway:
        for metadata in (
            [],
            with_key(""),
            with_key("two words"),
            with_key("x" * 513),
            [("fal-key", CALLERS)],
            [("authorization", f"Key {CALLERS}")],
            [("x-fal-key-bin", CALLERS.encode())],
        ):
            failed = await refused(gateway, method, metadata=metadata)
            assert (failed.code, failed.info.reason) == ("UNAUTHENTICATED", "FAL_KEY_REQUIRED"), metadata
            assert failed.delivery == "NOT_SENT"
        failed = await refused(gateway, method, metadata=[*with_key(CALLERS), *with_key(OTHERS)])
        assert (failed.code, failed.info.reason) == ("INVALID_ARGUMENT", "METADATA_INVALID")
        nothing_came(fal)
        await code_of(begun(gateway.stub, method, metadata=with_key(CALLERS)))
        assert fal.received() != []
        assert "c4n4ry" not in gateway.log_text


@pytest.mark.parametrize("mode", ["server", "file"])
@pytest.mark.parametrize("method", METHODS)
async def test_a_key_that_is_not_taken(
    emulator_url: str, fal: Fal, tmp_path: Path, method: str, mode: str
) -> None:
    """Where another key pays, a call that brings one is refused: it would spend money that was not meant."""
    async with guarded_gateway(emulator_url, **settings(mode, tmp_path)) as gateway:
        for key in (CALLERS, KEY, TENANTS, "", "two words"):
            failed = await refused(gateway, method, metadata=with_key(key))
            assert (failed.code, failed.info.reason) == ("INVALID_ARGUMENT", "FAL_KEY_NOT_TAKEN"), key
            assert failed.delivery == "NOT_SENT"
        failed = await refused(gateway, method, metadata=[*with_key(CALLERS), *with_key(CALLERS)])
        assert (failed.code, failed.info.reason) == ("INVALID_ARGUMENT", "METADATA_INVALID")
        nothing_came(fal)
        await code_of(begun(gateway.stub, method))
        assert fal.received() != []
        assert "c4n4ry" not in gateway.log_text


CONTROL = [b"a:b\r\nauthorization: Key x:y", b"a:b\0", b"a:b\x1b[2J", b"a:b\x7f", b"a:b\xff", b"a:b\t", b"\n"]


@pytest.mark.parametrize("mode", MODES)
async def test_keys_with_control_bytes(emulator_url: str, fal: Fal, tmp_path: Path, mode: str) -> None:
    """A key with bytes that are not printable is refused in every mode, and neither logged nor told."""
    asked = run("emulator/echo")
    async with guarded_gateway(emulator_url, **settings(mode, tmp_path)) as gateway:
        for value in CONTROL:
            told = await raw_call(gateway.address, "Run", asked, [(b"x-fal-key", b"c4n4ry" + value)])
            # grpc drops what HTTP/2 forbids, or the call; the rest is ours to refuse
            assert told.status != "0", value
            assert told.status in (INVALID, UNAUTHENTICATED) or told.reset is not None, (value, told)
            assert "c4n4ry" not in told.message
        nothing_came(fal)
        good = [(b"x-fal-key", CALLERS.encode())] if mode == "caller" else []
        assert (await raw_call(gateway.address, "Run", asked, good)).status == "0"
        assert len(fal.received()) == 1
        assert "c4n4ry" not in gateway.log_text
        assert "\\u0000" not in gateway.log_text
        assert "\\u001b" not in gateway.log_text


async def test_callers_side_by_side(fals: Server, tmp_path: Path) -> None:
    """Of callers who call at once each pays with its own key."""

    async def behave(connection: Connection) -> None:
        while True:
            await connection.request()
            await asyncio.sleep(0.01)
            await connection.write(OK.replace(b"connection: close\r\n", b""))

    fals.behaviour = behave
    async with guarded_gateway(fals.url, **settings("caller", tmp_path)) as gateway:
        calls = [
            gateway.stub.Run(run("a/b", json.dumps({"of": number % 20})), metadata=with_key(key), timeout=60)
            for number in range(200)
            for key in [f"id-{number % 20}:c4n4ry-secret-{number % 20}"]
        ]
        await asyncio.gather(*calls)
    assert len(fals.requests) == 200
    for sent in fals.requests:
        number = json.loads(sent.partition(b"\r\n\r\n")[2])["of"]
        assert credentials(sent) == [f"Key id-{number}:c4n4ry-secret-{number}".encode()]


async def test_nobody_follows_with_anothers_key(fals: Server, tmp_path: Path) -> None:
    """Callers who follow the same request share nothing: each one's looks go with its own key."""

    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.until_closed()

    fals.behaviour = behave
    handle = v1.RequestHandle(endpoint_id="a/b", request_id="r-1")
    async with guarded_gateway(fals.url, **settings("caller", tmp_path)) as gateway:
        keys = (CALLERS, OTHERS, CALLERS)
        calls = [
            gateway.stub.StreamStatus(
                v1.StreamStatusRequest(handle=handle), metadata=with_key(key), timeout=60
            )
            for key in keys
        ]
        async with asyncio.timeout(20):
            while keys_at(fals) != {CALLERS.encode(), OTHERS.encode()}:
                await asyncio.sleep(0.01)
        assert len(fals.requests) == 2  # the same caller's two share theirs
        for call in calls:
            call.cancel()


async def test_nobody_uploads_with_anothers_token(emulator_url: str, fal: Fal, tmp_path: Path) -> None:
    """A token for fal's CDN is kept for the key that it was given for, and for nobody else's files."""
    others = settings("caller", tmp_path) | {"upload_credential": "cdn-token"}
    async with guarded_gateway(emulator_url, **others) as gateway:
        for key in (CALLERS, OTHERS, CALLERS, OTHERS):
            header = v1.UploadHeader(file_name="a", size=3)
            await gateway.stub.Upload(messages(header, b"abc"), metadata=with_key(key))
        assert len(fal.received(operation="upload_token")) == 2
        assert len(fal.received(operation="cdn_upload")) == 4


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mode", MODES)
async def test_a_key_that_fal_refuses(
    emulator_url: str, fal: Fal, tmp_path: Path, method: str, mode: str
) -> None:
    """fal's 401 is the caller's affair when the key is the caller's, and else ours: it is told whose."""
    metadata = with_key(CALLERS) if mode == "caller" else []
    async with guarded_gateway(emulator_url, **settings(mode, tmp_path)) as gateway:
        # fal repeats the key in its text: the caller must not see the server's
        body = json.dumps({"detail": f"Invalid key {MODES[mode]}"})
        fal.will("answer", status=401, body=body, times=None)
        if method == "Upload":
            sent = messages(v1.UploadHeader(file_name="a", size=3), b"abc")
            failed = await failure_of_upload(gateway.address, sent, metadata=tuple(metadata))
        else:
            failed = await failure_of_any(begun(gateway.stub, method, metadata=metadata))
        expected = {
            "caller": ("UNAUTHENTICATED", "FAL_KEY_REJECTED"),
            "server": ("INTERNAL", "UPSTREAM_CREDENTIALS_REJECTED"),
            "file": ("INTERNAL", "UPSTREAM_CREDENTIALS_REJECTED"),
        }[mode]
        assert (failed.code, failed.info.reason) == expected
        assert MODES[mode].partition(":")[2] not in f"{failed.message}{failed.details}"
        assert len([one for one in fal.received() if one["method"] == "POST"]) == (
            1 if method in (*PAID, "Upload") else 0
        )
        await gateway.finished()
        assert MODES[mode].partition(":")[2] not in gateway.log_text


async def test_nothing_shows_a_key(emulator_url: str, fal: Fal, tmp_path: Path) -> None:
    """Neither settings nor accounts, nor what a gateway holds, have a key in their text form."""
    async with guarded_gateway(emulator_url, **settings("file", tmp_path)) as gateway:
        held = gateway.gateway
        shown = [repr(vars(held)), repr(held._settings), str(held._settings), repr(held._guard.gate.accounts)]
        shown.append(held._settings.model_dump_json(exclude={"emulator_url"}))
        for text in shown:
            assert KEY.partition(":")[2] not in text
            assert "c4n4ry" not in text


@pytest.mark.parametrize("mode", MODES)
async def test_a_key_that_fal_repeats(emulator_url: str, fal: Fal, tmp_path: Path, mode: str) -> None:
    """Whichever key pays, the text of a failure is passed on without it."""
    metadata = with_key(CALLERS) if mode == "caller" else []
    async with guarded_gateway(emulator_url, **settings(mode, tmp_path)) as gateway:
        for shown in (MODES[mode], MODES[mode].partition(":")[2]):
            body = json.dumps({"detail": f"not with {shown} today"})
            fal.will("answer", operation="run", status=403, body=body)
            failed = await failure_of_any(begun(gateway.stub, "Run", metadata=metadata))
            assert "today" in failed.message
            assert MODES[mode].partition(":")[2] not in f"{failed.message}{failed.details}"

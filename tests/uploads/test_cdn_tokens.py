"""Uploads by way of CDN tokens (docs/fal-http-api.md §10.2 to §10.4)."""

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.conftest import Fal, Running, running_gateway
from tests.failures import failure_of_upload
from tests.service.test_leaving import is_idle

from falrpc import v1

MIB = 1024 * 1024
PART_BYTES = 5 * MIB
DATA = hashlib.sha256(b"falrpc").digest() * (12 * MIB // 32) + b"tail"
SETTINGS = {
    "upload_part_bytes": PART_BYTES,
    "upload_single_bytes_max": PART_BYTES,
    "upload_credential": "cdn-token",
}


@pytest.fixture
async def gateway(emulator_url: str, fal: Fal) -> AsyncIterator[Running]:
    async with running_gateway(emulator_url=emulator_url, **SETTINGS) as one:
        yield one


async def messages(
    data: bytes, *, is_declared: bool = True, **header: Any
) -> AsyncIterator[v1.UploadRequest]:
    size = len(data) if is_declared else None
    yield v1.UploadRequest(header=v1.UploadHeader(file_name="film.mp4", size=size, **header))
    for start in range(0, len(data), 300_000):
        yield v1.UploadRequest(chunk=data[start : start + 300_000])


@pytest.mark.parametrize(
    ("length", "is_declared", "parts"),
    [
        pytest.param(100, True, 1, id="small, size declared"),
        pytest.param(100, False, 1, id="small"),
        pytest.param(PART_BYTES, False, 1, id="one part"),
        pytest.param(len(DATA), True, 3, id="large, size declared"),
        pytest.param(len(DATA), False, 3, id="large"),
    ],
)
async def test_a_file(gateway: Running, fal: Fal, length: int, is_declared: bool, parts: int) -> None:
    """The file arrives whole; the key asks for a token and goes nowhere else."""
    data = DATA[:length]
    answer = await gateway.stub.Upload(messages(data, is_declared=is_declared))
    assert (answer.size, answer.sha256) == (length, hashlib.sha256(data).digest())
    assert (answer.content_type, answer.parts, answer.retries) == ("video/mp4", parts, 0)
    schemes = {
        record["operation"]: record["headers"]["authorization"].split(" ")[0] for record in fal.received()
    }
    assert schemes.pop("upload_token") == "Key"
    assert set(schemes.values()) == {"Bearer"}
    downloaded = httpx.get(answer.url, trust_env=False)
    assert downloaded.content == data
    assert downloaded.headers["content-type"] == "video/mp4"


async def test_one_token_for_many_files(gateway: Running, fal: Fal) -> None:
    """A token is asked for once."""
    for _ in range(3):
        await gateway.stub.Upload(messages(b"abc"))
    assert len(fal.received(operation="upload_token")) == 1
    assert len(fal.received(operation="cdn_upload")) == 3


@pytest.mark.parametrize("length", [100, len(DATA)], ids=["whole", "in parts"])
async def test_lifecycle(gateway: Running, fal: Fal, length: int) -> None:
    """How long a file lives goes along."""
    lifecycle = v1.ObjectLifecycle(
        initial_acl=v1.AccessControl(default_decision=v1.AccessDecision.ACCESS_DECISION_FORBID)
    )
    answer = await gateway.stub.Upload(messages(DATA[:length], lifecycle=lifecycle))
    assert httpx.get(answer.url, trust_env=False).status_code == 403


@pytest.mark.parametrize(
    ("length", "refused"),
    [
        pytest.param(100, "cdn_upload", id="a file"),
        pytest.param(len(DATA), "cdn_multipart", id="the start of one in parts"),
        pytest.param(len(DATA), "cdn_part", id="a part"),
        pytest.param(len(DATA), "cdn_complete", id="the completion"),
    ],
)
async def test_a_token_that_is_refused(gateway: Running, fal: Fal, length: int, refused: str) -> None:
    """Bytes that are at hand are sent again with a new token."""
    fal.will("fail", kind="invalid_key", operation=refused, times=1)
    answer = await gateway.stub.Upload(messages(DATA[:length], is_declared=False))
    assert httpx.get(answer.url, trust_env=False).content == DATA[:length]
    assert len(fal.received(operation="upload_token")) == 2


async def test_a_token_that_is_refused_while_bytes_come(gateway: Running, fal: Fal) -> None:
    """Bytes that nobody has any more can't be sent again: ABORTED, and the next upload has a new token."""
    fal.will("fail", kind="invalid_key", operation="cdn_upload", times=1)
    failed = await failure_of_upload(gateway.address, messages(b"abc"))
    assert (failed.code, failed.info.reason) == ("ABORTED", "UPLOAD_URL_REFUSED")
    await gateway.stub.Upload(messages(b"abc"))
    assert len(fal.received(operation="upload_token")) == 2


async def test_tokens_that_are_always_refused(gateway: Running, fal: Fal) -> None:
    """The upload ends ABORTED after the second; nothing is under way any more."""
    fal.will("fail", kind="invalid_key", operation="cdn_part", times=None)
    failed = await failure_of_upload(gateway.address, messages(DATA))
    assert (failed.code, failed.info.reason) == ("ABORTED", "UPLOAD_URL_REFUSED")
    await is_idle(fal)
    assert fal.received(operation="cdn_complete") == []


async def test_no_token(gateway: Running, fal: Fal) -> None:
    """Without a token no bytes are sent; a refused key is the operator's affair."""
    fal.will("fail", kind="invalid_key", operation="upload_token", times=1)
    failed = await failure_of_upload(gateway.address, messages(b"abc"))
    assert (failed.code, failed.info.reason) == ("INTERNAL", "UPSTREAM_CREDENTIALS_REJECTED")
    assert fal.received(operation="cdn_upload") == []


async def test_attachments(gateway: Running, fal: Fal) -> None:
    """Attachments go the same way."""
    request = v1.RunRequest(
        endpoint_id="emulator/echo",
        input=v1.Input(json='{"image_url":"attachment:cat"}'),
        attachments={"cat": v1.Attachment(data=b"meow", file_name="cat.png")},
    )
    await gateway.stub.Run(request)
    assert len(fal.received(operation="cdn_upload")) == 1

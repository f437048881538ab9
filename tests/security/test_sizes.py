"""Limits of what callers and fal may send: one less and the limit itself pass, one more is refused, and a
hundred times as much costs no more than that."""

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from tests.conftest import Fal, Running
from tests.failures import ended, failure_of_upload
from tests.faults.each_call import failure_of_any
from tests.security.each_method import nothing_came
from tests.security.guarded import guarded_gateway
from tests.service.test_queue_calls import request
from tests.service.test_run import run

from falrpc import v1

INPUT_BYTES, MESSAGE_BYTES, OUTPUT_BYTES, FILE_BYTES = 40_000, 50_000, 60_000, 30_000
METADATA_BYTES = 8_192
COUNTED = re.compile("the metadata has ([0-9]+) bytes")


@pytest.fixture(scope="module")
async def limited(emulator_url: str) -> AsyncIterator[Running]:
    """A gateway whose callers pay, with limits that are reached soon."""
    limits = {
        "input_bytes_max": INPUT_BYTES,
        "receive_bytes_max": MESSAGE_BYTES,
        "output_bytes_max": OUTPUT_BYTES,
        "upload_bytes_max": FILE_BYTES,
    }
    async with guarded_gateway(emulator_url, fal_key_from="caller", **limits) as gateway:
        yield gateway


KEY = [("x-fal-key", "id:c4n4ry-secret-of-a-caller")]


def calling(method: str, make: Callable[[int], Any]) -> Callable[[Running, int], Any]:
    """What calls a method with something of a size."""
    return lambda gateway, size: getattr(gateway.stub, method)(make(size), metadata=KEY, timeout=60)


def callers_key(gateway: Running, size: int) -> Any:
    key = [("x-fal-key", "id:" + "x" * (size - 3))]
    return gateway.stub.Run(run("emulator/echo"), metadata=key, timeout=60)


def webhook(size: int) -> v1.SubmitRequest:
    asked = request("emulator/echo")
    beginning = "https://hooks.example.com/"
    asked.queue.webhook_url = beginning + "x" * (size - len(beginning))
    return asked


def tags(count: int) -> v1.RunRequest:
    return run("emulator/echo", options=v1.CallOptions(tags={f"t{n}": "" for n in range(count)}))


def tags_bytes(size: int) -> v1.RunRequest:
    """Tags of that size, each with the two separators that it costs."""
    values = [256, 256, 256]
    left = size - sum(values) - 3 * 4 - 4
    return run(
        "emulator/echo",
        options=v1.CallOptions(tags={f"t{n}": "x" * v for n, v in enumerate([*values, left])}),
    )


def access_rules(count: int) -> v1.RunRequest:
    asked = run("emulator/echo")
    control = asked.options.output_lifecycle.initial_acl
    control.default_decision = v1.AccessDecision.ACCESS_DECISION_FORBID
    for number in range(count):
        control.rules.add(user=f"user-{number}", decision=v1.AccessDecision.ACCESS_DECISION_ALLOW)
    return asked


def message(size: int) -> v1.RunRequest:
    """A message of that size: most of it is an attachment."""
    asked = run("emulator/echo", '{"a":"attachment:a"}', attachments={"a": v1.Attachment(data=b"x" * 20_000)})
    while left := size - asked.ByteSize():  # lengths have lengths of their own
        asked.attachments["a"].data = b"x" * (len(asked.attachments["a"].data) + left)
    return asked


INVALID = ("INVALID_ARGUMENT", "INVALID_REQUEST")


@dataclass(frozen=True)
class Limit:
    """A limit, what makes a call of any size, and what one of a larger size is told."""

    size: int
    call: Callable[[Running, int], Any]
    told: tuple[str, str]
    field: str = ""
    largest: int = 0
    """What is tried beside one more; 0: a hundred times the limit."""


LIMITS = {
    "input, as JSON": Limit(
        INPUT_BYTES,
        calling("Run", lambda size: run("emulator/echo", '{"a":"' + "x" * (size - 8) + '"}')),
        INVALID,
        "input.json",
        INPUT_BYTES + 9_000,
    ),
    "message": Limit(MESSAGE_BYTES, calling("Run", message), ("RESOURCE_EXHAUSTED", "")),
    "output": Limit(
        OUTPUT_BYTES,
        calling("Run", lambda size: run("emulator/blob", f'{{"bytes":{size}}}')),
        ("UNKNOWN", "OUTPUT_TOO_LARGE"),
    ),
    "fal key": Limit(512, callers_key, ("UNAUTHENTICATED", "FAL_KEY_REQUIRED"), "", 7_000),
    "endpoint id": Limit(
        512,
        calling("Run", lambda size: run(("emulator/echo/" + "x" * 100 + "/" + "y" * 100 + "/" + "z" * 128 + "/" + "w" * 128 + "/" + "v" * size)[:size])),
        INVALID,
        "endpoint_id",
        40_000,
    ),
    "part of an endpoint id": Limit(
        128, calling("Run", lambda size: run("emulator/" + "x" * size)), INVALID, "endpoint_id"
    ),
    "request id": Limit(
        64,
        calling(
            "Status",
            lambda size: v1.StatusRequest(handle=v1.RequestHandle(endpoint_id="a/b", request_id="x" * size)),
        ),
        INVALID,
        "handle.request_id",
    ),
    "runner hint": Limit(
        256,
        calling("Run", lambda size: run("emulator/echo", options=v1.CallOptions(runner_hint="x" * size))),
        INVALID,
        "options.runner_hint",
    ),
    "tags": Limit(10, calling("Run", tags), INVALID, "options.tags"),
    "bytes of tags": Limit(1_024, calling("Run", tags_bytes), INVALID, "options.tags", 1_030),
    "value of a tag": Limit(
        256,
        calling("Run", lambda size: run("emulator/echo", options=v1.CallOptions(tags={"t": "x" * size}))),
        INVALID,
        "options.tags['t']",
        512,
    ),
    "name of a tag": Limit(
        64,
        calling("Run", lambda size: run("emulator/echo", options=v1.CallOptions(tags={"t" * size: ""}))),
        INVALID,
        "options.tags['",
        512,
    ),
    "access rules": Limit(
        100, calling("Run", access_rules), INVALID, "options.output_lifecycle.initial_acl.rules", 500
    ),
    "webhook URL": Limit(2_048, calling("Submit", webhook), INVALID, "queue.webhook_url", 30_000),
    "name of an attachment": Limit(
        64,
        calling(
            "Run",
            lambda size: run(
                "emulator/echo",
                f'{{"a":"attachment:{"x" * size}"}}',
                attachments={"x" * size: v1.Attachment(data=b"abc")},
            ),
        ),
        INVALID,
        "attachments['",
        100,
    ),
}  # fmt: skip
PASSING = ("OK", "NOT_FOUND")  # what passes may be about something that is not there


@pytest.mark.parametrize("name", LIMITS)
async def test_limits(limited: Running, fal: Fal, name: str) -> None:
    """One less and the limit pass; one more, and much more, are refused before anything is sent."""
    limit = LIMITS[name]
    for size in (limit.size + 1, limit.largest or 100 * limit.size):
        failed = await failure_of_any(limit.call(limited, size))
        assert failed.code == limit.told[0], (size, failed)
        if limit.told[1]:
            assert failed.info.reason == limit.told[1], size
        else:
            assert failed.details == []  # grpc refuses it by itself
        if limit.field:
            assert all(field.startswith(limit.field) for field in failed.fields), failed.fields
            assert failed.fields
    if name == "output":  # which fal has made by then
        assert len(fal.received()) == 2
    else:
        nothing_came(fal)
    fal.reset()
    for size in (limit.size - 1, limit.size):
        call = limit.call(limited, size)
        try:
            assert await ended(call) == "OK"
        except Exception:
            assert (await call.code()).name in PASSING, size
    sent = fal.received()
    assert len([record for record in sent if not record["operation"].startswith("upload_")]) == 2


async def test_metadata(limited: Running, fal: Fal) -> None:
    """Metadata of 8 KiB pass, counted as HTTP/2 does, what grpc adds among them."""

    async def told(filler: int) -> tuple[str, str]:
        """The end of a call: its code, and our reason."""
        entries = [*KEY, ("x-filler", "x" * filler)]
        call = limited.stub.Run(run("emulator/echo"), metadata=entries, timeout=60)
        if (await call.code()).name == "OK":
            return "OK", ""
        failed = await failure_of_any(call)
        return failed.code, failed.info.reason + failed.message if failed.details else ""

    code, text = await told(METADATA_BYTES)
    counted = COUNTED.search(text)
    assert counted, (code, text)
    largest = 2 * METADATA_BYTES - int(counted[1])
    for filler in (largest + 1, largest + 100, largest + 4_000):
        code, text = await told(filler)
        assert (code, text.startswith("METADATA_INVALID")) == ("INVALID_ARGUMENT", True), (filler, text)
    assert await told(100 * METADATA_BYTES) == ("RESOURCE_EXHAUSTED", "")  # grpc's own
    nothing_came(fal)
    for filler in (largest - 1, largest):
        assert await told(filler) == ("OK", "")


@pytest.mark.parametrize("is_declared", [True, False], ids=["declared", "not declared"])
async def test_files(limited: Running, fal: Fal, is_declared: bool) -> None:
    """A file's limit, and its name's."""

    def header(size: int, name: int = 1) -> v1.UploadHeader:
        return v1.UploadHeader(file_name="f" * name, size=size if is_declared else None)

    for size in (FILE_BYTES + 1, 100 * FILE_BYTES):
        failed = await failure_of_upload(
            limited.address, chunked(header(size), b"x" * size), metadata=tuple(KEY)
        )
        assert (failed.code, failed.info.reason) == ("RESOURCE_EXHAUSTED", "UPLOAD_TOO_LARGE"), size
    for name in (256, 25_500):
        failed = await failure_of_upload(
            limited.address, chunked(header(3, name), b"abc"), metadata=tuple(KEY)
        )
        assert (failed.code, failed.fields) == ("INVALID_ARGUMENT", ["header.file_name"])
    nothing_came(fal)
    for size in (FILE_BYTES - 1, FILE_BYTES):
        assert (await limited.stub.Upload(chunked(header(size), b"x" * size), metadata=KEY)).size == size
    for name in (254, 255):
        assert (await limited.stub.Upload(chunked(header(3, name), b"abc"), metadata=KEY)).size == 3


async def chunked(header: v1.UploadHeader, data: bytes) -> AsyncIterator[v1.UploadRequest]:
    """Messages below the gateway's limit of them."""
    yield v1.UploadRequest(header=header)
    for start in range(0, len(data), 10_000):
        yield v1.UploadRequest(chunk=data[start : start + 10_000])


async def test_a_chunk(limited: Running, fal: Fal) -> None:
    """A chunk is a message: it may have its limit, and no byte more."""
    overhead = v1.UploadRequest(chunk=b"x" * (MESSAGE_BYTES - 100)).ByteSize() - (MESSAGE_BYTES - 100)
    for size, code in ((1, "RESOURCE_EXHAUSTED"), (100 * MESSAGE_BYTES, "RESOURCE_EXHAUSTED")):
        sent = v1.UploadRequest(chunk=b"x" * (MESSAGE_BYTES - overhead + size))
        both = iter([v1.UploadRequest(header=v1.UploadHeader(file_name="f")), sent])
        assert (await failure_of_upload(limited.address, both, metadata=tuple(KEY))).code == code
    nothing_came(fal)
    # what is exactly as large comes through, and then is too large for a file
    for size in (-1, 0):
        sent = v1.UploadRequest(chunk=b"x" * (MESSAGE_BYTES - overhead + size))
        assert sent.ByteSize() == MESSAGE_BYTES + size
        both = iter([v1.UploadRequest(header=v1.UploadHeader(file_name="f")), sent])
        failed = await failure_of_upload(limited.address, both, metadata=tuple(KEY))
        assert failed.info.reason == "UPLOAD_TOO_LARGE"

"""What callers may ask for: options and sizes. What is denied never reaches fal."""

import json
from typing import Any

import pytest
from tests.conftest import Fal, Running
from tests.failures import Failure, ended, failure_of_upload
from tests.faults.each_call import failure_of_any
from tests.security.each_method import nothing_came
from tests.security.permitting import (
    TEXT,
    as_,
    is_denied,
)
from tests.service.test_run import run
from tests.service.test_stream_calls import stream, workflow
from tests.service.test_upload_calls import messages

from falrpc import v1

ATTACHED = f'{{"a":"attachment:a",{TEXT[1:]}'


def paid(stub: v1.FalServiceStub, method: str, options: v1.CallOptions, metadata: Any) -> Any:
    """A paid call with options."""
    asked: Any = {
        "Run": lambda: run("emulator/echo", options=options),
        "Submit": lambda: v1.SubmitRequest(endpoint_id="emulator/echo", options=options),
        "Subscribe": lambda: v1.SubscribeRequest(
            submit=v1.SubmitRequest(endpoint_id="emulator/echo", options=options)
        ),
        "Stream": lambda: stream("emulator/events", TEXT),
        "StreamWorkflow": lambda: workflow("workflows/emulator/replay", TEXT),
    }[method]()
    if method.startswith("Stream"):
        asked.options.CopyFrom(options)
    return getattr(stub, method)(asked, metadata=metadata, timeout=60)


def is_refused_option(failed: Failure, field: str) -> None:
    is_denied(failed, "OPTION_NOT_ALLOWED", field)
    assert failed.fields == [field]


@pytest.mark.parametrize("method", ["Run", "Submit", "Subscribe", "Stream", "StreamWorkflow"])
async def test_storing(guarded: Running, fal: Fal, method: str) -> None:
    """Whether fal stores inputs and outputs is filled in; who says otherwise is refused, not overruled."""
    prefix = "submit." if method == "Subscribe" else ""
    for identity, forced in (("stored", True), ("unstored", False)):
        fal.reset()
        call = paid(guarded.stub, method, v1.CallOptions(store_io=not forced), as_(identity))
        is_refused_option(await failure_of_any(call), f"{prefix}options.store_io")
        nothing_came(fal)
        for options in (v1.CallOptions(), v1.CallOptions(store_io=forced)):
            assert await ended(paid(guarded.stub, method, options, as_(identity))) == "OK"
        sent = [r for r in fal.received() if r["method"] == "POST"]
        assert [r["headers"]["x-fal-store-io"] for r in sent] == ["1" if forced else "0"] * 2
    fal.reset()
    assert await ended(paid(guarded.stub, method, v1.CallOptions(), as_("free"))) == "OK"
    assert "x-fal-store-io" not in fal.received()[0]["headers"]


@pytest.mark.parametrize("method", ["Run", "Submit", "Subscribe", "Stream", "StreamWorkflow"])
async def test_lifecycles(guarded: Running, fal: Fal, method: str) -> None:
    """Files live as long as the rule says at most, and exactly so where the caller says nothing."""
    prefix = "submit." if method == "Subscribe" else ""
    field = f"{prefix}options.output_lifecycle"

    def lasting(seconds: int) -> v1.CallOptions:
        options = v1.CallOptions()
        options.output_lifecycle.expiration.FromSeconds(seconds)
        return options

    readable = v1.CallOptions()
    readable.output_lifecycle.initial_acl.default_decision = v1.AccessDecision.ACCESS_DECISION_ALLOW
    for seconds in (3_601, 86_400, 10**9):
        call = paid(guarded.stub, method, lasting(seconds), as_("brief"))
        is_refused_option(await failure_of_any(call), field)
    is_refused_option(await failure_of_any(paid(guarded.stub, method, readable, as_("private"))), field)
    nothing_came(fal)
    for options in (v1.CallOptions(), lasting(3_600), lasting(60)):
        assert await ended(paid(guarded.stub, method, options, as_("brief"))) == "OK"
    assert await ended(paid(guarded.stub, method, lasting(86_400), as_("private"))) == "OK"
    name = "x-fal-object-lifecycle-preference"
    sent = [json.loads(r["headers"][name]) for r in fal.received() if r["method"] == "POST"]
    assert [one["expiration_duration_seconds"] for one in sent] == [3_600, 3_600, 60, 86_400]


def queued(method: str, queue: v1.QueueOptions, stub: v1.FalServiceStub, identity: str) -> Any:
    submission = v1.SubmitRequest(endpoint_id="emulator/echo", queue=queue)
    asked: Any = submission if method == "Submit" else v1.SubscribeRequest(submit=submission)
    return getattr(stub, method)(asked, metadata=as_(identity), timeout=60)


@pytest.mark.parametrize("method", ["Submit", "Subscribe"])
async def test_priorities(guarded: Running, fal: Fal, method: str) -> None:
    """Who may not have normal priority is refused for asking, and has low priority for not asking."""
    field = "submit.queue.priority" if method == "Subscribe" else "queue.priority"
    normal, low = (v1.QueueOptions(priority=priority) for priority in (1, 2))
    is_refused_option(await failure_of_any(queued(method, normal, guarded.stub, "low")), field)
    nothing_came(fal)
    for queue in (v1.QueueOptions(), low):
        assert await ended(queued(method, queue, guarded.stub, "low")) == "OK"
    assert await ended(queued(method, normal, guarded.stub, "free")) == "OK"
    sent = [r["headers"].get("x-fal-queue-priority") for r in fal.received(operation="submit")]
    assert sent == ["low", "low", None]


OTHER_HOOKS = (
    "https://evil.example/", "https://hooks.example.com.evil.example/", "https://evilhooks.example.com/",
    "https://shop.example.com/", "https://evilshop.example.com/", "https://example.com/",
    "https://evil.example/hooks.example.com", "https://evil.example/?hooks.example.com",
    "https://evil.example/#hooks.example.com", "https://1.1.1.1/", "https://[2606:4700::1111]/",
)  # fmt: skip
UNREADABLE_HOOKS = (
    "https://hooks.example.com@evil.example/", "https://evil.example\\@hooks.example.com/",
    "http://hooks.example.com/", "https://hooks.example.com:x/", "https://hooks.example.com%00.evil.example/",
    "//hooks.example.com/", "https://169.254.169.254/",
)  # fmt: skip


@pytest.mark.parametrize("method", ["Submit", "Subscribe"])
async def test_webhooks(guarded: Running, fal: Fal, method: str) -> None:
    """fal is told of webhooks at allowed hosts only."""
    field = "submit.queue.webhook_url" if method == "Subscribe" else "queue.webhook_url"
    for url in OTHER_HOOKS:
        call = queued(method, v1.QueueOptions(webhook_url=url), guarded.stub, "hooks")
        is_refused_option(await failure_of_any(call), field)
    for url in UNREADABLE_HOOKS:
        call = queued(method, v1.QueueOptions(webhook_url=url), guarded.stub, "hooks")
        failed = await failure_of_any(call)
        assert (failed.code, failed.fields) == ("INVALID_ARGUMENT", [field]), url
    call = queued(method, v1.QueueOptions(webhook_url="https://hooks.example.com/"), guarded.stub, "no-hooks")
    is_refused_option(await failure_of_any(call), field)
    nothing_came(fal)
    good = ["https://hooks.example.com/a?b", "https://HOOKS.example.com:8443/", "https://a.shop.example.com/"]
    for url in good:
        call = queued(method, v1.QueueOptions(webhook_url=url), guarded.stub, "hooks")
        assert await ended(call) == "OK"
    assert await ended(queued(method, v1.QueueOptions(), guarded.stub, "no-hooks")) == "OK"
    told = [record["query"].get("fal_webhook") for record in fal.received(operation="submit")]
    assert told == [*good, None]


# Files


@pytest.mark.parametrize(
    ("identity", "limit"),
    [("free", 1_000), ("large", 2_000), ("unlimited", 3_000)],
    ids=["a tenant's", "another tenant's", "the server's"],
)
@pytest.mark.parametrize("is_declared", [True, False], ids=["declared", "not declared"])
async def test_sizes_of_files(
    guarded: Running, fal: Fal, identity: str, limit: int, is_declared: bool
) -> None:
    """A file of its tenant's limit is taken, or of the server's where that is less; one byte more is not."""
    for size in (limit + 1, 100 * limit):
        header = v1.UploadHeader(file_name="a", size=size if is_declared else None)
        failed = await failure_of_upload(
            guarded.address, messages(header, b"x" * size), metadata=tuple(as_(identity))
        )
        assert (failed.code, failed.info.reason) == ("RESOURCE_EXHAUSTED", "UPLOAD_TOO_LARGE"), size
        assert failed.info.metadata["limit_bytes"] == str(limit)
    nothing_came(fal)
    for size in (limit - 1, limit):
        header = v1.UploadHeader(file_name="a", size=size if is_declared else None)
        stored = await guarded.stub.Upload(messages(header, b"x" * size), metadata=as_(identity))
        assert stored.size == size


@pytest.mark.parametrize("method", ["Run", "Submit", "Subscribe", "Stream", "StreamWorkflow"])
async def test_sizes_of_attachments(guarded: Running, fal: Fal, method: str) -> None:
    """An attachment is a file: its tenant's limit counts for it, too."""

    def attached(size: int) -> Any:
        fitting = v1.Attachment(data=b"x" * size)
        submission = v1.SubmitRequest(endpoint_id="emulator/echo", input=v1.Input(json=ATTACHED))
        asked: Any = {
            "Run": lambda: run("emulator/echo", ATTACHED),
            "Submit": lambda: submission,
            "Subscribe": lambda: v1.SubscribeRequest(submit=submission),
            "Stream": lambda: stream("emulator/events", ATTACHED),
            "StreamWorkflow": lambda: workflow("workflows/emulator/replay", ATTACHED),
        }[method]()
        holder = asked.submit if method == "Subscribe" else asked
        holder.attachments["a"].CopyFrom(fitting)
        return getattr(guarded.stub, method)(asked, metadata=as_("free"), timeout=60)

    for size in (1_001, 2_000, 100_000):
        failed = await failure_of_any(attached(size))
        assert (failed.code, failed.info.reason) == ("RESOURCE_EXHAUSTED", "UPLOAD_TOO_LARGE"), size
        assert (failed.delivery, failed.info.metadata["limit_bytes"]) == ("NOT_SENT", "1000")
    nothing_came(fal)
    for size in (999, 1_000):
        assert await ended(attached(size)) == "OK"
    assert [r["body_bytes"] for r in fal.received(operation="upload_put")] == [999, 1_000]


async def test_options_of_files(guarded: Running, fal: Fal) -> None:
    """What a rule says of lifecycles holds for files that are sent, and for attachments."""
    for identity, seconds, control in (
        ("brief", 3_601, False),
        ("brief", 10**9, False),
        ("private", 60, True),
    ):
        header = v1.UploadHeader(file_name="a", size=3)
        header.lifecycle.expiration.FromSeconds(seconds)
        if control:
            header.lifecycle.initial_acl.default_decision = v1.AccessDecision.ACCESS_DECISION_ALLOW
        failed = await failure_of_upload(
            guarded.address, messages(header, b"abc"), metadata=tuple(as_(identity))
        )
        is_refused_option(failed, "header.lifecycle")
    nothing_came(fal)
    header = v1.UploadHeader(file_name="a", size=3)
    assert (await guarded.stub.Upload(messages(header, b"abc"), metadata=as_("brief"))).size == 3
    asked = run("emulator/echo", '{"a":"attachment:a"}', attachments={"a": v1.Attachment(data=b"abc")})
    assert await ended(guarded.stub.Run(asked, metadata=as_("brief"))) == "OK"
    sent = [
        json.loads(r["headers"]["x-fal-object-lifecycle"]) for r in fal.received(operation="upload_initiate")
    ]
    assert sent == [{"expiration_duration_seconds": 3_600}] * 2

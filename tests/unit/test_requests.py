"""Requests of FalService as values: inputs, attachments, handles, and which violations are told."""

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import duration_pb2, struct_pb2

from falrpc import v1
from falrpc_server.fal_http.models import RequestRef
from falrpc_server.translate import requests
from falrpc_server.translate.violations import InvalidRequest

LIMIT = 1_000
HANDLE = v1.RequestHandle(endpoint_id="fal-ai/flux/dev", request_id="r-1")


def fields_of(call: Callable[[], object]) -> list[str]:
    """The fields that a request is refused for."""
    with pytest.raises(InvalidRequest) as caught:
        call()
    return [violation.field for violation in caught.value.violations]


def run(**fields: Any) -> requests.PaidCall:
    return requests.run(v1.RunRequest(**{"endpoint_id": "fal-ai/flux", **fields}), LIMIT)


def json_input(text: str) -> v1.Input:
    return v1.Input(json=text)


def object_input(**fields: object) -> v1.Input:
    message = struct_pb2.Struct()
    message.update(fields)
    return v1.Input(object=message)


def test_the_smallest_run() -> None:
    """Only the endpoint is required; an absent input means an empty object."""
    call = run()
    assert (call.endpoint.full, call.body, call.attachments) == ("fal-ai/flux", b"{}", ())


def test_json_text_is_kept_byte_for_byte() -> None:
    """JSON text reaches fal as it came: a seed past 2^53, spacing and number forms survive."""
    text = ' { "seed" : 15860307465884635512, "x": 1e3, "ü": 1.0 }\n'
    assert run(input=json_input(text)).body == text.encode()


def test_the_same_seed_in_an_object_is_refused() -> None:
    """A Struct has already lost such a seed, so it is refused before any paid work."""
    assert fields_of(lambda: run(input=object_input(seed=15860307465884635512))) == ["input.seed"]


def test_an_object_is_written_as_json() -> None:
    """Smaller integral numbers of an object are written as integers."""
    assert run(input=object_input(n=28, s="a")).body == b'{"n":28,"s":"a"}'


@pytest.mark.parametrize(
    ("value", "field"),
    [
        pytest.param(json_input("[]"), "input.json", id="not-an-object"),
        pytest.param(json_input(""), "input.json", id="empty-text"),
        pytest.param(json_input('{"a":'), "input.json", id="cut"),
        pytest.param(json_input('{"a":"' + "x" * LIMIT + '"}'), "input.json", id="too-large"),
        pytest.param(object_input(a="x" * LIMIT), "input.object", id="object-too-large"),
        pytest.param(object_input(l=[1.0, 2.0**60]), "input.l[1]", id="nested-number"),
    ],
)
def test_bad_inputs_are_named(value: v1.Input, field: str) -> None:
    """An input that breaks a rule is refused under the field that breaks it, once."""
    assert fields_of(lambda: run(input=value)) == [field]


@pytest.mark.parametrize(("size", "fits"), [(LIMIT, True), (LIMIT + 1, False)])
def test_the_size_limit_is_exact(size: int, fits: bool) -> None:
    """An input of exactly the limit passes, and one byte more does not."""
    value = json_input('{"a":"' + "x" * (size - 8) + '"}')
    if fits:
        assert len(run(input=value).body) == size
    else:
        assert fields_of(lambda: run(input=value)) == ["input.json"]


def test_all_violations_are_told_at_once() -> None:
    """Every rule that a request breaks is told in one answer, under full paths."""
    submit = v1.SubmitRequest(
        endpoint_id="nope",
        input=json_input("[]"),
        options=v1.CallOptions(
            start_timeout=duration_pb2.Duration(seconds=-1),
            runner_hint="ü",
            tags={"X": "a,b"},
            output_lifecycle=v1.ObjectLifecycle(
                expiration=duration_pb2.Duration(nanos=5),
                initial_acl=v1.AccessControl(rules=[v1.AccessRule()]),
            ),
        ),
        queue=v1.QueueOptions(priority=99, max_queue_length=-1, webhook_url="http://x"),
    )
    request = v1.SubscribeRequest(
        submit=submit,
        on_abandon=99,
        heartbeat_interval=duration_pb2.Duration(nanos=5),
    )
    assert sorted(fields_of(lambda: requests.subscribe(request, LIMIT))) == [
        "heartbeat_interval",
        "on_abandon",
        "submit.endpoint_id",
        "submit.input.json",
        "submit.options.output_lifecycle.expiration",
        "submit.options.output_lifecycle.initial_acl.default_decision",
        "submit.options.output_lifecycle.initial_acl.rules[0].decision",
        "submit.options.output_lifecycle.initial_acl.rules[0].user",
        "submit.options.runner_hint",
        "submit.options.start_timeout",
        "submit.options.tags['X']",
        "submit.options.tags['X']",
        "submit.queue.max_queue_length",
        "submit.queue.priority",
        "submit.queue.webhook_url",
    ]


# Attachments


def attached(text: str, **files: v1.Attachment) -> requests.PaidCall:
    return run(input=json_input(text), attachments=files)


def test_attachments_are_uploads_to_make() -> None:
    """Each declared file gets a name and type: its own, else its key's and none yet."""
    call = attached(
        '{"a":"attachment:x","b":["attachment:y.png"]}',
        x=v1.Attachment(data=b"1", content_type="text/plain", file_name="a.bin"),
        **{"y.png": v1.Attachment(data=b"2")},
    )
    assert [(a.name, a.upload.file_name, a.upload.content_type, a.data) for a in call.attachments] == [
        ("x", "a.bin", "text/plain", b"1"),
        ("y.png", "y.png", "", b"2"),
    ]


def test_without_attachments_such_strings_are_just_text() -> None:
    """A prompt that happens to read attachment:x passes untouched when none is declared."""
    assert run(input=json_input('{"a":"attachment:x"}')).body == b'{"a":"attachment:x"}'


@pytest.mark.parametrize(
    ("text", "name", "field"),
    [
        pytest.param('{"a":"attachment:x","b":"attachment:z"}', "x", "attachments['z']", id="undeclared"),
        pytest.param('{"a":1}', "x", "attachments['x']", id="unused"),
        pytest.param('{"attachment:x":1}', "x", "attachments['x']", id="only-a-key"),
        pytest.param('{"a":"attachment:a b"}', "a b", "attachments['a b']", id="bad-name"),
    ],
)
def test_attachments_and_input_must_agree(text: str, name: str, field: str) -> None:
    """A name that is used but not declared, or declared but not used, is refused."""
    assert fields_of(lambda: attached(text, **{name: v1.Attachment(data=b"1")})) == [field]


@pytest.mark.parametrize("text", ["[]", '{"a":', '{"a":"' + "x" * LIMIT + '"}'])
def test_attachments_are_not_compared_with_an_input_that_is_refused(text: str) -> None:
    """When the input itself is refused nothing is said about names that it may well use."""
    found = fields_of(lambda: attached(text, x=v1.Attachment(data=b"1")))
    assert [field for field in found if field.startswith("attachments")] == []


@pytest.mark.parametrize(
    ("attachment", "field"),
    [
        (v1.Attachment(data=b"1", file_name="../a"), "attachments['x'].file_name"),
        (v1.Attachment(data=b"1", file_name="ü" * 128), "attachments['x'].file_name"),
        (v1.Attachment(data=b"1", file_name="a\nb"), "attachments['x'].file_name"),
        (v1.Attachment(data=b"1", content_type="png"), "attachments['x'].content_type"),
        (v1.Attachment(data=b"1", content_type="image/png\r\nX: y"), "attachments['x'].content_type"),
        (v1.Attachment(file_name="a.png"), "attachments['x'].data"),
    ],
)
def test_attachments_names_and_types_are_checked(attachment: v1.Attachment, field: str) -> None:
    """A file name without directories and a media type are required of attachments, too, and bytes."""
    assert fields_of(lambda: attached('{"a":"attachment:x"}', x=attachment)) == [field]


# Handles, waits, heartbeats, targets


def test_a_handle_names_a_request() -> None:
    """Status and Cancel read the handle and nothing else."""
    ref = requests.status(v1.StatusRequest(handle=HANDLE))
    assert (ref.endpoint.full, ref.endpoint.queue_base, ref.request_id) == (
        "fal-ai/flux/dev",
        "fal-ai/flux",
        "r-1",
    )
    assert requests.cancel(v1.CancelRequest(handle=HANDLE)) == ref


@pytest.mark.parametrize(
    ("handle", "fields"),
    [
        (v1.RequestHandle(), ["handle.endpoint_id", "handle.request_id"]),
        (v1.RequestHandle(endpoint_id="a/b", request_id="../x"), ["handle.request_id"]),
        (v1.RequestHandle(endpoint_id="a/b", request_id="a" * 65), ["handle.request_id"]),
        (v1.RequestHandle(endpoint_id="a/../b", request_id="r"), ["handle.endpoint_id"]),
    ],
)
def test_bad_handles(handle: v1.RequestHandle, fields: list[str]) -> None:
    """Both parts of a handle are required and path-safe, in every method that takes one."""
    assert fields_of(lambda: requests.status(v1.StatusRequest(handle=handle))) == fields
    assert fields_of(lambda: requests.cancel(v1.CancelRequest(handle=handle))) == fields
    assert fields_of(lambda: requests.result(v1.ResultRequest(handle=handle))) == fields
    assert fields_of(lambda: requests.stream_status(v1.StreamStatusRequest(handle=handle))) == fields
    attach = [field.replace("handle", "attach") for field in fields]
    assert fields_of(lambda: requests.subscribe(v1.SubscribeRequest(attach=handle), LIMIT)) == attach


@pytest.mark.parametrize(
    ("wait", "seconds"),
    [
        (None, None),
        (duration_pb2.Duration(), 0.0),
        (duration_pb2.Duration(seconds=5, nanos=500_000_000), 5.5),
    ],
)
def test_how_long_a_result_is_waited_for(wait: duration_pb2.Duration | None, seconds: float | None) -> None:
    """An absent wait means: answer now."""
    assert requests.result(v1.ResultRequest(handle=HANDLE, wait=wait))[1] == seconds


@pytest.mark.parametrize(
    "duration",
    [
        duration_pb2.Duration(seconds=-1),
        duration_pb2.Duration(nanos=-1),
        duration_pb2.Duration(seconds=1, nanos=-1),
        duration_pb2.Duration(nanos=1_000_000_000),
        duration_pb2.Duration(seconds=315_576_000_001),
    ],
)
def test_durations_must_be_valid_and_not_negative(duration: duration_pb2.Duration) -> None:
    """A negative or malformed duration is refused wherever one is taken."""
    assert fields_of(lambda: requests.result(v1.ResultRequest(handle=HANDLE, wait=duration))) == ["wait"]
    request = v1.StreamStatusRequest(handle=HANDLE, heartbeat_interval=duration)
    assert set(fields_of(lambda: requests.stream_status(request))) == {"heartbeat_interval"}
    options = v1.CallOptions(start_timeout=duration)
    assert set(fields_of(lambda: run(options=options))) == {"options.start_timeout"}


@pytest.mark.parametrize(
    ("interval", "seconds"),
    [(None, None), (duration_pb2.Duration(), 0.0), (duration_pb2.Duration(seconds=1), 1.0)],
)
def test_heartbeats(interval: duration_pb2.Duration | None, seconds: float | None) -> None:
    """Absent means the server's default, 0 none, and the smallest other interval is one second."""
    stream = v1.StreamRequest(endpoint_id="a/b", heartbeat_interval=interval)
    assert requests.stream(stream, LIMIT).heartbeat_seconds == seconds
    too_short = duration_pb2.Duration(nanos=999_999_999)
    workflow = v1.StreamWorkflowRequest(endpoint_id="a/b", heartbeat_interval=too_short)
    assert fields_of(lambda: requests.stream(workflow, LIMIT)) == ["heartbeat_interval"]


def test_subscribe_needs_a_target() -> None:
    """Neither submit nor attach is one violation, and says which there are."""
    assert fields_of(lambda: requests.subscribe(v1.SubscribeRequest(), LIMIT)) == ["target"]


SUBMIT = v1.SubmitRequest(endpoint_id="a/b")


@pytest.mark.parametrize(
    ("request_", "cancels"),
    [
        (v1.SubscribeRequest(submit=SUBMIT), True),
        (v1.SubscribeRequest(attach=HANDLE), False),
        (v1.SubscribeRequest(submit=SUBMIT, on_abandon=v1.AbandonPolicy.ABANDON_POLICY_DETACH), False),
        (v1.SubscribeRequest(attach=HANDLE, on_abandon=v1.AbandonPolicy.ABANDON_POLICY_CANCEL), True),
    ],
)
def test_what_becomes_of_an_abandoned_request(request_: v1.SubscribeRequest, cancels: bool) -> None:
    """Without a policy, what the call submitted is cancelled and what it attached to goes on."""
    assert requests.subscribe(request_, LIMIT).cancels_when_abandoned is cancels


def test_attaching_is_not_submitting() -> None:
    """The target is a request reference for attach and a submission for submit."""
    assert isinstance(requests.subscribe(v1.SubscribeRequest(attach=HANDLE), LIMIT).target, RequestRef)
    assert isinstance(
        requests.subscribe(v1.SubscribeRequest(submit=SUBMIT), LIMIT).target, requests.SubmitCall
    )


# Uploads


def test_an_uploads_header() -> None:
    """Name, type, declared size and digest, and the lifecycle are read from the header."""
    header = v1.UploadHeader(
        file_name="kätze.png",
        content_type="image/webp",
        size=1,
        sha256=b"\x00" * 32,
        lifecycle=v1.ObjectLifecycle(expiration=duration_pb2.Duration(seconds=60)),
    )
    call = requests.upload(header, 100)
    assert (call.upload.file_name, call.upload.content_type, call.size) == ("kätze.png", "image/webp", 1)
    assert call.upload.lifecycle_json == '{"expiration_duration_seconds": 60}'
    call = requests.upload(v1.UploadHeader(file_name="x.png"), 100)
    assert (call.size, call.upload.content_type) == (None, "")


@pytest.mark.parametrize(
    ("header", "fields"),
    [
        (v1.UploadHeader(), ["header.file_name"]),
        (v1.UploadHeader(file_name=".."), ["header.file_name"]),
        (v1.UploadHeader(file_name="a\\b"), ["header.file_name"]),
        (v1.UploadHeader(file_name="a\u202eb"), ["header.file_name"]),
        (v1.UploadHeader(file_name="a" * 256), ["header.file_name"]),
        (v1.UploadHeader(file_name="a", content_type="x"), ["header.content_type"]),
        (v1.UploadHeader(file_name="a", size=-1), ["header.size"]),
        (v1.UploadHeader(file_name="a", size=0), ["header.size"]),
        (v1.UploadHeader(file_name="a", sha256=b"x"), ["header.sha256"]),
        (
            v1.UploadHeader(
                size=-1, sha256=b"x", lifecycle=v1.ObjectLifecycle(expiration=duration_pb2.Duration())
            ),
            ["header.file_name", "header.size", "header.sha256", "header.lifecycle.expiration"],
        ),
    ],
)
def test_bad_upload_headers(header: v1.UploadHeader, fields: list[str]) -> None:
    """Every rule that an upload's header breaks is told at once."""
    assert fields_of(lambda: requests.upload(header, 100)) == fields

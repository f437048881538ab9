"""Requests to fal as bytes (fal-http-api.md §3 to §7, §10)."""

from urllib.parse import parse_qs, urlsplit

import pytest

from falrpc_server.fal_http import wire
from falrpc_server.fal_http.models import (
    CallOptions,
    EndpointId,
    QueueOptions,
    RequestRef,
)

HOSTS = wire.Hosts()
NO_OPTIONS = CallOptions()

IDS = [
    pytest.param("fal-ai/flux", "fal-ai/flux", id="plain"),
    pytest.param("fal-ai/flux/dev", "fal-ai/flux", id="path"),
    pytest.param("workflows/me/wf/x", "workflows/me/wf", id="workflow"),
    pytest.param("comfy/me/flow", "comfy/me/flow", id="comfy"),
]


@pytest.mark.parametrize(("text", "base"), IDS)
def test_urls_of_every_operation(text: str, base: str) -> None:
    """Calls use the full id; status, result and cancel use namespace, owner and alias only (§3.2)."""
    endpoint = EndpointId.parse(text)
    ref = RequestRef(endpoint, "r-1")
    request = f"https://queue.fal.run/{base}/requests/r-1"
    sent = [
        wire.run(HOSTS, endpoint, b"{}", NO_OPTIONS),
        wire.stream(HOSTS, endpoint, b"{}", NO_OPTIONS),
        wire.submit(HOSTS, endpoint, b"{}", NO_OPTIONS, QueueOptions()),
        wire.status(HOSTS, ref, logs=False),
        wire.status(HOSTS, ref, logs=True),
        wire.status_stream(HOSTS, ref, logs=False),
        wire.status_stream(HOSTS, ref, logs=True),
        wire.result(HOSTS, ref),
        wire.cancel(HOSTS, ref),
    ]
    assert [(r.method, r.url) for r in sent] == [
        ("POST", f"https://fal.run/{text}"),
        ("POST", f"https://fal.run/{text}/stream"),
        ("POST", f"https://queue.fal.run/{text}"),
        ("GET", f"{request}/status"),
        ("GET", f"{request}/status?logs=1"),
        ("GET", f"{request}/status/stream"),
        ("GET", f"{request}/status/stream?logs=1"),
        ("GET", request),
        ("PUT", f"{request}/cancel"),
    ]


def test_the_body_is_sent_as_it_is() -> None:
    """The caller's bytes are the body of every paid request."""
    body = b'{ "seed": 15860307465884635512, "x": 1e3 }'
    endpoint = EndpointId.parse("a/b")
    assert wire.run(HOSTS, endpoint, body, NO_OPTIONS).body == body
    assert wire.stream(HOSTS, endpoint, body, NO_OPTIONS).body == body
    assert wire.submit(HOSTS, endpoint, body, NO_OPTIONS, QueueOptions()).body == body


def test_without_options_no_fal_header_is_sent() -> None:
    """Defaults are fal's own: no X-Fal header goes out unless the caller asked for it."""
    for request in (
        wire.run(HOSTS, EndpointId.parse("a/b"), b"{}", NO_OPTIONS),
        wire.submit(HOSTS, EndpointId.parse("a/b"), b"{}", NO_OPTIONS, QueueOptions()),
    ):
        assert [name for name, _ in request.headers if "fal" in name.lower()] == []
        assert "?" not in request.url


@pytest.mark.parametrize(
    ("options", "header", "value"),
    [
        (CallOptions(runner_hint="warm-1"), "X-Fal-Runner-Hint", "warm-1"),
        (CallOptions(disable_fallback=True), "x-app-fal-disable-fallback", "1"),
        (CallOptions(store_io=True), "X-Fal-Store-IO", "1"),
        (CallOptions(store_io=False), "X-Fal-Store-IO", "0"),
        (
            CallOptions(output_lifecycle_json='{"expiration_duration_seconds": 60}'),
            "X-Fal-Object-Lifecycle-Preference",
            '{"expiration_duration_seconds": 60}',
        ),
        (CallOptions(tags={"team": "a", "env": "x y"}), "X-Fal-Tags", "env=x y,team=a"),
    ],
)
def test_each_option_is_one_header(options: CallOptions, header: str, value: str) -> None:
    """Each option of a paid call becomes exactly its header of §4, on run, stream and submit alike."""
    endpoint = EndpointId.parse("a/b")
    for request in (
        wire.run(HOSTS, endpoint, b"{}", options),
        wire.stream(HOSTS, endpoint, b"{}", options),
        wire.submit(HOSTS, endpoint, b"{}", options, QueueOptions()),
    ):
        assert [pair for pair in request.headers if "fal" in pair[0].lower()] == [(header, value)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (30.0, "30"),
        (1.5, "1.5"),
        (100.0, "100"),
        (1.23456, "1.235"),
        (0.2, "1"),
        (-3.0, "1"),
        (1e6, "1000000"),
    ],
)
def test_a_start_timeout_goes_out_under_both_names(seconds: float, text: str) -> None:
    """Both names carry the same decimal text, never below one second and never in exponent form (§4)."""
    request = wire.run(HOSTS, EndpointId.parse("a/b"), b"{}", CallOptions(start_timeout_seconds=seconds))
    headers = dict(request.headers)
    assert headers["X-Fal-Request-Start-Timeout"] == text
    assert headers["X-Fal-Request-Timeout"] == text


def test_queue_options() -> None:
    """Queue options are headers, except the webhook and the queue limit, which are query values (§7.2)."""
    webhook = "https://me.example/hook?a=1&b=2#x"
    queue = QueueOptions(low_priority=True, no_retry=True, max_queue_length=0, webhook_url=webhook)
    request = wire.submit(HOSTS, EndpointId.parse("a/b"), b"{}", NO_OPTIONS, queue)
    headers = dict(request.headers)
    assert headers["X-Fal-Queue-Priority"] == "low"
    assert headers["X-Fal-No-Retry"] == "1"
    assert parse_qs(urlsplit(request.url).query) == {"fal_webhook": [webhook], "fal_max_queue_length": ["0"]}
    assert urlsplit(request.url).fragment == ""


@pytest.mark.parametrize("low_priority", [None, False])
def test_normal_priority_is_not_sent(low_priority: bool | None) -> None:
    """Normal is fal's default, whether the caller said so or nothing: no header goes out."""
    queue = QueueOptions(low_priority=low_priority)
    request = wire.submit(HOSTS, EndpointId.parse("a/b"), b"{}", NO_OPTIONS, queue)
    assert "X-Fal-Queue-Priority" not in dict(request.headers)

"""Endpoint ids and request ids: what is admitted, and which part each URL uses (fal-http-api.md §3)."""

import httpx
import pytest
import yarl
from hypothesis import given
from hypothesis import strategies as st

from falrpc_server.fal_http import wire
from falrpc_server.fal_http.models import BadEndpointId, CallOptions, EndpointId, RequestRef, is_request_id

HOSTS = wire.Hosts()


@pytest.mark.parametrize(
    ("text", "queue_base"),
    [
        pytest.param("fal-ai/flux", "fal-ai/flux", id="owner-alias"),
        pytest.param("fal-ai/flux/dev", "fal-ai/flux", id="path"),
        pytest.param("fal-ai/flux/dev/image-to-image", "fal-ai/flux", id="long-path"),
        pytest.param("workflows/me/wf", "workflows/me/wf", id="workflow"),
        pytest.param("workflows/me/wf/x", "workflows/me/wf", id="workflow-path"),
        pytest.param("comfy/me/flow", "comfy/me/flow", id="comfy"),
        pytest.param("123456/my-app", "123456/my-app", id="numeric-owner"),
        pytest.param("Comfy/me/flow", "Comfy/me", id="namespaces-are-lower-case"),
        pytest.param("me/workflows/x", "me/workflows", id="namespace-only-in-front"),
        pytest.param("a/b.c_d-e", "a/b.c_d-e", id="all-characters"),
        pytest.param("a/" + "b" * 128, "a/" + "b" * 128, id="longest-part"),
    ],
)
def test_admits_fals_grammar(text: str, queue_base: str) -> None:
    """An id of §3.1's grammar is kept verbatim, and queue URLs use it without its path."""
    assert EndpointId.parse(text) == EndpointId(text, queue_base)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("flux", id="one-part"),
        pytest.param("workflows/me", id="workflow-without-name"),
        pytest.param("comfy/me", id="comfy-without-name"),
        pytest.param("fal-ai/../admin", id="dot-dot"),
        pytest.param("fal-ai/./admin", id="dot"),
        pytest.param("fal-ai/.hidden", id="leading-dot"),
        pytest.param("fal-ai/-x", id="leading-dash"),
        pytest.param("fal-ai//flux", id="empty-part"),
        pytest.param("/fal-ai/flux", id="leading-slash"),
        pytest.param("fal-ai/flux/", id="trailing-slash"),
        pytest.param("fal-ai/%2e%2e/x", id="percent"),
        pytest.param("fal-ai/flux?x=1", id="query"),
        pytest.param("fal-ai/flux#x", id="fragment"),
        pytest.param("fal-ai\\flux/x", id="backslash"),
        pytest.param("fal-ai/fl ux", id="space"),
        pytest.param("fal-ai/flux\n", id="trailing-newline"),
        pytest.param("fal-ai/fl\r\nux", id="crlf"),
        pytest.param("fal-ai/flux\x00", id="nul"),
        pytest.param("https://evil.com/x", id="url"),
        pytest.param("fal-ai/flux/requests/7d1c2c0e/cancel", id="a-requests-own-path"),
        pytest.param("fal-ai/flux/requests", id="requests"),
        pytest.param("workflows/me/wf/x/requests/7d1c2c0e", id="requests-behind-a-path"),
        pytest.param("user@evil.com/x", id="userinfo"),
        pytest.param("evil.com:80/x", id="port"),
        pytest.param("fal-ai/flüx", id="not-ascii"),
        pytest.param("fal-ai/\uff0e\uff0e/x", id="fullwidth-dots"),
        pytest.param("a/" + "b" * 129, id="part-too-long"),
        pytest.param("a/" + "/".join(["b" * 100] * 6), id="too-long"),
    ],
)
def test_refuses_everything_else(text: str) -> None:
    """A text outside the grammar never becomes an endpoint id."""
    with pytest.raises(BadEndpointId):
        EndpointId.parse(text)


def test_names_the_bad_part_in_few_characters() -> None:
    """The message shows at most the start of the part that is wrong."""
    with pytest.raises(BadEndpointId) as caught:
        EndpointId.parse("fal-ai/" + "ü" * 400)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7d1c2c0e-6a0b-4f6e-9b0e-0c6d0b1f2a11", True),
        ("a" * 64, True),
        ("a" * 65, False),
        ("", False),
        ("a/b", False),
        ("..", False),
        ("a\n", False),
        ("a%2fb", False),
        ("é", False),
    ],
)
def test_request_ids_are_path_safe(text: str, expected: bool) -> None:
    """A request id is 1 to 64 letters, digits, dashes or underscores."""
    assert is_request_id(text) is expected


ID_LIKE = st.one_of(
    st.text(max_size=40),
    st.text("abA0._-/%?#@:\\ \r\n\t\x00\u2028\uff0e", max_size=40),
    st.lists(st.sampled_from(["fal-ai", "workflows", "comfy", "..", ".", "", "a.b", "%2e%2e", "@h", "x:1"]))
    .map("/".join)
    .filter(bool),
)


@given(ID_LIKE)
def test_no_url_class_reads_an_admitted_id_differently(text: str) -> None:
    """Any text is either refused or gives URLs that httpx and yarl read as fal's host and that very path."""
    try:
        endpoint = EndpointId.parse(text)
    except BadEndpointId:
        return
    ref = RequestRef(endpoint, "id")
    built = {
        wire.run(HOSTS, endpoint, b"", CallOptions()).url: ("fal.run", f"/{text}"),
        wire.result(HOSTS, ref).url: ("queue.fal.run", f"/{endpoint.queue_base}/requests/id"),
    }
    for url, (host, path) in built.items():
        assert url == f"https://{host}{path}"
        assert (httpx.URL(url).host, httpx.URL(url).path) == (host, path)
        assert (yarl.URL(url).host, yarl.URL(url).path) == (host, path)
        assert str(httpx.Request("GET", url).url) == url

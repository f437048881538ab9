"""Where the bytes of an upload may go (docs/fal-http-api.md §10.6)."""

import httpx
import pytest
import yarl
from hypothesis import given
from hypothesis import strategies as st

from falrpc_server.fal_http import storage_answers, wire
from falrpc_server.fal_http.answers import Malformed

HOSTS = wire.Hosts()
LOOPBACK = wire.Hosts(uploads=("127.0.0.1", "localhost", "::1"))


def is_allowed(url: str, hosts: wire.Hosts = HOSTS) -> bool:
    return storage_answers.is_upload_url(url, hosts)


@pytest.mark.parametrize(
    "url",
    [
        "https://fal.media/f",
        "https://v3.fal.media/files/b/x?sig=a%2Fb",
        "https://v3b.fal.media/x",
        "HTTPS://V3.FAL.MEDIA/x",
        "https://a.b.fal.media/x",
    ],
)
def test_fals_own_storage_is_allowed(url: str) -> None:
    """https at the listed host or below it is allowed."""
    assert is_allowed(url)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://v3.fal.media/x", id="plain-http"),
        pytest.param("ftp://v3.fal.media/x", id="other-scheme"),
        pytest.param("https://evilfal.media/x", id="suffix-without-dot"),
        pytest.param("https://fal.media.evil.com/x", id="prefix"),
        pytest.param("https://evil.com/fal.media", id="in-path"),
        pytest.param("https://evil.com?.fal.media", id="in-query"),
        pytest.param("https://evil.com#.fal.media", id="in-fragment"),
        pytest.param("https://fal.media@evil.com/x", id="userinfo"),
        pytest.param("https://user:pw@fal.media/x", id="userinfo-at-fal"),
        pytest.param("https://evil.com\\@fal.media/x", id="backslash-userinfo"),
        pytest.param("https://fal.media:443@evil.com/x", id="port-as-userinfo"),
        pytest.param("https://fal.media%2eevil.com/x", id="percent-dot"),
        pytest.param("https://fal.media\n.evil.com/x", id="newline"),
        pytest.param("https://fal\u3002media.evil.com/x", id="ideographic-dot"),
        pytest.param("https://evil.com\uff0ffal.media/x", id="fullwidth-slash"),
        pytest.param("https://f\u0430l.media/x", id="cyrillic-a"),
        pytest.param("https://xn--fl-7cd.media/x", id="punycode"),
        pytest.param("https://[::1]/x", id="ipv6"),
        pytest.param("https://[fal.media]/x", id="brackets"),
        pytest.param("https://2130706433/x", id="decimal-ip"),
        pytest.param("https:///fal.media/x", id="no-host"),
        pytest.param("https:fal.media/x", id="no-authority"),
        pytest.param("//fal.media/x", id="no-scheme"),
        pytest.param("fal.media/x", id="relative"),
        pytest.param("", id="empty"),
        pytest.param("data:text/plain,fal.media", id="data"),
        pytest.param("https://rest.fal.ai/x", id="fals-other-host"),
        pytest.param("https://127.0.0.1/x", id="loopback-unlisted"),
    ],
)
def test_hostile_targets_are_refused(url: str) -> None:
    """No trick of a URL's spelling makes another host pass for a listed one."""
    assert not is_allowed(url)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("https://fal.media:bad/x", id="port-of-letters"),
        pytest.param("https://fal.media:99999/x", id="port-too-large"),
        pytest.param("https://evil.com\\.fal.media/x", id="backslash-in-host"),
        pytest.param("https://a\t.fal.media/x", id="tab-in-host"),
        pytest.param("https://a\x00.fal.media/x", id="nul-in-host"),
        pytest.param("https://fal.media/\nx", id="newline-in-path"),
        pytest.param("https://xn--.fal.media/x", id="broken-punycode"),
        pytest.param(" https://fal.media/x", id="leading-space"),
    ],
)
def test_what_no_request_can_be_made_of_is_refused(url: str) -> None:
    """A URL that httpx can't take is refused here, instead of blowing up when it is used."""
    assert not is_allowed(url)


def test_plain_http_is_for_loopback_only() -> None:
    """An emulator on this machine may be sent bytes without TLS when it is listed."""
    assert is_allowed("http://127.0.0.1:8080/x", LOOPBACK)
    assert is_allowed("http://localhost/x", LOOPBACK)
    assert is_allowed("http://[::1]:8080/x", LOOPBACK)
    assert not is_allowed("http://127.evil.com/x", wire.Hosts(uploads=("127.evil.com",)))
    assert not is_allowed("http://example.com/x", wire.Hosts(uploads=("example.com",)))


NASTY = st.text("abf.:@/\\%[]#?!;- \t\n\u3002\uff0e\u0430é", max_size=12)


@given(NASTY, NASTY, st.sampled_from(["fal.media", "v3.fal.media", "evil.com"]))
def test_whatever_is_allowed_goes_to_the_listed_host(before: str, after: str, host: str) -> None:
    """httpx and yarl both connect to the listed host or below it, for every URL that is allowed."""
    url = f"https://{before}{host}{after}/x"
    if not is_allowed(url):
        return
    request = httpx.Request("PUT", url)
    seen = [request.url.host, yarl.URL(str(request.url), encoded=True).host or ""]
    assert all(name == "fal.media" or name.endswith(".fal.media") for name in seen)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"<html>",
        b'{"upload_url":"https://v3.fal.media/u"}',
        b'{"file_url":"https://f"}',
        b'{"upload_url":null,"file_url":null}',
        b'{"upload_url":1,"file_url":2}',
    ],
)
def test_an_initiation_without_both_urls_is_malformed(body: bytes) -> None:
    """An upload initiation's answer must name both URLs."""
    with pytest.raises(Malformed):
        storage_answers.read_upload_target(body)


def test_reads_an_initiation() -> None:
    """Both URLs are taken as they are, whatever else the answer holds."""
    target = storage_answers.read_upload_target(b'{"upload_url":"https://u","file_url":"https://f","x":1}')
    assert target == storage_answers.UploadTarget("https://u", "https://f")

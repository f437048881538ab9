"""Answers of fal's file storage (docs/fal-http-api.md §10)."""

import json
from typing import Any

import pytest

from falrpc_server.fal_http import storage_answers
from falrpc_server.fal_http.answers import Malformed

TOKEN: dict[str, Any] = {
    "token": "t-1",
    "token_type": "Bearer",
    "base_url": "https://v3b.fal.media",
    "created_at": "2026-08-21T10:00:00+00:00",
    "expires_at": "2026-08-22T10:00:00+00:00",
}


@pytest.mark.parametrize(
    ("changed", "seconds"),
    [
        pytest.param({}, 86_400.0, id="both times"),
        pytest.param({"expires_at": "2026-08-21T10:00:10Z"}, 10.0, id="in UTC"),
        pytest.param({"expires_at": "2026-08-20T10:00:00+00:00"}, 0.0, id="over"),
        pytest.param({"expires_at": "2026-08-22T10:00:00"}, 0.0, id="no offset"),
        pytest.param({"expires_at": "soon"}, 0.0, id="no time"),
        pytest.param({"expires_at": None}, 0.0, id="null"),
        pytest.param({"expires_at": 7}, 0.0, id="a number"),
    ],
)
def test_a_tokens_lifetime(changed: dict[str, Any], seconds: float) -> None:
    """It is reckoned with fal's own clock, whatever ours says; one that is not told is none."""
    token = storage_answers.read_cdn_token(json.dumps(TOKEN | changed).encode())
    assert token == storage_answers.CdnToken("t-1", "https://v3b.fal.media", seconds)


@pytest.mark.parametrize(
    "changed", [{"token": ""}, {"token": "a\nb"}, {"token": None}, {"base_url": None}, {"token": "ä"}]
)
def test_a_token_that_is_none(changed: dict[str, Any]) -> None:
    """A token must be fit for a header."""
    with pytest.raises(Malformed):
        storage_answers.read_cdn_token(json.dumps(TOKEN | changed).encode())


@pytest.mark.parametrize(
    ("access_url", "upload_id"),
    [
        ("https://v3.fal.media/f", ""),
        ("https://v3.fal.media/f", "../x"),
        ("https://v3.fal.media/f", ".."),
        ("https://v3.fal.media/f", "a/b"),
        ("https://v3.fal.media/f", "a?b"),
        ("https://v3.fal.media/f", "a%2fb"),
        ("https://v3.fal.media/f?x=1", "u-1"),
        ("https://v3.fal.media/f g", "u-1"),
        ("", "u-1"),
    ],
)
def test_an_upload_in_parts_that_leads_astray(access_url: str, upload_id: str) -> None:
    """What becomes the path of parts' URLs can't change where they go."""
    with pytest.raises(Malformed):
        storage_answers.read_cdn_upload(
            json.dumps({"access_url": access_url, "uploadId": upload_id}).encode()
        )


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "file:///etc/passwd", "//v3.fal.media/f", "https://", "https://[", "", "f"]
)
def test_a_files_url_that_is_none(url: str) -> None:
    """It goes to callers, and into inputs."""
    with pytest.raises(Malformed):
        storage_answers.read_access_url(json.dumps({"access_url": url}).encode())
    with pytest.raises(Malformed):
        storage_answers.read_upload_target(json.dumps({"upload_url": "https://u", "file_url": url}).encode())


def test_where_parts_go_with_a_token() -> None:
    """Parts are below the file's URL."""
    body = b'{"access_url":"https://v3.fal.media/f","uploadId":"u-1"}'
    target = storage_answers.read_cdn_upload(body)
    assert target.upload_url == "https://v3.fal.media/f/multipart/u-1"
    assert target.file_url == "https://v3.fal.media/f"


@pytest.mark.parametrize(
    ("body", "headers", "etag"),
    [
        (b'{"partNumber":1,"etag":"a"}', {}, "a"),
        (b'{"partNumber":1,"etag":"a"}', {"etag": '"b"'}, "a"),
        (b"", {"etag": '"b"'}, '"b"'),
        (b"<html>", {"etag": '"b"'}, '"b"'),
        (b'{"etag":', {"etag": '"b"'}, '"b"'),
        (b'{"etag":7}', {"etag": '"b"'}, '"b"'),
    ],
)
def test_a_parts_etag(body: bytes, headers: dict[str, str], etag: str) -> None:
    """fal's clients read the body or the header: one of them is enough."""
    assert storage_answers.read_part(body, headers) == etag


@pytest.mark.parametrize("body", [b"", b"{}", b'{"etag":""}', b'{"etag":'])
def test_a_part_without_an_etag(body: bytes) -> None:
    """Without an ETag the file can't be completed."""
    with pytest.raises(Malformed):
        storage_answers.read_part(body, {})

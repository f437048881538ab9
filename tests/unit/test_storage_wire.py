"""Requests to fal's file storage (docs/fal-http-api.md §10)."""

import json

import pytest

from falrpc_server.fal_http import storage_wire, wire
from falrpc_server.fal_http.models import Upload

HOSTS = wire.Hosts()


def test_upload_requests() -> None:
    """Initiation names type and file with the lifecycle; the PUT declares its length and nothing of fal's."""
    upload = Upload("kätze.png", "image/png", '{"expiration_duration_seconds": 60}')
    initiate = storage_wire.initiate(HOSTS, upload)
    assert initiate.url == "https://rest.fal.ai/storage/upload/initiate?storage_type=fal-cdn-v3"
    assert json.loads(initiate.body or b"") == {"content_type": "image/png", "file_name": "kätze.png"}
    assert ("X-Fal-Object-Lifecycle", upload.lifecycle_json) in initiate.headers
    put = storage_wire.put("https://v3.fal.media/u?sig=1", upload, 7)
    assert (put.method, put.url) == ("PUT", "https://v3.fal.media/u?sig=1")
    assert put.headers == (("Content-Type", "image/png"), ("Content-Length", "7"))


def test_parts() -> None:
    """A part's number and `complete` go behind the path, before the query; ETags are listed in order."""
    part = storage_wire.put_part("https://v3.fal.media/u?sig=1", 3, 9)
    assert (part.method, part.url) == ("PUT", "https://v3.fal.media/u/3?sig=1")
    assert part.headers == (("Content-Length", "9"),)
    complete = storage_wire.complete_parts("https://v3.fal.media/u?sig=1", ['"a"', "b"])
    assert (complete.method, complete.url) == ("POST", "https://v3.fal.media/u/complete?sig=1")
    assert json.loads(complete.body or b"") == {
        "parts": [{"partNumber": 1, "etag": '"a"'}, {"partNumber": 2, "etag": "b"}]
    }


@pytest.mark.parametrize(
    ("file_name", "whole", "in_parts"),
    [
        ("cat.png", "cat.png", "cat.png"),
        ("kätze.png", None, "upload.png"),
        ("kätze.png\u00e4", None, "upload.bin"),
        ("kätze", None, "upload"),
    ],
)
def test_requests_with_a_token(file_name: str, whole: str | None, in_parts: str) -> None:
    """Both lifecycle headers are sent; a name that no header can carry is left out or replaced (§10.3)."""
    upload = Upload(file_name, "image/png", '{"expiration_duration_seconds": 60}')
    post = storage_wire.post_to_cdn(HOSTS, upload, 7)
    assert (post.method, post.url) == ("POST", "https://v3.fal.media/files/upload")
    headers = dict(post.headers)
    assert headers.pop("X-Fal-File-Name", None) == whole
    lifecycle = {
        "X-Fal-Object-Lifecycle": upload.lifecycle_json,
        "X-Fal-Object-Lifecycle-Preference": upload.lifecycle_json,
    }
    assert headers == {"Content-Type": "image/png", "Content-Length": "7", **lifecycle}
    begin = storage_wire.begin_at_cdn("https://v3b.fal.media", upload)
    assert (begin.method, begin.url) == ("POST", "https://v3b.fal.media/files/upload/multipart")
    headers = dict(begin.headers)
    assert headers.pop("X-Fal-File-Name") == in_parts
    assert headers == {"Content-Type": "image/png", "Accept": "application/json", **lifecycle}

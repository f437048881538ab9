"""Requests to fal's file storage. Pure: it sends nothing.

It knows the URLs and headers of docs/fal-http-api.md §10. What comes back is storage_answers.py's affair.
"""

import json
from collections.abc import Sequence
from pathlib import PurePosixPath

from falrpc_server.fal_http.models import Upload
from falrpc_server.fal_http.wire import Hosts, Request

__all__ = [
    "begin_at_cdn",
    "cdn_token",
    "complete_parts",
    "initiate",
    "post_to_cdn",
    "put",
    "put_part",
]

_Headers = tuple[tuple[str, str], ...]

_JSON = ("Content-Type", "application/json")
_ACCEPT_JSON = ("Accept", "application/json")


def initiate(hosts: Hosts, upload: Upload, *, in_parts: bool = False) -> Request:
    """Asks where to put a file, or its parts (§10.6, §10.7)."""
    headers: _Headers = (_JSON, _ACCEPT_JSON)
    if upload.lifecycle_json:
        headers += (("X-Fal-Object-Lifecycle", upload.lifecycle_json),)
    body = json.dumps({"content_type": upload.content_type, "file_name": upload.file_name}).encode()
    way = "initiate-multipart" if in_parts else "initiate"
    return Request("POST", f"{hosts.rest}/storage/upload/{way}?storage_type=fal-cdn-v3", headers, body)


def put(upload_url: str, upload: Upload, size: int) -> Request:
    """Puts a file's bytes at the signed URL (§10.6): no credential, no lifecycle header.

    The length is always declared: signed PUTs often refuse chunked bodies.
    """
    return Request("PUT", upload_url, (("Content-Type", upload.content_type), _length(size)))


def put_part(parts_url: str, number: int, size: int) -> Request:
    """Puts a part beside the signed URL (§10.7), or below that of an upload with a token (§10.4)."""
    return Request("PUT", _beside(parts_url, str(number)), (_length(size),))


def complete_parts(parts_url: str, etags: Sequence[str]) -> Request:
    """Makes a file of parts, whose ETags are given in order (§10.4, §10.7)."""
    parts = [{"partNumber": number, "etag": etag} for number, etag in enumerate(etags, 1)]
    return Request("POST", _beside(parts_url, "complete"), (_JSON,), json.dumps({"parts": parts}).encode())


def cdn_token(hosts: Hosts) -> Request:
    """Asks for a token for the CDN (§10.2)."""
    url = f"{hosts.rest}/storage/auth/token?storage_type=fal-cdn-v3"
    return Request("POST", url, (_JSON, _ACCEPT_JSON), b"{}")


def post_to_cdn(hosts: Hosts, upload: Upload, size: int) -> Request:
    """Sends a whole file with a token (§10.3)."""
    headers = _described(upload, upload.file_name if upload.file_name.isascii() else "")
    return Request("POST", f"{hosts.cdn}/files/upload", (*headers, _length(size)))


def begin_at_cdn(base_url: str, upload: Upload) -> Request:
    """Begins a file in parts with a token (§10.4). The file's name can't be left out."""
    plain = "upload" + PurePosixPath(upload.file_name).suffix
    name = next((name for name in (upload.file_name, plain) if name.isascii()), "upload.bin")
    headers = (_ACCEPT_JSON, *_described(upload, name))
    return Request("POST", f"{base_url}/files/upload/multipart", headers, b"")


def _described(upload: Upload, file_name: str) -> _Headers:
    headers: _Headers = (("Content-Type", upload.content_type),)
    if file_name:  # a header takes ASCII only
        headers += (("X-Fal-File-Name", file_name),)
    if upload.lifecycle_json:
        for name in ("X-Fal-Object-Lifecycle", "X-Fal-Object-Lifecycle-Preference"):
            headers += ((name, upload.lifecycle_json),)
    return headers


def _beside(url: str, name: str) -> str:
    path, question, query = url.partition("?")
    return f"{path}/{name}{question}{query}"


def _length(size: int) -> tuple[str, str]:
    return ("Content-Length", str(size))

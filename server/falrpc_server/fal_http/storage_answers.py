"""Answers of fal's file storage, and the URLs in them that may be followed. Pure.

It knows the bodies of docs/fal-http-api.md §10. What is asked is storage_wire.py's affair.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

import msgspec

from falrpc_server.fal_http.answers import Malformed, decode
from falrpc_server.fal_http.wire import Hosts

__all__ = [
    "CdnToken",
    "UploadTarget",
    "host_of",
    "is_upload_url",
    "read_access_url",
    "read_cdn_token",
    "read_cdn_upload",
    "read_part",
    "read_upload_target",
]

URL_CHARACTERS_MAX = 8_192

_URL = re.compile(r"[!-~]+")
_HOST = re.compile(r"[a-z0-9.-]+")
_TOKEN = re.compile(r"[!-~]{1,8192}")
_UPLOAD_ID = re.compile(r"[A-Za-z0-9_=+~-][A-Za-z0-9._=+~-]{0,1023}")


class _TargetBody(msgspec.Struct):
    upload_url: str
    file_url: str


class _PartBody(msgspec.Struct):
    etag: str | None = None


class _TokenBody(msgspec.Struct):
    token: str
    base_url: str
    expires_at: object = None
    created_at: object = None


class _AccessBody(msgspec.Struct):
    access_url: str


class _CdnUploadBody(msgspec.Struct):
    access_url: str
    upload_id: str = msgspec.field(name="uploadId")


@dataclass(frozen=True, slots=True)
class UploadTarget:
    """Where to put a file, and where it can be read then (§10.6).

    Attributes:
        upload_url: The file's or, when it goes in parts, what the parts' URLs are beside.
        file_url: Where it can be read then.
    """

    upload_url: str
    file_url: str


@dataclass(frozen=True, slots=True)
class CdnToken:
    """A credential for the CDN (§10.2).

    Attributes:
        secret: The token.
        base_url: Where files in parts go with it.
        lifetime_seconds: From when it was asked for; 0 when fal does not say.
    """

    secret: str = field(repr=False)
    base_url: str
    lifetime_seconds: float


def read_upload_target(body: bytes) -> UploadTarget:
    """Reads an upload initiation's answer (§10.6). Raises Malformed."""
    answer = decode(body, _TargetBody)
    return UploadTarget(answer.upload_url, _file_url(answer.file_url))


def read_part(body: bytes, headers: Mapping[str, str]) -> str:
    """Reads the ETag of a part that was put: from the body or, where there is none, the header (§10.7).

    Raises Malformed.
    """
    try:
        etag = decode(body, _PartBody).etag
    except Malformed:  # fal's clients read the one or the other, so one of them is enough
        etag = None
    etag = etag or headers.get("etag", "")
    if not etag:
        raise Malformed("a part without an ETag")
    return etag


def read_cdn_token(body: bytes) -> CdnToken:
    """Reads a token's answer (§10.2). Raises Malformed.

    Its lifetime is reckoned with fal's own clock where fal tells what that says.
    """
    answer = decode(body, _TokenBody)
    if not _TOKEN.fullmatch(answer.token):
        raise Malformed("token is none")
    expires_at, created_at = _time(answer.expires_at), _time(answer.created_at) or datetime.now(UTC)
    seconds = (expires_at - created_at).total_seconds() if expires_at else 0.0
    return CdnToken(answer.token, answer.base_url.rstrip("/"), max(0.0, seconds))


def read_access_url(body: bytes) -> str:
    """Reads the URL of a file that was sent with a token (§10.3). Raises Malformed."""
    return _file_url(decode(body, _AccessBody).access_url)


def read_cdn_upload(body: bytes) -> UploadTarget:
    """Reads where the parts of a file go with a token (§10.4). Raises Malformed."""
    answer = decode(body, _CdnUploadBody)
    if not _UPLOAD_ID.fullmatch(answer.upload_id):
        raise Malformed("uploadId is none")
    url = _file_url(answer.access_url)
    if "?" in url:
        raise Malformed("access_url has a query")
    return UploadTarget(f"{url}/multipart/{answer.upload_id}", url)


def is_upload_url(url: str, hosts: Hosts) -> bool:
    """Whether bytes may go there: https (or a loopback address) at a listed host or below it.

    Whatever two readers of a URL could read differently is not allowed.
    """
    if not _URL.fullmatch(url) or "\\" in url or "#" in url or len(url) > URL_CHARACTERS_MAX:
        return False
    try:
        parts, host = urlsplit(url), host_of(url)
        is_usual = parts.port in (None, 443)  # it is read on demand, and may be nonsense
    except ValueError:
        return False
    if not is_usual and not _is_loopback(host):
        return False
    if "@" in parts.netloc or "xn--" in host or not (_HOST.fullmatch(host) or _is_address(host)):
        return False
    listed = any(host == name or host.endswith(f".{name}") for name in hosts.uploads)
    return listed and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)))


def host_of(url: str) -> str:
    """The host name of a URL in lower case, empty when it has none. Raises ValueError for nonsense."""
    return (urlsplit(url).hostname or "").lower()


def _file_url(text: str) -> str:
    try:
        is_url = urlsplit(text).scheme in ("https", "http") and bool(host_of(text))
    except ValueError:
        is_url = False
    if not is_url or not _URL.fullmatch(text) or len(text) > URL_CHARACTERS_MAX:
        raise Malformed("a file's URL is none")
    return text


def _time(value: object) -> datetime | None:
    """A time with an offset; None for anything else."""
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return time if time and time.tzinfo else None


def _is_loopback(host: str) -> bool:
    """Whether a URL's host name is this machine: the only place where plain http is fit for a credential."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

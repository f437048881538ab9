"""Uploads as values: fal's storage without a network, for tests of what no client does."""

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from falrpc_server.emulator.answers import Answer
from falrpc_server.emulator.clock import Clock
from falrpc_server.emulator.files.storage import Storage
from falrpc_server.emulator.files.uploads import Uploads
from falrpc_server.emulator.ids import Ids
from falrpc_server.emulator.keys import Keys
from falrpc_server.emulator.routes import Bases, Incoming, target_of

REST = "https://rest.fal.ai/storage"
CDN = "https://v3.fal.media"
FAL = "?storage_type=fal-cdn-v3"
DAY = 86_400


class Fal:
    """fal's storage without a network: each call is a request to Uploads."""

    def __init__(
        self,
        *,
        gcs: bool = False,
        speed: float = 1e-6,
        seed: int | None = None,
        key: str | None = None,
    ) -> None:
        self.clock = Clock(speed)
        ids = Ids(seed)
        self._uploads = Uploads(Storage(self.clock, ids), self.clock, ids, Keys(key), gcs=gcs)

    def call(
        self, method: str, url: str, body: Any = b"", user: str = "me", **headers: str
    ) -> tuple[int, Any, Answer]:
        """Status, body and answer of a call. Header names have _ for -; a body may be a value for JSON."""
        parts = urlsplit(url)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"content-length": str(len(content))}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        target = target_of(method, parts.path, parts.netloc)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        bases = Bases("https://queue.fal.run", CDN, CDN)
        answer = self._uploads.answer(Incoming(target, given, query, content, bases), user)
        is_json = answer.headers.get("content-type") == "application/json"
        return answer.status, json.loads(answer.body) if is_json else answer.body, answer

    def token(self, user: str = "me", **asked: Any) -> str:
        """The Authorization header with a CDN token."""
        status, body, _ = self.call("POST", f"{REST}/auth/token{FAL}", asked, user)
        assert status == 200, body
        return f"Bearer {body['token']}"

    def upload(self, data: bytes, user: str = "me", **headers: str) -> str:
        """Uploads a file with a CDN token and returns its URL."""
        token = self.token(user)
        status, body, _ = self.call("POST", f"{CDN}/files/upload", data, authorization=token, **headers)
        assert status == 200, body
        return str(body["access_url"])

    def start(self, way: str, name: str = "a b.bin", content_type: str = "video/mp4") -> "Parts":
        """Begins an upload in parts: `cdn` with a token (§10.4), `signed` with a key (§10.7)."""
        if way == "cdn":
            headers = {"authorization": self.token(), "content_type": content_type, "x_fal_file_name": name}
            status, body, _ = self.call("POST", f"{CDN}/files/upload/multipart", **headers)
            assert status == 200, body
            url = body["access_url"]
            return Parts(self, url, f"{url}/multipart/{body['uploadId']}", "", headers["authorization"])
        asked = {"file_name": name, "content_type": content_type}
        status, body, _ = self.call("POST", f"{REST}/upload/initiate-multipart{FAL}", asked)
        assert status == 200, body
        url, _, query = body["upload_url"].partition("?")
        return Parts(self, body["file_url"], url, f"?{query}", "")


class Parts:
    """An upload in parts that has begun."""

    def __init__(self, fal: Fal, url: str, base: str, query: str, authorization: str) -> None:
        self._fal = fal
        self.url = url
        self.base = base
        self.query = query
        self.headers = {"authorization": authorization} if authorization else {}

    def put(self, number: Any, data: bytes) -> tuple[int, Any, Answer]:
        """Uploads a part."""
        return self._fal.call("PUT", f"{self.base}/{number}{self.query}", data, **self.headers)

    def complete(self, body: Any) -> tuple[int, Any, Answer]:
        """Sends the list of parts."""
        return self._fal.call("POST", f"{self.base}/complete{self.query}", body, **self.headers)

    def download(self) -> tuple[int, Any, Answer]:
        """Reads the file."""
        return self._fal.call("GET", self.url)


def listed(*parts: tuple[int, Answer]) -> dict[str, Any]:
    """The list of parts, with the ETags as they came in the headers."""
    return {"parts": [{"partNumber": number, "etag": answer.headers["etag"]} for number, answer in parts]}

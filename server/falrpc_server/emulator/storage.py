"""fal's file storage: upload targets, signed PUTs, downloads (docs/fal-http-api.md §10.6, §10.10)."""

import base64
import json
import secrets
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from falrpc_server.emulator.answers import Answer, detail, json_answer

__all__ = ["File", "Storage"]

FILES_MAX = 5_000
FILES_BYTES_MAX = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class File:
    """A stored file."""

    name: str
    content_type: str
    data: bytes


class Storage:
    """Files by path. Keeps the newest ones."""

    def __init__(self) -> None:
        self.base = ""
        """URL of the CDN, known once the server listens."""
        self._files: dict[bytes, File] = {}
        self._files_bytes = 0
        self._awaited: dict[str, tuple[str, str]] = {}

    def add(self, name: str, content_type: str, data: bytes) -> str:
        """Stores a file and returns its URL."""
        return self._keep(self._new_path(name), File(name, content_type, data))

    def by_url(self, url: str) -> File | None:
        """The file at one of our own URLs, or in a data URI; None for any other URL."""
        if url.startswith("data:"):
            head, _, payload = url[5:].partition(",")
            content_type, _, encoding = head.partition(";")
            try:
                is_base64 = "base64" in encoding
                data = base64.b64decode(payload, validate=True) if is_base64 else unquote_to_bytes(payload)
            except ValueError:
                return None
            return File("data", content_type, data)
        return self._files.get(_key(url.removeprefix(f"{self.base}/"))) if self.is_own(url) else None

    def is_own(self, url: str) -> bool:
        """Whether the URL is ours, whether or not there is a file."""
        return url.startswith((f"{self.base}/", "data:"))

    def initiate(self, query: dict[str, str], body: bytes) -> Answer:
        """`POST /storage/upload/initiate` (§10.6)."""
        if query.get("storage_type") != "fal-cdn-v3":
            return detail(400, "Invalid storage type")
        try:
            asked = json.loads(body)
            name = str(asked.get("file_name") or "upload.bin")
            content_type = str(asked.get("content_type") or "application/octet-stream")
        except (ValueError, AttributeError, RecursionError):
            return detail(422, [{"type": "json_invalid", "loc": ["body"], "msg": "JSON decode error"}])
        path, token = self._new_path(name), secrets.token_hex(12)
        self._awaited[token] = (path, content_type)
        while len(self._awaited) > FILES_MAX:
            del self._awaited[next(iter(self._awaited))]
        url = f"{self.base}/{path}"
        return json_answer({"upload_url": f"{url}?signature={token}", "file_url": url})

    def put(self, path: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> Answer:
        """The signed PUT (§10.6): it wants a length and the type that was announced."""
        awaited = self._awaited.get(query.get("signature", ""))
        if awaited is None or _key(awaited[0]) != _key(path):
            return detail(403, "Signature does not match")
        if "content-length" not in headers:
            return detail(411, "Length required")
        if headers.get("content-type") != awaited[1]:
            return detail(403, "Content type does not match")
        del self._awaited[query["signature"]]
        self._keep(path, File(path.rpartition("/")[2], awaited[1], body))
        return Answer(200, b"", {"etag": f'"{secrets.token_hex(8)}"'})

    def get(self, path: str) -> Answer:
        """A download."""
        file = self._files.get(_key(path))
        if file is None:
            return detail(404, "Not Found")
        return Answer(200, file.data, {"content-type": file.content_type})

    def _new_path(self, name: str) -> str:
        encoded = quote(name, safe="", errors="replace") if name.strip(".") else "upload.bin"
        return f"files/b/{secrets.token_hex(6)}/{encoded}"

    def _keep(self, path: str, file: File) -> str:
        self._files[_key(path)] = file
        self._files_bytes += len(file.data)
        while len(self._files) > FILES_MAX or self._files_bytes > FILES_BYTES_MAX:
            self._files_bytes -= len(self._files.pop(next(iter(self._files))).data)
        return f"{self.base}/{path}"


def _key(path: str) -> bytes:
    """What is the same for all spellings of a path: clients escape more or less of it."""
    return unquote_to_bytes(path.encode("utf-8", "replace"))

"""fal's uploads: CDN tokens, signed URLs, whole files and files in parts (docs/fal-http-api.md §10.1-10.8).

It knows what each of the ways to upload asks and answers; storage.py knows the files, credentials.py whose
tokens are good.
"""

import hashlib
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from falrpc_server.emulator.answers import Answer, AppError, EventStream, detail, json_answer
from falrpc_server.emulator.clock import Clock
from falrpc_server.emulator.files.blobs import Blob
from falrpc_server.emulator.files.bodies import parts_problem, read_object, read_seconds, read_text, refuse
from falrpc_server.emulator.files.credentials import Credentials
from falrpc_server.emulator.files.storage import (
    DEFAULT_NAME,
    DEFAULT_TYPE,
    File,
    Lifecycle,
    Storage,
    path_key,
)
from falrpc_server.emulator.ids import Ids
from falrpc_server.emulator.keys import Keys
from falrpc_server.emulator.routes import Incoming

__all__ = ["Uploads"]

UPLOADS_MAX = 5_000
PARTS_BYTES_MAX = 8 * 1024**3
PART_NUMBER_MAX = 10_000
TOKEN_SECONDS_MAX = 30 * 86_400
SIGNED_URL_SECONDS_MAX = 7 * 86_400
REAL_SECONDS_MAX = 1e9  # what a slow clock makes of a lifetime must still be a date


@dataclass(slots=True)
class _Upload:
    """A file that is awaited.

    Attributes:
        secret: Its signature or upload id.
        started_by: The operation that asked for it: no other's secret is good.
        path: Where the file will be.
        file: The file, still without data.
        parts: ETag and data by number.
        is_complete: Whether the parts have been joined; their data is gone then.
    """

    secret: str
    started_by: str
    path: str
    file: File
    parts: dict[int, tuple[str, Blob]] = field(default_factory=dict)
    is_complete: bool = False

    def size_bytes(self) -> int:
        """How much its parts hold."""
        return sum(len(data) for _, data in self.parts.values())


class Uploads:
    """Answers what fal's rest host and CDN are asked about files."""

    def __init__(self, storage: Storage, clock: Clock, ids: Ids, keys: Keys, *, gcs: bool) -> None:
        """Begins without uploads.

        Args:
            storage: Where files go.
            clock: What ends tokens and signed URLs.
            ids: Where secrets come from.
            keys: Whose keys are good.
            gcs: Whether the legacy `storage_type=gcs` still works (§10.5).
        """
        self._storage = storage
        self._clock = clock
        self._ids = ids
        self._storage_types = ("fal-cdn-v3", "gcs") if gcs else ("fal-cdn-v3",)
        self._credentials = Credentials(clock, ids, keys)
        self._uploads: dict[str, _Upload] = {}
        self._parts_bytes = 0

    def answer(self, incoming: Incoming, user: str) -> Answer | EventStream:
        """Answers an operation on files: `upload_*`, `cdn_*` or `download`.

        Args:
            incoming: The request.
            user: The id of the key, which was checked where the operation needs one.
        """
        try:
            return self._answer(incoming, user)
        except AppError as error:
            return error.answer

    def _answer(self, incoming: Incoming, user: str) -> Answer | EventStream:
        match incoming.target.operation:
            case "upload_token":
                return self._token(incoming, user)
            case "upload_initiate" | "upload_initiate_multipart":
                return self._initiate(incoming, user)
            case "upload_put":
                return self._put(incoming)
            case "upload_part" | "cdn_part":
                return self._part(incoming)
            case "upload_complete" | "cdn_complete":
                return self._complete(incoming)
            case "cdn_upload":
                return self._cdn_upload(incoming)
            case "cdn_multipart":
                return self._cdn_multipart(incoming)
            case "cdn_sign":
                return self._sign(incoming)
        path = incoming.target.path
        users = self._credentials.readers(incoming.headers, incoming.query, path_key(path))
        return self._storage.get(path, users)

    def _token(self, incoming: Incoming, user: str) -> Answer:
        """A CDN token (§10.2). Python's client needs the offset in its dates."""
        if incoming.query.get("storage_type") != "fal-cdn-v3":
            return detail(400, "Invalid storage type")
        asked = read_object(incoming.body or b"{}")
        seconds = read_seconds(asked, "expiration_seconds", TOKEN_SECONDS_MAX)
        token = self._credentials.issue(user, seconds)
        created_at = datetime.now(UTC)
        real_seconds = min(self._clock.real(seconds), REAL_SECONDS_MAX)
        return json_answer(
            {
                "token": token,
                "token_type": "Bearer",
                "base_url": incoming.bases.token_cdn,
                "expires_at": (created_at + timedelta(seconds=real_seconds)).isoformat(),
                "created_at": created_at.isoformat(),
            }
        )

    def _initiate(self, incoming: Incoming, user: str) -> Answer:
        """A signed URL for a file, or for its parts (§10.5-10.7)."""
        if incoming.query.get("storage_type") not in self._storage_types:
            return detail(400, "Invalid storage type")
        asked = read_object(incoming.body)
        name = read_text(asked, "file_name", DEFAULT_NAME)
        content_type = read_text(asked, "content_type", DEFAULT_TYPE)
        upload = self._await(
            incoming, File(name, content_type, Blob(), Lifecycle.read(incoming.headers), user)
        )
        url = f"{incoming.bases.cdn}/{upload.path}"
        return json_answer({"upload_url": f"{url}?signature={upload.secret}", "file_url": url})

    def _put(self, incoming: Incoming) -> Answer:
        """The signed PUT (§10.6): it wants a length and the announced type, as such URLs do elsewhere.

        The same again stores the file again: the first answer may have been lost.

        An API key that comes along has no say: Python's client sends it here, too (§10.5).
        """
        upload = self._signed(incoming, incoming.target.path, "upload_initiate")
        if "content-length" not in incoming.headers:
            return detail(411, "Length required")
        if incoming.headers.get("content-type") != upload.file.content_type:
            return detail(403, "Content type does not match")
        self._storage.keep(upload.path, replace(upload.file, data=Blob(incoming.body)))
        return Answer(200, b"", {"etag": f'"{_etag(incoming.body)}"'})

    def _cdn_upload(self, incoming: Incoming) -> Answer:
        """A whole file in one call with a CDN token (§10.3)."""
        file = self._announced(incoming)
        path = self._storage.add(file.name, file.content_type, incoming.body, file.lifecycle, file.owner)
        return json_answer({"access_url": f"{incoming.bases.cdn}/{path}"})

    def _cdn_multipart(self, incoming: Incoming) -> Answer:
        """The start of a file in parts with a CDN token (§10.4)."""
        upload = self._await(incoming, self._announced(incoming))
        access_url = f"{incoming.bases.cdn}/{upload.path}"
        return json_answer({"access_url": access_url, "uploadId": upload.secret})

    def _part(self, incoming: Incoming) -> Answer:
        """A part, in any order; the same number again replaces it.

        The ETag is in header and body: Python's client reads the one, JavaScript's the other (§10.4, §10.7).
        """
        upload_path, _, text = incoming.target.path.rpartition("/")
        upload = self._in_parts(incoming, upload_path)
        number = int(text) if re.fullmatch("[0-9]{1,9}", text) else 0
        if not 1 <= number <= PART_NUMBER_MAX:
            return detail(400, f"A part's number is from 1 to {PART_NUMBER_MAX}")
        if upload.is_complete:
            return detail(400, "The upload is complete")
        self._forget(upload)
        etag = _etag(incoming.body)
        upload.parts[number] = (etag, Blob(incoming.body))
        self._remember(upload)
        if upload.secret not in self._uploads:
            return detail(413, "The upload is too large")
        return json_answer({"partNumber": number, "etag": etag}, headers={"etag": f'"{etag}"'})

    def _complete(self, incoming: Incoming) -> Answer:
        """Joins the parts, which may be listed in any order (§10.4).

        The same list again is answered the same and changes nothing: the first answer may have been lost.
        """
        upload = self._in_parts(incoming, incoming.target.path.removesuffix("/complete"))
        etags = {number: etag for number, (etag, _) in upload.parts.items()}
        if problem := parts_problem(incoming.body, etags):
            return detail(400, problem)
        if not upload.is_complete:
            self._forget(upload)
            data = Blob.joined(upload.parts[number][1] for number in sorted(upload.parts))
            self._storage.keep(upload.path, replace(upload.file, data=data))
            upload.parts, upload.is_complete = {number: (etags[number], Blob()) for number in etags}, True
            self._remember(upload)
        return json_answer({"access_url": f"{incoming.bases.cdn}/{upload.path}"})

    def _sign(self, incoming: Incoming) -> Answer:
        """A URL that lets whoever has it read its owner's file for some time (§10.8)."""
        user, path = self._credentials.bearer(incoming.headers), incoming.target.path.removesuffix("/sign")
        file = self._storage.find(path)
        if file is None or file.decision([user]) == "hide":
            return detail(404, "Not Found")
        if file.owner != user:
            return detail(403, "Forbidden")
        asked = read_object(incoming.body or b"{}")
        if asked.get("scope", ["read"]) != ["read"]:
            refuse("scope", "Input should be ['read']", "literal_error")
        seconds = read_seconds(asked, "duration", SIGNED_URL_SECONDS_MAX)
        identity = self._credentials.issue(user, seconds, path_key(path))
        url = f"{incoming.bases.cdn}/{path}?identity={identity}"
        return Answer(200, url.encode(), {"content-type": "text/plain; charset=utf-8"})

    def _announced(self, incoming: Incoming) -> File:
        """The file that the headers of an upload with a CDN token describe (§10.3)."""
        user, headers = self._credentials.bearer(incoming.headers), incoming.headers
        name = headers.get("x-fal-file-name") or DEFAULT_NAME
        return File(name, headers.get("content-type") or DEFAULT_TYPE, Blob(), Lifecycle.read(headers), user)

    def _await(self, incoming: Incoming, file: File) -> _Upload:
        path = self._storage.new_path(file.name)
        upload = _Upload(self._ids.token(), incoming.target.operation, path, file)
        self._remember(upload)
        return upload

    def _remember(self, upload: _Upload) -> None:
        """Makes an upload the newest one. The oldest ones make room."""
        self._uploads[upload.secret] = upload
        self._parts_bytes += upload.size_bytes()
        while len(self._uploads) > UPLOADS_MAX or self._parts_bytes > PARTS_BYTES_MAX:
            self._forget(next(iter(self._uploads.values())))

    def _forget(self, upload: _Upload) -> None:
        del self._uploads[upload.secret]
        self._parts_bytes -= upload.size_bytes()

    def _in_parts(self, incoming: Incoming, path: str) -> _Upload:
        """The upload that a part or a list of parts is for. Raises AppError."""
        if incoming.target.operation.startswith("upload_"):
            return self._signed(incoming, path, "upload_initiate_multipart")
        user = self._credentials.bearer(incoming.headers)
        path, _, upload_id = path.rpartition("/multipart/")
        upload = self._uploads.get(upload_id)
        if upload is None or not _is_for(upload, path, "cdn_multipart") or upload.file.owner != user:
            raise AppError(detail(404, "Upload not found"))
        return upload

    def _signed(self, incoming: Incoming, path: str, started_by: str) -> _Upload:
        """The upload of a signed URL. Raises AppError: 403 for another path or a used signature."""
        upload = self._uploads.get(incoming.query.get("signature", ""))
        if upload is None or not _is_for(upload, path, started_by):
            raise AppError(detail(403, "Signature does not match"))
        return upload


def _is_for(upload: _Upload, path: str, started_by: str) -> bool:
    return upload.started_by == started_by and path_key(upload.path) == path_key(path)


def _etag(data: bytes) -> str:
    """The same for the same bytes, so that a repeated part keeps its ETag."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()

"""fal's stored files: how long they live and who may read them (docs/fal-http-api.md §10.8, §10.10).

It takes files as values and knows nothing of how they are uploaded.
"""

import base64
import json
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard
from urllib.parse import quote, unquote_to_bytes

from falrpc_server.emulator.answers import Answer, EventStream, detail, header_problem
from falrpc_server.emulator.clock import Clock
from falrpc_server.emulator.files.blobs import Blob
from falrpc_server.emulator.ids import Ids
from falrpc_server.emulator.routes import is_own_path

__all__ = ["File", "Lifecycle", "Storage", "path_key"]

FILES_MAX = 5_000
FILES_BYTES_MAX = 8 * 1024**3
WHOLE_BYTES_MAX = 16 * 1024 * 1024  # larger files are sent piece by piece
NAME_CHARACTERS_MAX = 255
LIFECYCLE_HEADERS = ("x-fal-object-lifecycle", "x-fal-object-lifecycle-preference")
LIFETIME_SECONDS_MAX = 1e12  # far above any use, and still exact as a float
DECISIONS = ("hide", "forbid", "allow")  # the later, the more permissive
DEFAULT_NAME = "upload.bin"
DEFAULT_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """How long a file lives and who may read it (§10.8).

    Attributes:
        expires_after_seconds: Emulated seconds until the file is gone; None keeps it.
        default: What readers are told for whom there is no rule: allow, forbid or hide.
        rules: Users and what they are told.
    """

    expires_after_seconds: float | None = None
    default: str = "allow"
    rules: tuple[tuple[str, str], ...] = ()

    @classmethod
    def read(cls, headers: Mapping[str, str]) -> "Lifecycle":
        """Reads the header, under either of its names. What is malformed in it has no effect (§10.8)."""
        text = next((headers[name] for name in LIFECYCLE_HEADERS if name in headers), "{}")
        try:
            asked = json.loads(text)
        except (ValueError, RecursionError):
            return cls()
        if not isinstance(asked, dict):
            return cls()
        acl = asked.get("initial_acl")
        if not isinstance(acl, dict):
            acl = {}
        default, rules = acl.get("default"), acl.get("rules")
        return cls(
            _lifetime(asked.get("expiration_duration_seconds")),
            default if _is_decision(default) else "allow",
            tuple(filter(None, map(_rule, rules))) if isinstance(rules, list) else (),
        )

    def decision(self, users: Collection[str]) -> str:
        """What a reader with these identities is told: the most permissive of their decisions (§10.8)."""
        known = {user for user, _ in self.rules}
        told = [decision for user, decision in self.rules if user in users]
        if not users or any(user not in known for user in users):
            told.append(self.default)
        return max(told, key=DECISIONS.index)


@dataclass(frozen=True, slots=True)
class File:
    """A stored file.

    Attributes:
        name: As its owner calls it.
        content_type: Its media type.
        data: Its bytes.
        lifecycle: How long it lives and who may read it.
        owner: The id of the key whose file it is; empty when it is nobody's.
        expires_at: When it is gone, in emulated seconds; None when it stays.
    """

    name: str
    content_type: str
    data: Blob
    lifecycle: Lifecycle = Lifecycle()
    owner: str = ""
    expires_at: float | None = None

    def decision(self, users: Collection[str]) -> str:
        """What a reader with these identities is told. The owner is always allowed (§10.8)."""
        return "allow" if self.owner and self.owner in users else self.lifecycle.decision(users)


class Storage:
    """Files by path. Keeps the newest ones."""

    def __init__(self, clock: Clock, ids: Ids) -> None:
        self._clock = clock
        self._ids = ids
        self._files: dict[bytes, File] = {}
        self._files_bytes = 0

    def new_path(self, name: str) -> str:
        """A path for a new file: `files/b/TOKEN/NAME`. Of a long name only the end is in it."""
        name = name[-NAME_CHARACTERS_MAX:]
        encoded = quote(name, safe="", errors="replace") if name.strip(".") else DEFAULT_NAME
        return f"files/b/{self._ids.token(6)}/{encoded}"

    def add(
        self,
        name: str,
        content_type: str,
        data: bytes,
        lifecycle: Lifecycle = Lifecycle(),
        owner: str = "",
    ) -> str:
        """Stores a file and returns its path."""
        path = self.new_path(name)
        self.keep(path, File(name, content_type, Blob(data), lifecycle, owner))
        return path

    def keep(self, path: str, file: File) -> None:
        """Stores a file at its path; its life begins now. The oldest files make room for it."""
        if file.expires_at is None and file.lifecycle.expires_after_seconds is not None:
            expires_at = self._clock.now() + file.lifecycle.expires_after_seconds
            file = replace(file, expires_at=expires_at)
        self._drop(path_key(path))
        self._files[path_key(path)] = file
        self._files_bytes += len(file.data)
        while len(self._files) > FILES_MAX or self._files_bytes > FILES_BYTES_MAX:
            self._drop(next(iter(self._files)))

    def by_url(self, url: str, owner: str) -> File | None:
        """The file at one of our own URLs, or in a data URI.

        Args:
            url: Any URL; its host doesn't matter, as we have several names.
            owner: The id of the key of whoever reads.

        Returns:
            The file; None when it isn't here, has expired, or may not be read.
        """
        if url.startswith("data:"):
            return _from_data_uri(url)
        path = is_own_path(url)
        file = self.find(path) if path else None
        is_readable = file is not None and file.decision([owner] if owner else []) == "allow"
        return file if is_readable else None

    def find(self, path: str) -> File | None:
        """The file at a path, whoever may read it; None when there is none or it has expired."""
        key = path_key(path)
        file = self._files.get(key)
        if file and file.expires_at is not None and file.expires_at <= self._clock.now():
            self._drop(key)
            return None
        return file

    def get(self, path: str, users: Collection[str]) -> Answer | EventStream:
        """A download by a reader with these identities, none for an anonymous one (§10.8)."""
        file = self.find(path)
        decision = file.decision(users) if file else "hide"
        if file is None or decision == "hide":
            return detail(404, "Not Found")
        if decision == "forbid":
            return detail(403, "Forbidden")
        headers = {"content-type": file.content_type}
        # A multipart upload announces its type in JSON, which may hold what no header can.
        if header_problem(headers):
            headers = {"content-type": DEFAULT_TYPE}
        if len(file.data) <= WHOLE_BYTES_MAX:
            return Answer(200, bytes(file.data), headers)
        return EventStream(_pieces(file.data), {**headers, "content-length": str(len(file.data))})

    def _drop(self, key: bytes) -> None:
        file = self._files.pop(key, None)
        self._files_bytes -= len(file.data) if file else 0


def path_key(path: str) -> bytes:
    """What is the same for all spellings of a path: clients escape more or less of it."""
    return unquote_to_bytes(path.encode("utf-8", "replace"))


def _from_data_uri(url: str) -> File | None:
    """The file in a data URI (§10.9); None when it can't be decoded."""
    head, _, payload = url[5:].partition(",")
    content_type, _, encoding = head.partition(";")
    try:
        data = unquote_to_bytes(payload)
        data = base64.b64decode(data, validate=True) if "base64" in encoding else data
    except ValueError:
        return None
    return File("data", content_type or "text/plain", Blob(data))


async def _pieces(data: Blob) -> AsyncIterator[bytes]:
    for piece in data.pieces():
        yield piece


def _lifetime(seconds: Any) -> float | None:
    """Seconds until a file expires. The backend takes 0 and null as no expiry (§10.8)."""
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    return float(seconds) if is_number and 0 < seconds <= LIFETIME_SECONDS_MAX else None


def _rule(rule: Any) -> tuple[str, str] | None:
    if not isinstance(rule, dict):
        return None
    user, decision = rule.get("user"), rule.get("decision")
    return (user, decision) if isinstance(user, str) and user and _is_decision(decision) else None


def _is_decision(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and value in DECISIONS

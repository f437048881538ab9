"""Who a request to the CDN comes from: tokens and signed URLs (docs/fal-http-api.md §10.2, §10.8).

It knows whose rights a secret gives and for how long, and nothing of files.
"""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from falrpc_server.emulator.answers import AppError, detail
from falrpc_server.emulator.clock import Clock
from falrpc_server.emulator.ids import Ids
from falrpc_server.emulator.keys import Keys

__all__ = ["Credentials"]

CREDENTIALS_MAX = 5_000

_BEARER = re.compile(r"(?i:bearer) +(\S+)")


@dataclass(frozen=True, slots=True)
class _Credential:
    """What a secret stands for.

    Attributes:
        user: Whose rights it gives: the id of a key.
        expires_at: Emulated seconds.
        path: The key of the only path that it opens; empty for a token, which opens all.
    """

    user: str
    expires_at: float
    path: bytes


class Credentials:
    """CDN tokens, and the identities in signed URLs. Keeps the newest ones."""

    def __init__(self, clock: Clock, ids: Ids, keys: Keys) -> None:
        self._clock = clock
        self._keys = keys
        self._ids = ids
        self._known: dict[str, _Credential] = {}

    def issue(self, user: str, seconds: float, path: bytes = b"") -> str:
        """A new secret.

        Args:
            user: Whose rights it gives.
            seconds: How long, in emulated seconds.
            path: The key of the only path that it opens; empty for a token.
        """
        secret = self._ids.token(24)
        self._known[secret] = _Credential(user, self._clock.now() + seconds, path)
        while len(self._known) > CREDENTIALS_MAX:
            del self._known[next(iter(self._known))]
        return secret

    def bearer(self, headers: Mapping[str, str]) -> str:
        """Whose CDN token came. Raises AppError: 401 without a good one."""
        match = _BEARER.fullmatch(headers.get("authorization", ""))
        user = self._user(match[1]) if match else None
        if user is None:
            raise AppError(detail(401, "Invalid or expired token"))
        return user

    def readers(self, headers: Mapping[str, str], query: Mapping[str, str], path: bytes) -> set[str]:
        """The identities that come with a download; a secret that is no good there adds none (§10.8)."""
        authorization = headers.get("authorization", "")
        bearer = _BEARER.fullmatch(authorization)
        users = {
            self._key_id(authorization),
            self._user(bearer[1]) if bearer else None,
            self._user(query.get("identity", ""), path),
        }
        return {user for user in users if user}

    def _key_id(self, authorization: str) -> str | None:
        with contextlib.suppress(AppError):
            return self._keys.user(authorization)
        return None

    def _user(self, secret: str, path: bytes = b"") -> str | None:
        known = self._known.get(secret)
        is_good = known is not None and known.path == path and known.expires_at > self._clock.now()
        return known.user if known and is_good else None

"""Static tokens of callers: a file of their hashes, and whose a token is. Pure.

    [[tokens]]
    identity = "team/backend"
    sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    expires = 2027-01-31

A token is random, so that its plain SHA-256 gives nothing away; one that a person made up would be guessed.
"""

import datetime
import hashlib
import hmac
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from falrpc_server.access.identities import identity_problem, unproven

__all__ = ["TOKEN_CHARACTERS_MIN", "Tokens", "TokensError", "entry"]

TOKEN_CHARACTERS_MIN = 16

_HASH = re.compile("[0-9a-f]{64}", re.ASCII | re.IGNORECASE)
_KEYS = ("identity", "sha256", "expires")


class TokensError(Exception):
    """A file of tokens that is not right.

    Attributes:
        problems: Everything that is wrong with it, a sentence each.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class _Entry:
    identity: str
    digest: bytes
    expires: float | None  # seconds since 1970


class Tokens:
    """The tokens of a file.

    Attributes:
        expired: Whose tokens counted no more when the file was read.
    """

    def __init__(self, entries: list[_Entry], now: float) -> None:
        self._entries = tuple(entries)
        self.expired = tuple(e.identity for e in entries if e.expires is not None and e.expires <= now)

    def __len__(self) -> int:
        return len(self._entries)

    @classmethod
    def read(cls, text: str, path: str, now: float) -> "Tokens":
        """Reads a file's text. Raises TokensError with everything that is wrong.

        Args:
            text: TOML.
            path: The file's, for the problems.
            now: Seconds since 1970.
        """
        try:
            table = tomllib.loads(text)
        except (ValueError, RecursionError) as error:  # the first is also for numbers of thousands of digits
            raise TokensError([f"{path}: is not TOML: {error}"]) from None
        problems = [f"{path}: {key}: is no key here; `tokens` is" for key in table if key != "tokens"]
        listed = table.get("tokens", [])
        if not isinstance(listed, list) or not listed:
            problems.append(f"{path}: tokens: must be at least one [[tokens]]")
            listed = []
        entries: list[_Entry] = []
        places: dict[bytes, int] = {}
        for number, value in enumerate(listed):
            place = f"{path}: tokens[{number}]"
            try:
                read = _entry(value, place)
            except TokensError as error:
                problems += error.problems
                continue
            if (first := places.setdefault(read.digest, number)) != number:
                problems.append(f"{place}.sha256: is the same as that of tokens[{first}]")
            entries.append(read)
        if problems:
            raise TokensError(problems)
        return cls(entries, now)

    def identity(self, token: str, now: float) -> str:
        """Whose token it is. Raises Refusal.

        Args:
            token: What the caller sent.
            now: Seconds since 1970.
        """
        if len(token) < TOKEN_CHARACTERS_MIN:
            raise unproven(f"the token is shorter than {TOKEN_CHARACTERS_MIN} characters")
        digest = hashlib.sha256(token.encode()).digest()
        found: _Entry | None = None
        for one in self._entries:  # all of them, so that the time does not tell how many came before
            if hmac.compare_digest(one.digest, digest):
                found = one
        if found is None:
            raise unproven("the token is not known")
        if found.expires is not None and found.expires <= now:
            raise unproven(f"the token of {found.identity} has expired")
        return found.identity


def entry(token: str, identity: str, expires: datetime.date | None = None) -> str:
    """The lines of a new token's entry.

    Raises ValueError when the file would not be right with them.
    """
    if len(token) < TOKEN_CHARACTERS_MIN:
        raise ValueError(f"a token must have {TOKEN_CHARACTERS_MIN} characters or more")
    if problem := identity_problem(identity):
        raise ValueError(f"the identity {problem}")
    lines = [
        "[[tokens]]",
        f"identity = {json.dumps(identity)}",  # printable ASCII: TOML escapes it in the same way
        f'sha256 = "{hashlib.sha256(token.encode()).hexdigest()}"',
    ]
    if expires is not None:
        _moment(expires)
        lines.append(f"expires = {expires.isoformat()}")
    return "\n".join(lines) + "\n"


def _entry(value: Any, place: str) -> _Entry:
    """One entry. Raises TokensError."""
    if not isinstance(value, Mapping):
        raise TokensError([f"{place}: must be a table"])
    problems = [f"{place}.{key}: is no key here; {', '.join(_KEYS)} are" for key in value if key not in _KEYS]
    identity, digest, expires = (value.get(key) for key in _KEYS)
    if "identity" not in value:
        problems.append(f"{place}.identity: is missing")
    elif problem := identity_problem(identity):
        problems.append(f"{place}.identity: {problem}")
    if "sha256" not in value:
        problems.append(f"{place}.sha256: is missing")
    elif not isinstance(digest, str) or not _HASH.fullmatch(digest):
        problems.append(f"{place}.sha256: must be 64 hexadecimal digits")
    moment = None
    if "expires" in value:
        try:
            moment = _moment(expires)
        except ValueError as error:
            problems.append(f"{place}.expires: {error}")
    if problems:
        raise TokensError(problems)
    return _Entry(str(identity), bytes.fromhex(str(digest)), moment)


def _moment(value: Any) -> float:
    """From when on a token does not count: a day begins at midnight UTC. Raises ValueError."""
    if isinstance(value, datetime.datetime):
        if value.utcoffset() is None:
            raise ValueError("must have a time zone: 2027-01-31T12:00:00Z")
        return value.timestamp()
    if isinstance(value, datetime.date):
        return datetime.datetime(value.year, value.month, value.day, tzinfo=datetime.UTC).timestamp()
    raise ValueError(
        "must be a date such as 2027-01-31, or a time with its zone such as 2027-01-31T12:00:00Z"
    )

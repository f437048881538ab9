"""fal accounts: whose money an exchange spends. Pure."""

import hashlib

__all__ = ["Account", "key_problem"]

SECRET_CHARACTERS_MIN = 8  # shorter ones, as in tests, would be found in ordinary words
KEY_CHARACTERS_MAX = 512


class Account:
    """One account, by its key. The key may be replaced: requests on their way keep the one they left with.

    Attributes:
        id: Tells it apart from others, and says nothing about the key.
        is_callers: Whether a caller sent the key: then it is the caller who is told when fal refuses it.
    """

    __slots__ = ("_credential", "_secrets", "id", "is_callers")

    def __init__(self, account_id: str, key: str, *, is_callers: bool = False) -> None:
        self.id = account_id
        self.is_callers = is_callers
        self._secrets: tuple[str, ...] = ()
        self.replace_key(key)

    @classmethod
    def of_caller(cls, key: str) -> "Account":
        """The account of a key that a caller sent."""
        return cls(f"caller:{hashlib.sha256(key.encode()).hexdigest()}", key, is_callers=True)

    def replace_key(self, key: str) -> None:
        """From the next request on another key is used."""
        parts = (key, key.partition(":")[2])
        known = [part for part in parts if len(part) >= SECRET_CHARACTERS_MIN]
        # Answers may still repeat the old one.
        self._secrets = tuple(dict.fromkeys([*known, *self._secrets[:2]]))
        self._credential = (("Authorization", f"Key {key}"),)

    @property
    def credential(self) -> tuple[tuple[str, str], ...]:
        """The headers that prove it to fal (docs/fal-http-api.md §2)."""
        return self._credential

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not get into texts: the key, and its secret half."""
        return self._secrets

    def __repr__(self) -> str:
        return f"Account({self.id!r})"


def key_problem(key: str) -> str:
    """What is wrong with the text of a key, or nothing."""
    if not key:
        return "is empty"
    if not key.isascii() or not key.isprintable() or " " in key:
        return "must be printable ASCII without spaces"
    if len(key) > KEY_CHARACTERS_MAX:
        return f"must be at most {KEY_CHARACTERS_MAX} characters long"
    return ""

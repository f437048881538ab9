"""fal keys: whose they are, and how fal refuses them (docs/fal-http-api.md §2)."""

import re

from falrpc_server.emulator.answers import AppError
from falrpc_server.emulator.failures import FAILURES

__all__ = ["Keys"]

LOCKED_ID = "locked"

_KEY = re.compile(r"Key ([^\s:]+):([^\s:]+)")


class Keys:
    """Which keys are good: any that is well-formed, or the one that is given."""

    def __init__(self, only: str | None) -> None:
        self._only = only

    def user(self, authorization: str | None) -> str:
        """The id of the key in an `Authorization` header. Raises AppError with the failures of §2.3."""
        if authorization is None:
            raise AppError(FAILURES["no_credentials"])
        match = _KEY.fullmatch(authorization)
        if match is None:
            raise AppError(FAILURES["malformed_key"])
        if self._only is not None and f"{match[1]}:{match[2]}" != self._only:
            raise AppError(FAILURES["unknown_key"])
        if match[1] == LOCKED_ID:
            raise AppError(FAILURES["exhausted_balance"])
        return match[1]

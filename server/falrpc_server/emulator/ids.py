"""Ids and secrets: random, or the same in every run with a seed."""

import random
import uuid

__all__ = ["Ids"]


class Ids:
    """Gives ids. With a seed, the same calls in the same order get the same ones."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.SystemRandom() if seed is None else random.Random(seed)  # noqa: S311 # asked for

    def uuid(self) -> str:
        """A UUID, as fal's request ids are."""
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def token(self, size: int = 12) -> str:
        """So many random bytes as hexadecimal digits."""
        return self.bytes(size).hex()

    def bytes(self, size: int) -> bytes:
        """So many random bytes."""
        return self._random.randbytes(size)

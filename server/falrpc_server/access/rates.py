"""How often a tenant may call. Pure."""

__all__ = ["Bucket"]

ROUNDING = 1e-9  # of a token


class Bucket:
    """A token bucket: a token for each call, so many new ones a second, up to a number that may wait."""

    __slots__ = ("_filled_at", "_tokens", "per_second", "size")

    def __init__(self, per_second: float, size: int, now: float) -> None:
        """Full."""
        self.per_second = per_second
        self.size = size
        self._tokens = float(size)
        self._filled_at = now

    def wait_seconds(self, now: float) -> float:
        """How long it is until there is a token; 0 when there is one."""
        self._fill(now)
        missing = 1.0 - self._tokens
        return missing / self.per_second if missing > ROUNDING else 0.0

    def take(self) -> None:
        """Takes the token that wait_seconds() has just found."""
        self._tokens -= 1.0

    def change(self, per_second: float, size: int, now: float) -> None:
        """Other figures from now on; no token comes for free."""
        self._fill(now)
        self.per_second, self.size = per_second, size
        self._tokens = min(self._tokens, size)

    def is_full(self, now: float) -> bool:
        """Whether a new one would be the same."""
        self._fill(now)
        return self._tokens >= self.size

    def _fill(self, now: float) -> None:
        self._tokens = min(self.size, self._tokens + (now - self._filled_at) * self.per_second)
        self._filled_at = now

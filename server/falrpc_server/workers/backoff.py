"""How long a worker that ended waits until it is started anew. Pure."""

__all__ = ["Backoff"]

FIRST_SECONDS = 0.5
SECONDS_MAX = 30.0
SHORT_LIFE_SECONDS = 10.0


class Backoff:
    """One worker's: none the first time, then doubling for as long as its lives are short."""

    def __init__(self) -> None:
        self._last_seconds: float | None = None

    def seconds(self, lived_seconds: float) -> float:
        """The wait after a life of so long."""
        if self._last_seconds is None or lived_seconds >= SHORT_LIFE_SECONDS:
            self._last_seconds = 0.0
        else:
            self._last_seconds = min(SECONDS_MAX, max(FIRST_SECONDS, 2 * self._last_seconds))
        return self._last_seconds

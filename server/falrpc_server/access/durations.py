"""How long the calls of a method take at least, nearly always. Pure."""

__all__ = ["Durations"]

KEPT = 128
ENOUGH = 32
COUNTED_EVERY = 16
FASTER_SHARE = 0.05  # of calls take less
CURRENT_SECONDS = 30.0  # after the last one


class Durations:
    """The durations of the latest calls that succeeded."""

    def __init__(self) -> None:
        self._latest: list[float] = []
        self._added = 0
        self._added_at = 0.0
        self._least = 0.0

    def add(self, seconds: float, now: float) -> None:
        """Notes a call that succeeded."""
        if len(self._latest) < KEPT:
            self._latest.append(seconds)
        else:
            self._latest[self._added % KEPT] = seconds
        self._added += 1
        self._added_at = now
        if self._added >= ENOUGH and self._added % COUNTED_EVERY == 0:
            self._least = sorted(self._latest)[int(FASTER_SHARE * len(self._latest))]

    def least_seconds(self, now: float) -> float:
        """What all but a few of them took at least; 0 while too little is known of the last half minute.

        It ends by itself: calls that are refused because of it could not show that others are faster now.
        """
        return self._least if now - self._added_at <= CURRENT_SECONDS else 0.0

"""Stops sending to a host that only fails, and probes it with one request at a time. Pure.

It knows neither hosts nor a clock: seconds are those of any clock that does not go back.
"""

from typing import Protocol

__all__ = ["Breaker", "Probe"]


class Probe(Protocol):
    """A request on its way."""

    @property
    def connected(self) -> bool:
        """Whether it has a connection."""
        ...


class Breaker:
    """The circuit breaker of one host.

    Attributes:
        is_open: Whether requests are held back, but for one probe in each pause (half open).
    """

    def __init__(self, failures_max: int, pause_seconds: float) -> None:
        """Opens after `failures_max` failures in a row; a pause lasts `pause_seconds`."""
        self.is_open = False
        self._failures_max = failures_max
        self._pause_seconds = pause_seconds
        self._failures = 0
        self._next_probe = 0.0
        self._probe: Probe | None = None

    def enter(self, now: float, request: Probe) -> float:
        """Returns 0 when a request may go, else the seconds until the next probe.

        A probe that has a connection and has not failed for a whole pause counts as answered: models take
        their time. One without holds nobody up either, since another one follows.
        """
        if not self.is_open:
            return 0.0
        if now < self._next_probe:
            return self._next_probe - now
        if self._probe is not None and self._probe.connected:
            self.succeeded()
            return 0.0
        self._probe = request
        self._next_probe = now + self._pause_seconds
        return 0.0

    def succeeded(self) -> None:
        """The host answered a request itself."""
        self._failures = 0
        self._probe = None
        self.is_open = False

    def failed(self, now: float, request: Probe) -> None:
        """A request failed because of the host, not because of what it asked."""
        self.gave_up(request)
        self._failures += 1
        if not self.is_open and self._failures >= self._failures_max:
            self.is_open = True
            self._next_probe = now + self._pause_seconds

    def gave_up(self, request: Probe) -> None:
        """A request ended without telling anything about the host: its caller left, for instance."""
        if self._probe is request:
            self._probe = None

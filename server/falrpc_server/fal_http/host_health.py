"""How fal's hosts fare: which of them only fail, and whose backup is in use. For one process.

It decides with a Breaker for each host, and tells the log when something changes.
"""

import asyncio

from falrpc_server.fal_http.breaker import Breaker, Probe
from falrpc_server.fal_http.models import Scope

__all__ = ["HostHealth", "origin"]


class HostHealth:
    """The health of all hosts, each named by scheme, host and port."""

    def __init__(self, failures_max: int, pause_seconds: float) -> None:
        self._failures_max = failures_max
        self._pause_seconds = pause_seconds
        self._breakers: dict[str, Breaker] = {}
        self._replaced: set[str] = set()

    def enter(self, host: str, request: Probe, scope: Scope) -> float:
        """Returns 0 when a request may go to the host, else the seconds until the next probe."""
        if host not in self._breakers:
            self._breakers[host] = Breaker(self._failures_max, self._pause_seconds)
        breaker = self._breakers[host]
        was_open = breaker.is_open
        wait = breaker.enter(_now(), request)
        if was_open and not breaker.is_open:
            scope.noticed("host_restored", host)
        return wait

    def failed(self, host: str, request: Probe, scope: Scope) -> None:
        """A request failed because of the host."""
        breaker = self._breakers[host]
        was_open = breaker.is_open
        breaker.failed(_now(), request)
        if breaker.is_open and not was_open:
            scope.noticed("host_suspended", host)

    def succeeded(self, host: str, scope: Scope) -> None:
        """The host answered a request itself."""
        breaker = self._breakers[host]
        if breaker.is_open or host in self._replaced:
            scope.noticed("host_restored", host)
        self._replaced.discard(host)
        breaker.succeeded()

    def gave_up(self, host: str, request: Probe) -> None:
        """A request ended without telling anything about the host."""
        self._breakers[host].gave_up(request)

    def replaced(self, host: str, backup: str, scope: Scope) -> None:
        """A request goes to the backup instead."""
        if host not in self._replaced:
            self._replaced.add(host)
            scope.noticed("backup_host", backup)


def origin(url: str) -> str:
    """Scheme, host and port."""
    return "/".join(url.split("/", 3)[:3])


def _now() -> float:
    return asyncio.get_running_loop().time()

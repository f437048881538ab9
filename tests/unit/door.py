"""An Admission with a clock and a memory that tests set."""

from typing import Any

from falrpc_server.access.admission import Admission, AdmissionLimits, Methods
from falrpc_server.access.refusals import Refusal
from falrpc_server.access.rules import Tenant

__all__ = ["Door"]


ONE = Tenant("one")


class Door:
    """The door, and what the time and the memory are."""

    def __init__(self, limit: int = 10, **limits: Any) -> None:
        self.now = 1_000.0
        self.memory_bytes = 0
        self.looks = 0
        given = {"calls_in_flight_max": limit, "streams_in_flight_max": limit, "uploads_in_flight_max": limit}
        self.admission = Admission(
            AdmissionLimits(**{**given, **limits}), lambda: self.now, self._memory, lambda: 0.5
        )

    def enter(
        self,
        tenant: Tenant = ONE,
        methods: Methods = Methods.CALLS,
        method: str = "Run",
        left_seconds: float | None = None,
    ) -> Refusal | None:
        """What a call is refused with, or None."""
        try:
            self.admission.enter(methods, method, tenant, left_seconds)
        except Refusal as refusal:
            return refusal
        return None

    def reason(self, tenant: Tenant = ONE, **call: Any) -> str:
        """The reason that a call is refused for, empty when it enters."""
        refusal = self.enter(tenant, **call)
        return refusal.reason if refusal else ""

    def enters(self, count: int, tenant: Tenant = ONE, **call: Any) -> int:
        """How many of so many calls enter."""
        return sum(self.enter(tenant, **call) is None for _ in range(count))

    def leave(
        self,
        tenant: Tenant = ONE,
        methods: Methods = Methods.CALLS,
        method: str = "Run",
        seconds: float = 1.0,
        succeeded: bool = True,
    ) -> None:
        self.admission.leave(methods, method, tenant, seconds, succeeded)

    def passes(self, count: int, seconds: float, **call: Any) -> None:
        """So many calls come and go, one after the other, in no time."""
        for _ in range(count):
            assert self.reason(method=call.get("method", "Run")) == ""
            self.leave(seconds=seconds, **call)

    def _memory(self) -> int:
        self.looks += 1
        return self.memory_bytes

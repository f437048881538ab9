"""Decides whether a call may begin: how much is served at once, and for whom. Pure.

It is asked for every call, most often when there are too many: so it does a fixed, small amount of work for
each, and nothing waits. A call that may not begin is refused at once, before anything of it is done.
"""

import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice
from math import ceil
from typing import Protocol

from falrpc_server.access.durations import Durations
from falrpc_server.access.places import Places, Seat
from falrpc_server.access.rates import Bucket
from falrpc_server.access.refusals import Kind, Refusal

__all__ = ["Admission", "AdmissionLimits", "Limited", "Methods"]

MEMORY_LOOK_SECONDS = 0.25
RETRY_SECONDS = 1.0
TENANTS_MAX = 4_096  # remembered, and as many more as have calls in flight
FORGOTTEN_AMONG = 4


class Methods(IntEnum):
    """The classes of methods."""

    CALLS = 0
    STREAMS = 1
    UPLOADS = 2


class Limited(Protocol):
    """What a tenant may use at most; None for no limit of its own."""

    @property
    def name(self) -> str: ...
    @property
    def weight(self) -> float: ...
    @property
    def calls_in_flight_max(self) -> int | None: ...
    @property
    def streams_in_flight_max(self) -> int | None: ...
    @property
    def uploads_in_flight_max(self) -> int | None: ...
    @property
    def calls_per_second(self) -> float | None: ...
    @property
    def burst(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """How much one process serves at once.

    Attributes:
        memory_bytes_max: Memory of the process above which it takes no new calls; None for no limit.
    """

    calls_in_flight_max: int
    streams_in_flight_max: int
    uploads_in_flight_max: int
    memory_bytes_max: int | None = None


class Admission:
    """The one door. One event loop's affair."""

    def __init__(
        self,
        limits: AdmissionLimits,
        clock: Callable[[], float],
        memory_bytes: Callable[[], int],
        fraction: Callable[[], float] = random.random,
    ) -> None:
        """`memory_bytes` tells the memory of the process; `fraction` gives the jitter, from 0 to 1."""
        self._clock = clock
        self._memory_bytes = memory_bytes
        self._memory_bytes_max = limits.memory_bytes_max
        self._memory_look_at = float("-inf")
        self._memory_is_short = False
        self._fraction = fraction
        self._places = (
            Places(limits.calls_in_flight_max),
            Places(limits.streams_in_flight_max),
            Places(limits.uploads_in_flight_max),
        )
        self._accounts: OrderedDict[str, _Account] = OrderedDict()  # who called last is last
        self._durations: dict[str, Durations] = {}

    def in_flight(self, methods: Methods) -> int:
        """How many calls of these methods are in flight."""
        return self._places[methods].taken

    @property
    def tenants(self) -> int:
        """How many tenants are remembered."""
        return len(self._accounts)

    def is_full(self, methods: Methods, *, is_shared: bool) -> bool:
        """Whether nobody's call could begin: `is_shared` when there may be several tenants."""
        places = self._places[methods]
        return places.taken >= (places.limit_of_the_few if is_shared else places.limit)

    def refusal_of_a_full_house(self, methods: Methods) -> Refusal:
        """What a call is told then."""
        return self._overload("SERVER_BUSY", _BUSY_TEXTS[methods], f"server:{_SETTINGS[methods]}")

    def enter(self, methods: Methods, method: str, tenant: Limited, left_seconds: float | None) -> None:
        """Lets a call begin. Raises Refusal when it must not.

        Args:
            methods: The class of the method.
            method: Its name.
            tenant: Who calls.
            left_seconds: Time until the call's deadline, None for no deadline.
        """
        now = self._clock()
        account = self._account(tenant, now)
        places, seat = self._places[methods], account.seats[methods]
        own_limit, bucket = account.in_flight_max[methods], account.bucket
        if own_limit is not None and seat.in_flight >= own_limit:
            raise self._overload(
                "TENANT_BUSY", _OWN_TEXTS[methods], f"tenant:{_SETTINGS[methods]}", f"{own_limit} in flight"
            )
        if bucket and (wait_seconds := bucket.wait_seconds(now)):
            raise self._too_often(bucket, wait_seconds)
        if self._memory_bytes_max is not None and self._is_memory_short(now, self._memory_bytes_max):
            raise self._overload("MEMORY_SHORT", _MEMORY_TEXT, "server:memory_bytes_max")
        # A stream is of use before it ends.
        if left_seconds is not None and places.is_half_taken and methods is not Methods.STREAMS:
            durations = self._durations.get(method)
            if durations and left_seconds < (least_seconds := durations.least_seconds(now)):
                cause = f"{left_seconds:.3f} s left, {method} takes {least_seconds:.3f} s at least"
                raise self._overload("DEADLINE_TOO_SHORT", _DEADLINE_TEXT, "", cause)
        if not places.enter(seat, tenant.weight, now):
            raise self._no_place(methods, places, seat)
        if bucket:
            bucket.take()

    def leave(self, methods: Methods, method: str, tenant: Limited, seconds: float, succeeded: bool) -> None:
        """Notes that a call has ended which enter() let begin.

        Args:
            methods, method, tenant: As they were then.
            seconds: How long it took.
            succeeded: Whether it ended OK.
        """
        self._places[methods].leave(self._accounts[tenant.name].seats[methods])
        if succeeded:
            durations = self._durations.get(method)
            if durations is None:
                durations = self._durations[method] = Durations()
            durations.add(seconds, self._clock())

    def _account(self, tenant: Limited, now: float) -> "_Account":
        account = self._accounts.get(tenant.name)
        if account is None:
            if len(self._accounts) >= TENANTS_MAX:
                self._forget(now)
            account = self._accounts[tenant.name] = _Account(tenant, now)
        else:
            self._accounts.move_to_end(tenant.name)
            if account.tenant is not tenant:
                account.obey(tenant, now)
        return account

    def _forget(self, now: float) -> None:
        """Makes room for a tenant: one is forgotten that has nothing in flight and has not called for long.

        Its bucket begins full when it comes again; one that is full anyway is forgotten rather.
        """
        oldest = list(islice(self._accounts.items(), FORGOTTEN_AMONG))
        idle = [(name, account) for name, account in oldest if account.is_idle]
        if not idle:  # then calls in flight limit the number; others are looked at next time
            for name, _ in oldest:
                self._accounts.move_to_end(name)
            return
        name, account = next((one for one in idle if one[1].has_full_bucket(now)), idle[0])
        del self._accounts[name]
        for places, seat in zip(self._places, account.seats, strict=True):
            places.forget(seat)

    def _is_memory_short(self, now: float, bytes_max: int) -> bool:
        if now >= self._memory_look_at:
            self._memory_look_at = now + MEMORY_LOOK_SECONDS
            self._memory_is_short = self._memory_bytes() > bytes_max
        # With nothing in flight there is nothing to wait for: what is held then is held for good.
        return self._memory_is_short and any(places.taken for places in self._places)

    def _overload(self, reason: str, text: str, subject: str, cause: str = "") -> Refusal:
        # Spread, so that those who are refused together do not come back together.
        retry_seconds = RETRY_SECONDS * (0.5 + self._fraction())
        return Refusal(
            Kind.OVERLOADED, reason, text, cause=cause, retry_seconds=retry_seconds, subject=subject
        )

    def _too_often(self, bucket: Bucket, wait_seconds: float) -> Refusal:
        spread_seconds = min(RETRY_SECONDS, 1.0 / bucket.per_second)
        return Refusal(
            Kind.OVERLOADED,
            "TENANT_RATE",
            "calls come faster than this caller's tenant may call; nothing was sent",
            cause=f"{bucket.per_second} calls a second, {bucket.size} at once",
            retry_seconds=wait_seconds + self._fraction() * spread_seconds,
            subject="tenant:calls_per_second",
        )

    def _no_place(self, methods: Methods, places: Places, seat: Seat) -> Refusal:
        cause = f"{places.taken} in flight of {places.limit}, of this tenant {seat.in_flight}"
        if places.is_shared and seat.in_flight >= places.share(seat):
            return self._overload(
                "TENANT_BUSY",
                "this server is full, and this caller's tenant has its share of it; nothing was sent",
                "tenant:share",
                cause,
            )
        refusal = self.refusal_of_a_full_house(methods)
        refusal.cause = cause
        return refusal


_SETTINGS = ("calls_in_flight_max", "streams_in_flight_max", "uploads_in_flight_max")
_BUSY_TEXTS = tuple(
    f"this server has as many {what} in flight as it may have; nothing was sent"
    for what in ("calls", "streams", "uploads")
)
_OWN_TEXTS = tuple(
    f"this caller's tenant has as many {what} in flight as it may have; nothing was sent"
    for what in ("calls", "streams", "uploads")
)
_MEMORY_TEXT = "this server is short of memory; nothing was sent"
_DEADLINE_TEXT = (
    "the deadline is sooner than nearly all such calls end, and the server is busy; nothing was sent"
)


class _Account:
    """What is known of one tenant."""

    __slots__ = ("bucket", "in_flight_max", "seats", "tenant")

    def __init__(self, tenant: Limited, now: float) -> None:
        self.seats = tuple(Seat(tenant.weight) for _ in Methods)
        self.bucket: Bucket | None = None
        self.obey(tenant, now)

    def obey(self, tenant: Limited, now: float) -> None:
        """Takes the tenant's limits, which a new policy may have changed."""
        self.tenant = tenant
        self.in_flight_max = tuple(getattr(tenant, name) for name in _SETTINGS)
        if tenant.calls_per_second is None:
            self.bucket = None
            return
        size = tenant.burst or max(1, ceil(tenant.calls_per_second))
        if self.bucket:
            self.bucket.change(tenant.calls_per_second, size, now)
        else:
            self.bucket = Bucket(tenant.calls_per_second, size, now)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in flight."""
        return not any(seat.in_flight for seat in self.seats)

    def has_full_bucket(self, now: float) -> bool:
        """Whether nothing is lost when it is forgotten."""
        return self.bucket is None or self.bucket.is_full(now)

"""The places of one class of methods, and how tenants share them. Pure.

A tenant's share of the places is by its weight among the tenants that are active: those with calls in flight,
and those whose last call came a moment ago. A share is nobody's own while there is room:

* A tenant below its share enters, even when all places are taken, as far as the overflow goes: others took
  more than their share then, and what they give back goes to this one first.
* A tenant above its share enters when it leaves enough places free for the others. What the others need is
  read from what they had at once lately: a share that is not used is not kept free.

Tenants seldom need what is kept for them at the same moment, so needs add up like deviations of things that
do not depend on each other: one tenant's need is kept in full, a thousand tenants' only in part. Otherwise
many tenants who call now and then would keep the places empty.
"""

__all__ = ["Places", "Seat"]

OVERFLOW_SHARE = 0.1  # of the limit
ACTIVE_SECONDS = 10.0  # after the last call
LOOK_SECONDS = 1.0  # between looks at all tenants
PEAK_SECONDS = 5.0  # a peak counts once or twice as long


class Seat:
    """One tenant's part of the places.

    Attributes:
        weight: What the tenant's share is in proportion to.
        in_flight: How many places it holds.
        seen_at: When it last asked for one.
        peak, peak_before: The most places it held at once, in this period and in the one before.
        missing: How many places it holds less than it may need, as others count it.
        is_active: Whether it takes part.
    """

    __slots__ = ("in_flight", "is_active", "missing", "peak", "peak_before", "seen_at", "weight")

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.in_flight = 0
        self.seen_at = 0.0
        self.peak = self.peak_before = self.missing = 0
        self.is_active = False


class Places:
    """So many places. What it does for a call takes the same time however many tenants there are."""

    def __init__(self, limit: int) -> None:
        """`limit` places, a tenth more for tenants below their share."""
        self.limit = limit
        self.taken = 0
        self.limit_of_the_few = limit + int(limit * OVERFLOW_SHARE)
        self._active: set[Seat] = set()
        self._weights = 0.0
        self._squares = 0  # the sum of missing ** 2
        self._look_at = 0.0
        self._period_ends_at = 0.0

    @property
    def is_half_taken(self) -> bool:
        """Whether more than half of the places are taken."""
        return 2 * self.taken > self.limit

    @property
    def is_shared(self) -> bool:
        """Whether several tenants are active."""
        return len(self._active) > 1

    def share(self, seat: Seat) -> int:
        """How many places are the tenant's, at least one."""
        return max(1, int(self.limit * seat.weight / self._weights)) if self._weights else self.limit

    def enter(self, seat: Seat, weight: float, now: float) -> bool:
        """Takes a place for the tenant. Returns whether it may."""
        if now >= self._look_at:
            self._look(now)
        seat.seen_at = now
        if not seat.is_active or seat.weight != weight:
            self._weigh(seat, weight)
        if not self._may_enter(seat):
            return False
        self.taken += 1
        seat.in_flight += 1
        if seat.in_flight > seat.peak:
            seat.peak = seat.in_flight
        self._count_missing(seat)
        return True

    def leave(self, seat: Seat) -> None:
        """Gives the place back."""
        self.taken -= 1
        seat.in_flight -= 1
        self._count_missing(seat)

    def forget(self, seat: Seat) -> None:
        """Takes a tenant out that holds no place."""
        if seat.is_active:
            self._active.remove(seat)
            self._weights -= seat.weight
            self._squares -= seat.missing * seat.missing
            seat.peak = seat.peak_before = seat.missing = 0
            seat.is_active = False

    def _may_enter(self, seat: Seat) -> bool:
        if seat.in_flight < self.share(seat):
            return self.taken < self.limit_of_the_few
        free = self.limit - self.taken
        return free > 0 and free * free > self._squares - seat.missing * seat.missing

    def _weigh(self, seat: Seat, weight: float) -> None:
        self._weights += weight - (seat.weight if seat.is_active else 0.0)
        self._active.add(seat)
        seat.is_active, seat.weight = True, weight

    def _count_missing(self, seat: Seat) -> None:
        needed = min(self.share(seat), max(seat.peak, seat.peak_before))
        missing = max(0, needed - seat.in_flight)
        self._squares += missing * missing - seat.missing * seat.missing
        seat.missing = missing

    def _look(self, now: float) -> None:
        """Sees who is active, and what each may need."""
        self._look_at = now + LOOK_SECONDS
        is_new_period = now >= self._period_ends_at
        if is_new_period:
            self._period_ends_at = now + PEAK_SECONDS
        for seat in [seat for seat in self._active if _is_idle(seat, now)]:
            self.forget(seat)
        self._weights = sum(seat.weight for seat in self._active)  # anew: floats do not add up for ever
        for seat in self._active:
            if is_new_period:
                seat.peak, seat.peak_before = seat.in_flight, seat.peak
            self._count_missing(seat)


def _is_idle(seat: Seat, now: float) -> bool:
    return not seat.in_flight and now - seat.seen_at > ACTIVE_SECONDS

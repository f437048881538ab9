"""What arrived: one record for each request, for tests that ask what really reached fal."""

import hashlib
import itertools
import time
import traceback
from collections import Counter, deque
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Evidence", "Record"]

RECORDS_MAX = 10_000
COUNTS_MAX = 10_000
SECRET_PARAMETERS = ("signature", "identity", "fal_jwt_token")


@dataclass(slots=True)
class Record:
    """One request. Times are Unix seconds.

    Attributes:
        scenario: The act of the scenario that it fell under.
        query: The query's parameters without signatures.
        outcome: `open`, `answered`, `client_closed` (the client went away first), `cut` (a scenario broke the
            connection) or `failed` (the emulator's own mistake).
        closed_at: When the answer was complete or the connection gone.
    """

    seq: int
    at: float
    operation: str
    method: str
    path: str
    query: dict[str, str]
    endpoint: str
    headers: dict[str, str]
    body_bytes: int = 0
    body_sha256: str = ""
    status: int | None = None
    scenario: str = ""
    outcome: str = "open"
    closed_at: float | None = None

    def received(self, body: bytes) -> None:
        """Notes the body."""
        self.body_bytes = len(body)
        self.body_sha256 = hashlib.sha256(body).hexdigest()


@dataclass(slots=True)
class Evidence:
    """All requests but those to the emulator's own endpoints.

    Attributes:
        connections: Those that are open.
        internal_errors: How often the emulator itself made a mistake.
    """

    connections: Collection[object] = ()
    records: deque[Record] = field(default_factory=lambda: deque(maxlen=RECORDS_MAX))
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    open_requests: int = 0
    internal_errors: int = 0
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def begin(
        self,
        operation: str,
        method: str,
        path: str,
        query: dict[str, str],
        endpoint: str,
        headers: dict[str, str],
    ) -> Record:
        """Notes a request as soon as its head is read."""
        shown = {name: value for name, value in query.items() if name not in SECRET_PARAMETERS}
        number, now = next(self._numbers), time.time()
        record = Record(
            number, now, operation, method, path, shown, endpoint, dict(map(_hidden, headers.items()))
        )
        self.records.append(record)
        counted = (operation, endpoint)
        self.counts[
            counted if counted in self.counts or len(self.counts) < COUNTS_MAX else (operation, "…")
        ] += 1
        self.open_requests += 1
        return record

    def end(self, record: Record, outcome: str) -> None:
        """Notes how a request ended."""
        record.outcome = outcome
        record.closed_at = time.time()
        self.open_requests -= 1

    def reset(self) -> None:
        """Forgets all requests."""
        self.records.clear()
        self.counts.clear()

    def report(self, query: dict[str, str]) -> dict[str, Any]:
        """The records, all or those of an `operation` or `endpoint`, counts, and what came more than once."""
        chosen = [
            asdict(record)
            for record in self.records
            if query.get("operation") in (None, record.operation)
            and query.get("endpoint") in (None, record.endpoint)
        ]
        counts = [{"operation": o, "endpoint": e, "count": n} for (o, e), n in sorted(self.counts.items())]
        bodies = Counter((r["operation"], r["endpoint"], r["body_sha256"]) for r in chosen if r["body_bytes"])
        return {
            "requests": chosen,
            "counts": counts,
            "repeated": [
                {"operation": o, "endpoint": e, "body_sha256": sha256, "count": n}
                for (o, e, sha256), n in bodies.items()
                if n > 1
            ],
            "open_requests": self.open_requests,
            "open_connections": len(self.connections),
        }

    def mistake(self) -> None:
        """Tells on stderr of the exception that is being handled: it is the emulator's own."""
        self.internal_errors += 1
        traceback.print_exc()

    def health(self) -> dict[str, int]:
        """What is open now, and what went wrong."""
        return {
            "open_requests": self.open_requests,
            "open_connections": len(self.connections),
            "internal_errors": self.internal_errors,
        }


def _hidden(header: tuple[str, str]) -> tuple[str, str]:
    """A header without its credential: the scheme stays."""
    name, value = header
    return (name, f"{value.split(' ')[0]} …") if name == "authorization" else header

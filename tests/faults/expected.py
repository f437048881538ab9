"""How each call must end under each fault.

For every fault a Row: one End for the paid calls and one for the others, and Ends for those that differ. What
follows a request (StreamStatus, Subscribe on a handle) ends like Status.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tests.faults.calls import Rpc

__all__ = ["EXPECTED", "End", "Row", "end_of"]


@dataclass(frozen=True)
class End:
    """How a call ends.

    Attributes:
        code, reason, delivery: What the caller is told; None where the fault leaves it open.
        posts: How many paid POSTs of the call fal received, if the call is paid.
        has_retry_info: Whether the caller is invited to repeat the call.
        attempts: How often the gateway tried; None where what fal received says it.
    """

    code: str
    reason: str | None = None
    delivery: str | None = None
    posts: int = 1
    has_retry_info: bool | None = False
    attempts: int | None = None


@dataclass(frozen=True)
class Row:
    """How the calls end under one fault.

    Attributes:
        paid: Run, Submit, Stream, StreamWorkflow, and Subscribe with a submission.
        others: Status, Result, Cancel, StreamStatus, and Subscribe on a handle.
        but: Those that differ, by name. None: the fault can't be had there.
        seconds_min, seconds_max: How long the call takes. The upper one stands a busy machine.
    """

    paid: End
    others: End
    but: Mapping[str, End | None] = field(default_factory=dict)
    seconds_min: float = 0.0
    seconds_max: float = 6.0


OK = End("OK", "", "")
OK_AFTER_ONE_REFUSAL = replace(OK, posts=2)
NOT_SENT = End("UNAVAILABLE", "UPSTREAM_UNREACHABLE", "NOT_SENT", posts=0, has_retry_info=True, attempts=3)
OUTCOME_UNKNOWN = End("UNKNOWN", "OUTCOME_UNKNOWN", "UNKNOWN")
INTERRUPTED = End("UNAVAILABLE", "UPSTREAM_INTERRUPTED", has_retry_info=True)
TRUNCATED_PAID = End("UNKNOWN", "UPSTREAM_TRUNCATED", "ACCEPTED")
TRUNCATED_READ = End("UNAVAILABLE", "UPSTREAM_TRUNCATED", has_retry_info=True)
STREAM_CUT = End("UNKNOWN", "STREAM_TRUNCATED", "ACCEPTED")
REFUSED = End("RESOURCE_EXHAUSTED", "CONCURRENT_REQUESTS_LIMIT", "REJECTED", posts=3, has_retry_info=True)
DEADLINE = End("DEADLINE_EXCEEDED")

CUT = Row(OUTCOME_UNKNOWN, INTERRUPTED)
CUT_ONCE = Row(OUTCOME_UNKNOWN, OK)  # others are sent again

TRUNCATED = Row(TRUNCATED_PAID, TRUNCATED_READ, {"Stream": STREAM_CUT, "StreamWorkflow": STREAM_CUT})


def _fails(reason: str, paid: str, others: str, result: str, **but: End | None) -> Row:
    """fal tells of a failure: paid work has failed then. The result of a finished request is that failure."""
    return Row(
        End(paid, reason, "FAILED"),
        End(others, reason, has_retry_info=others == "UNAVAILABLE"),
        {"Result": End(result, reason, "FAILED"), **but},
    )


EXPECTED: dict[str, Row] = {
    # Nothing was sent: everybody may repeat.
    "name resolution": Row(NOT_SENT, NOT_SENT),
    "refused": Row(NOT_SENT, NOT_SENT),
    "connect timeout": Row(NOT_SENT, NOT_SENT),
    "TLS failure": Row(NOT_SENT, NOT_SENT),
    # Bytes left: paid work is not sent again, reads are.
    "reset before body": CUT,
    "reset before body, once": CUT_ONCE,
    "reset after body": CUT,
    "reset after body, once": CUT_ONCE,
    "closed without answer": CUT,
    "closed without answer, once": CUT_ONCE,
    "stale connection": CUT_ONCE,
    "connection closed while idle": Row(OK, OK),
    "truncated JSON": TRUNCATED,
    "truncated JSON, reset": TRUNCATED,
    "edge 502": CUT,
    "edge 503": CUT,
    "edge 504": CUT,
    "edge 502, once": CUT_ONCE,
    # fal refuses before any work: that is sent again, an app's own refusal is not.
    "429": Row(REFUSED, REFUSED),
    "429, once": Row(OK_AFTER_ONE_REFUSAL, OK),
    "429, once, Retry-After 1": Row(
        OK_AFTER_ONE_REFUSAL, OK, {"StreamStatus": None, "Subscribe, attached": None}, seconds_min=1.0
    ),
    "429, Retry-After 600": Row(replace(REFUSED, posts=1), REFUSED),
    "an app's own 429": Row(
        End("RESOURCE_EXHAUSTED", "HTTP_429", "FAILED", has_retry_info=None),
        End("RESOURCE_EXHAUSTED", "HTTP_429", has_retry_info=True),
        {
            # the queue is fal's, whoever limits it
            "Submit": End("RESOURCE_EXHAUSTED", "HTTP_429", "REJECTED", posts=3, has_retry_info=True),
            "Subscribe": End("RESOURCE_EXHAUSTED", "HTTP_429", "REJECTED", posts=3, has_retry_info=True),
            "Result": End("RESOURCE_EXHAUSTED", "HTTP_429", "FAILED"),
        },
    ),
    "500 from fal": _fails("HTTP_500", paid="INTERNAL", others="INTERNAL", result="INTERNAL"),
    "500 from fal with a hint": _fails(
        "RUNNER_SERVER_ERROR", paid="ABORTED", others="UNAVAILABLE", result="ABORTED"
    ),
    "503 from fal": _fails("RUNNER_DISCONNECTED", paid="ABORTED", others="UNAVAILABLE", result="ABORTED"),
    "503 from fal, nothing ran": Row(
        End("UNAVAILABLE", "RUNNER_SCHEDULING_FAILURE", has_retry_info=True),
        End("UNAVAILABLE", "RUNNER_SCHEDULING_FAILURE", has_retry_info=True),
        {
            "Result": End("ABORTED", "RUNNER_SCHEDULING_FAILURE", "FAILED"),
            # it may be about one of the workflow's steps: those before it ran
            "StreamWorkflow": End("ABORTED", "RUNNER_SCHEDULING_FAILURE", "FAILED"),
        },
    ),
    # Slow is not broken, until the caller's time or the limit of silence is over.
    "hang": Row(DEADLINE, DEADLINE),
    "hang past the idle limit": Row(
        OUTCOME_UNKNOWN,
        INTERRUPTED,
        # A run may be silent until it is done, and a status stream for as long as its comments take.
        {"Run": None, "StreamStatus": None, "Subscribe, attached": None},
    ),
    "slow answer": Row(OK, OK, seconds_min=0.3),
    "slow bytes": Row(OK, OK),
    "slow bytes past the deadline": Row(DEADLINE, DEADLINE),
}


def end_of(fault: str, rpc: Rpc) -> End | None:
    """How a call ends under a fault; None when the fault can't be had there."""
    row = EXPECTED[fault]
    return row.but.get(rpc.name, row.paid if rpc.is_paid else row.others)

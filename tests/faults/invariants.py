"""What must be true of every history of calls, whatever went wrong in it. Pure.

Each function takes a history and returns a sentence for each thing that must be true and is not.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.conftest import KEY
from tests.faults.records import Records, kinds_of, name_of, number_of, short

if TYPE_CHECKING:
    from tests.faults.history import Told

__all__ = ["INVARIANTS", "broken"]

FIRST = {"Stream": "started", "StreamWorkflow": "started", "Subscribe": "accepted"}
LAST = {"Stream": "event", "StreamWorkflow": "output", "Subscribe": "result", "StreamStatus": "status"}
ONE_EXCHANGE = frozenset({"Run", "Submit", "Stream", "StreamWorkflow", "Status", "Cancel"})
"""Methods whose attempts are all of the same exchange with fal, so that all but the first are resends."""

REFUSALS = frozenset({*range(400, 500), 503, 504})
"""Answers that may say that nothing ran: fal tells of runners that did not start by 503 and 504."""

LATE_SECONDS_MAX = 0.25
BUSY_SECONDS = 3.0
"""The client, the gateway and the test share one event loop, on a machine that others use, too: what is told
late because of that is no fault. Tests of the deadline itself measure it; this finds calls that hang."""

RESEND_SHARE = 0.1
RESEND_RESERVE = 10
RESERVE_SECONDS = 10.0


def inputs_are_unique(records: Records) -> list[str]:
    """Else nobody can tell whose POST a POST is."""
    counts = Counter(call.body_sha256 for call in records.paid)
    return [f"{n} calls had the same input {short(body)}" for body, n in counts.items() if n > 1]


def no_post_twice(records: Records) -> list[str]:
    """A POST is received again only when every earlier one was answered 429."""
    found = []
    for call in records.paid:
        earlier = records.posts(call)[:-1]
        if any(one["status"] != 429 for one in earlier):
            statuses = [one["status"] for one in records.posts(call)]
            found.append(f"{name_of(call)}: its POST was received more than once, answered {statuses}")
    may_count = sum(bool(records.posts_that_may_count(call)) for call in records.paid)
    may_count += len(records.posts_without_body())
    if may_count > len(records.paid):
        found.append(
            f"{may_count} POSTs began that were not answered 429, for {len(records.paid)} paid calls"
        )
    return found


def deliveries_are_true(records: Records) -> list[str]:
    """What a paid call was told of its request is what fal saw of it."""
    found = []
    for call in records.paid:
        all_posts, may_count = records.posts(call), records.posts_that_may_count(call)
        is_true = True
        match "ACCEPTED" if call.code == "OK" else call.delivery:
            case "NOT_SENT":
                is_true = not all_posts
            case "REJECTED":
                is_true = bool(all_posts) and all(one["status"] in REFUSALS for one in all_posts)
            case "ACCEPTED":
                is_true = len(may_count) == 1
            case "FAILED":
                is_true = bool(all_posts) and len(may_count) <= 1
            case "UNKNOWN":
                is_true = len(may_count) <= 1
        if not is_true:
            statuses = [one["status"] for one in all_posts]
            found.append(
                f"{name_of(call)}: told {call.code} {call.delivery}, but POSTs were answered {statuses}"
            )
    return found


def ids_are_logged(records: Records) -> list[str]:
    """Every id of a paid call that reached a client is in the log, before that if fal accepted the call."""
    accepted = {line["request_id"] for line in records.logged("request.accepted")}
    mentioned = accepted | {str(line.get("request_id", "")) for line in records.log}
    found = []
    for call in records.paid:
        was_refused = call.delivery in ("REJECTED", "FAILED") and not call.messages
        for id in sorted(call.request_ids - (mentioned if was_refused else accepted)):
            found.append(f"{name_of(call)}: its client knows request {id}, the log does not")
    return found


def accepted_ids_reach_somebody(records: Records) -> list[str]:
    """Every accepted id can be traced in the log, and reached its client if the gateway ended the call."""
    found = []
    codes = {line["call_id"]: line["code"] for line in records.logged("call.finished")}
    reached: set[str] = set().union(*(call.request_ids for call in records.calls))
    unreached: Counter[str] = Counter()
    for line in records.logged("request.accepted"):
        if not all(line.get(name) for name in ("method", "endpoint_id", "call_id", "request_id")):
            found.append(f"request.accepted lacks a field: {line}")
        is_ended = codes.get(line.get("call_id", "")) not in (None, "CANCELLED", "DEADLINE_EXCEEDED")
        if is_ended and line.get("request_id") not in reached:
            unreached[line.get("method", "")] += 1
    left = Counter(c.method for c in records.calls if c.was_ended_by_its_client or records.is_victim(c))
    found += [
        f"{method}: {n} accepted ids did not reach a client" for method, n in (unreached - left).items()
    ]
    return found


def streams_are_whole(records: Records) -> list[str]:
    """A stream begins with its id, and one that ends OK has its result."""
    found = []
    for call in records.calls:
        kinds = kinds_of(call)
        first = FIRST.get(call.method)
        if first and kinds and kinds[0] != first:
            found.append(f"{name_of(call)}: begins with {kinds[0]}")
        if call.method in LAST and call.code == "OK" and kinds[-1:] != [LAST[call.method]]:
            found.append(f"{name_of(call)}: ended OK with {kinds[-1:] or 'no message'}")
    return found


def events_have_no_gap(records: Records) -> list[str]:
    """Where events are numbered from 0, a client has them from 0 on, each once."""
    found = []
    for call in records.calls:
        numbers = [n for message in call.messages if (n := number_of(message)) is not None]
        if numbers != list(range(len(numbers))):
            found.append(f"{name_of(call)}: got the events {numbers[:20]}")
    return found


def each_call_ended_once(records: Records) -> list[str]:
    """Each call has one status and one line in the log, with the same code."""
    found = [f"{name_of(call)}: has no status" for call in records.calls if not call.code]
    told: dict[str, Counter[str]] = defaultdict(Counter)
    logged: dict[str, Counter[str]] = defaultdict(Counter)
    for call in records.with_our_status:
        told[call.method][call.code] += 1
    for line in records.logged("call.finished"):
        logged[line["method"]][line["code"]] += 1
    calls = Counter(call.method for call in records.calls)
    for method in sorted({*calls, *logged}):
        lines = logged[method].total()
        if lines > calls[method] or (lines < calls[method] and not records.died):
            found.append(f"{method}: {calls[method]} calls, {lines} call.finished lines")
        if differing := told[method] - logged[method]:
            found.append(f"{method}: told {dict(differing)} more often than logged {dict(logged[method])}")
    twice = Counter(line["call_id"] for line in records.logged("call.finished"))
    found += [f"call {id}: {n} call.finished lines" for id, n in twice.items() if n > 1]
    return found


def calls_end_in_time(records: Records) -> list[str]:
    """No call outlives its deadline."""
    found = []
    for call in records.calls:
        if call.timeout_seconds is None or not call.ended:
            continue
        if call.seconds > call.timeout_seconds + LATE_SECONDS_MAX + BUSY_SECONDS:
            found.append(f"{name_of(call)}: {call.seconds:.2f} s with a deadline of {call.timeout_seconds} s")
    return found


def statuses_promise_the_truth(records: Records) -> list[str]:
    """No status invites to repeat paid work that may run, none is CANCELLED, each has our ErrorInfo."""
    found = []
    for call in records.with_our_status:
        if call.code == "OK":
            continue
        if not call.has_error_info:
            found.append(f"{name_of(call)}: {call.code} without ErrorInfo: {call.status_text}")
        if call.code == "CANCELLED":
            found.append(f"{name_of(call)}: told CANCELLED")
        invites = call.code == "UNAVAILABLE" or (call.code == "RESOURCE_EXHAUSTED" and call.has_retry_info)
        if call.is_paid and invites and call.delivery in ("UNKNOWN", "ACCEPTED"):
            found.append(f"{name_of(call)}: {call.code} invites a repeat, delivery is {call.delivery}")
    return found


def the_key_stays_secret(records: Records) -> list[str]:
    """The key's secret half is in no log line and no status."""
    secret = KEY.partition(":")[2]
    found = [f"log: {line['event']} has the key" for line in records.log if secret in json.dumps(line)]
    return found + [
        f"{name_of(call)}: the status has the key" for call in records.calls if secret in call.status_text
    ]


def resends_are_few(records: Records) -> list[str]:
    """Resends stay within their share of the first attempts and the reserve."""
    attempts = [
        line["attempts"] for line in records.logged("call.finished") if line["method"] in ONE_EXCHANGE
    ]
    firsts = sum(1 for n in attempts if n)
    resends = sum(n - 1 for n in attempts if n)
    moments = [moment for call in records.calls for moment in (call.started, call.ended) if moment]
    seconds = max(moments, default=0.0) - min(moments, default=0.0)
    # A reserve that is full at first and fills up again meanwhile.
    allowed = RESEND_SHARE * firsts + RESEND_RESERVE * (1 + seconds / RESERVE_SECONDS)
    return [f"{resends} resends for {firsts} exchanges in {seconds:.1f} s"] if resends > allowed else []


INVARIANTS: tuple[Callable[[Records], list[str]], ...] = (
    inputs_are_unique,
    no_post_twice,
    deliveries_are_true,
    ids_are_logged,
    accepted_ids_reach_somebody,
    streams_are_whole,
    events_have_no_gap,
    each_call_ended_once,
    calls_end_in_time,
    statuses_promise_the_truth,
    the_key_stays_secret,
    resends_are_few,
)


def broken(
    calls: "list[Told]", log: list[dict[str, Any]], evidence: list[dict[str, Any]], *, died: bool = False
) -> list[str]:
    """All the sentences of all the functions."""
    records = Records(calls, log, evidence, died)
    return [sentence for invariant in INVARIANTS for sentence in invariant(records)]

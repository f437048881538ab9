"""What a policy makes of a call, and why, for the operator who asks before a caller does. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from falrpc_server.access.policy import Grant, Policy
from falrpc_server.access.refusals import Refusal
from falrpc_server.access.rules import (
    ANY_ENDPOINT,
    CALLS,
    METHODS,
    PAID,
    QUEUED,
    STREAMS,
    UPLOADS,
    Rule,
    Tenant,
)
from falrpc_server.access.tables import suggestion
from falrpc_server.fal_http.models import BadEndpointId, EndpointId

__all__ = ["Explanation", "explain", "read_endpoint", "rpc_problem"]

NONE = "none"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Whether a call is allowed, and lines that say why: a label and a text each, in order of deciding.

    An empty label goes on with the one before it. `reason` is the ErrorReason of a refusal, without prefix.
    """

    is_allowed: bool
    reason: str
    lines: tuple[tuple[str, str], ...]


def rpc_problem(rpc: str) -> str | None:
    """What is wrong with the name of a method."""
    if rpc in METHODS:
        return None
    close = suggestion(rpc, METHODS) or f": it has {', '.join(METHODS)}"
    return f"{rpc!r} is no method of FalService{close}"


def read_endpoint(rpc: str, text: str) -> EndpointId | None:
    """The endpoint id, None for a method that has none. Raises ValueError, whose text says what is wrong."""
    if rpc in UPLOADS:
        return None
    try:
        return EndpointId.parse(text)
    except BadEndpointId as error:
        raise ValueError(f"{text!r} {error}") from None


def explain(policy: Policy, identity: str, rpc: str, endpoint: EndpointId | None) -> Explanation:
    """What would become of a call. `endpoint` is None for a method that has none."""
    lines = [("identity", identity)]
    try:
        grant = policy.grant(identity)
    except Refusal as refusal:
        rules = len(policy.rules)
        lines.append(("rule", f"none of {rules} matches" if rules > 1 else "the only one does not match"))
        return Explanation(False, refusal.reason, tuple(lines))
    reason = _reason(grant, rpc, endpoint)
    lines += _rule_lines(grant.rule, identity)
    lines += [("tenant", grant.tenant.name), ("fal key", _key_words(grant.tenant))]
    lines += _rpc_lines(grant.rule, rpc)
    lines += _endpoint_lines(grant, endpoint)
    if not reason:
        lines += _labelled("options", _option_texts(grant.rule, rpc))
        lines += _labelled("limits", _limit_texts(grant.tenant, rpc))
    return Explanation(not reason, reason, tuple(lines))


def _reason(grant: Grant, rpc: str, endpoint: EndpointId | None) -> str:
    try:
        grant.check_rpc(rpc)
        if endpoint:
            grant.check_endpoint(endpoint)
    except Refusal as refusal:
        return refusal.reason
    return ""


def _rule_lines(rule: Rule, identity: str) -> Iterator[tuple[str, str]]:
    yield "rule", rule.place
    pattern = next(pattern.text for pattern in rule.identities if pattern.matches(identity))
    more = len(rule.identities) - 1
    yield "", f"by {pattern}" + (f", and {more} other patterns" if more > 1 else ", and another" * more)


def _key_words(tenant: Tenant) -> str:
    words = {
        "server": "the server's, FAL_KEY",
        "file": f"in {tenant.fal_key_file}",
        "caller": "the caller's, x-fal-key",
    }
    return words[tenant.fal_key_from]


def _rpc_lines(rule: Rule, rpc: str) -> Iterator[tuple[str, str]]:
    yield "rpc", f"{rpc}: {'allowed' if rpc in rule.rpcs else 'NOT ALLOWED'}"
    if set(rule.rpcs) == set(METHODS):
        yield "", "the rule allows every method"
    else:
        yield "", f"the rule allows {', '.join(name for name in METHODS if name in rule.rpcs) or NONE}"


def _endpoint_lines(grant: Grant, endpoint: EndpointId | None) -> Iterator[tuple[str, str]]:
    if endpoint is None:
        yield "endpoint", "this method has none"
        return
    pattern = grant.endpoint_pattern(endpoint)
    if pattern == ANY_ENDPOINT:
        yield "endpoint", f"{endpoint.full}: allowed, as every endpoint is"
    elif pattern:
        yield "endpoint", f"{endpoint.full}: allowed by {pattern}"
    else:
        yield "endpoint", f"{endpoint.full}: NOT ALLOWED"
        yield "", f"the rule allows {', '.join(grant.rule.endpoints) or NONE}"


def _option_texts(rule: Rule, rpc: str) -> Iterator[str]:
    if rpc in PAID and rule.store_io is not None:
        yield f"store_io is {str(rule.store_io).lower()} (forced)"
    if rpc in QUEUED and rule.priority_max == "low":
        yield "priority is low (forced)"
    if rpc in QUEUED and rule.webhook_hosts is not None:
        yield f"webhooks go to {', '.join(rule.webhook_hosts) or 'no host'}"
    if rpc in PAID or rpc in UPLOADS:
        if rule.lifecycle_seconds_max is not None:
            yield f"files are kept for {rule.lifecycle_seconds_max} s at most (forced)"
        if rule.access_control == "forbidden":
            yield "callers do not say who may read files"


def _limit_texts(tenant: Tenant, rpc: str) -> Iterator[str]:
    """The tenant's own; the server's are settings."""
    for methods, limit, what in (
        (CALLS, tenant.calls_in_flight_max, "calls"),
        (STREAMS, tenant.streams_in_flight_max, "streams"),
        (UPLOADS, tenant.uploads_in_flight_max, "uploads"),
    ):
        if rpc in methods and limit is not None:
            yield f"{limit} {what} at once"
    if tenant.calls_per_second is not None:
        burst = f", {tenant.burst} at once" if tenant.burst else ""
        yield f"{tenant.calls_per_second:g} calls a second{burst}"
    if rpc in UPLOADS and tenant.upload_bytes_max is not None:
        yield f"{tenant.upload_bytes_max} bytes a file"
    yield f"weight {tenant.weight:g}"


def _labelled(label: str, texts: Iterator[str]) -> list[tuple[str, str]]:
    """The label before the first text; with no text, that there is none."""
    found = list(texts) or ["as the caller says"]
    return [(label, found[0]), *(("", text) for text in found[1:])]

"""What a rule makes of a call's options. Pure.

A forced value is filled in where the caller says nothing. A caller who says otherwise is refused, never
overruled: a Refusal of kind DENIED names the field.
"""

import dataclasses
import json
from typing import Any

from falrpc_server.access import webhook_hosts
from falrpc_server.access.refusals import Kind, Refusal
from falrpc_server.access.rules import Rule
from falrpc_server.fal_http.models import CallOptions, QueueOptions, Upload

__all__ = ["call_options", "queue_options", "upload"]

_EXPIRATION = "expiration_duration_seconds"
_ACCESS_CONTROL = "initial_acl"


def call_options(options: CallOptions, rule: Rule, prefix: str) -> CallOptions:
    """The options of a paid call."""
    store_io = options.store_io
    if rule.store_io is not None and store_io is None:
        store_io = rule.store_io
    elif rule.store_io is not None and store_io is not rule.store_io:
        forced = str(rule.store_io).lower()
        raise _refusal(rule, f"{prefix}options.store_io", f"must be {forced} or absent for this caller")
    lifecycle = _lifecycle(options.output_lifecycle_json, rule, f"{prefix}options.output_lifecycle")
    return dataclasses.replace(options, store_io=store_io, output_lifecycle_json=lifecycle)


def queue_options(options: QueueOptions, rule: Rule, prefix: str) -> QueueOptions:
    """The options of a queue request."""
    low_priority = options.low_priority
    if rule.priority_max == "low":
        if low_priority is False:
            raise _refusal(rule, f"{prefix}queue.priority", "must be low or absent for this caller")
        low_priority = True
    hosts = rule.webhook_hosts
    if options.webhook_url and hosts is not None and not webhook_hosts.matching(options.webhook_url, hosts):
        text = (
            "must be at a host that is allowed for this caller" if hosts else "is not allowed for this caller"
        )
        raise _refusal(rule, f"{prefix}queue.webhook_url", text)
    return dataclasses.replace(options, low_priority=low_priority)


def upload(described: Upload, rule: Rule, prefix: str) -> Upload:
    """What an upload's header says of its file."""
    lifecycle = _lifecycle(described.lifecycle_json, rule, f"{prefix}lifecycle")
    return dataclasses.replace(described, lifecycle_json=lifecycle)


def _lifecycle(text: str, rule: Rule, field: str) -> str:
    """The JSON of fal's lifecycle headers, written anew where the rule restricts it: with one meaning."""
    seconds_max, forbids = rule.lifecycle_seconds_max, rule.access_control == "forbidden"
    if seconds_max is None and not forbids:
        return text
    document = _document(text, rule, field)
    if forbids and _ACCESS_CONTROL in document:
        raise _refusal(rule, field, "must not say who may read the file: that is not allowed for this caller")
    if seconds_max is not None:
        seconds = document.setdefault(_EXPIRATION, seconds_max)
        # fal takes 0 and null as "never expires", and true is 1 to Python
        if type(seconds) is not int or not 1 <= seconds <= seconds_max:
            raise _refusal(rule, field, f"must expire after {seconds_max} s at most for this caller")
    return json.dumps(document) if document else ""


def _document(text: str, rule: Rule, field: str) -> dict[str, Any]:
    try:
        document = json.loads(text or "{}")
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise _refusal(rule, field, "must be a lifecycle that can be read")
    return document


def _refusal(rule: Rule, field: str, text: str) -> Refusal:
    return Refusal(Kind.DENIED, "OPTION_NOT_ALLOWED", f"{field} {text}", cause=rule.place, field=field)

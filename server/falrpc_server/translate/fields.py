"""Fields and small messages that several requests share, checked and translated. Pure.

Each function notes violations under the name it is given and returns a value that is right, or one
that will not be used because there are violations.
"""

import ipaddress
import json
import re
from typing import Any
from urllib.parse import urlsplit

from google.protobuf import duration_pb2
from google.protobuf.descriptor import EnumDescriptor

from falrpc import v1
from falrpc_server.fal_http.models import (
    BadEndpointId,
    CallOptions,
    EndpointId,
    QueueOptions,
    RequestRef,
    is_request_id,
)
from falrpc_server.translate.violations import Violations

__all__ = [
    "call_options",
    "endpoint",
    "handle",
    "known_enum",
    "lifecycle",
    "queue_options",
    "seconds",
]

SECONDS_MAX = 315_576_000_000.0  # what google.protobuf.Duration may hold
LIFECYCLE_SECONDS_MAX = 100 * 365 * 86_400
ACCESS_RULES_MAX = 100
HINT_CHARACTERS_MAX = 256
URL_CHARACTERS_MAX = 2_048
TAGS_MAX = 10
TAGS_BYTES_MAX = 1_024

_NO_ENDPOINT = EndpointId("", "")
_VISIBLE = re.compile(r"[ -~]*")
_TAG_KEY = re.compile(r"[a-z0-9._-]{1,64}")
_TAG_VALUE = re.compile(r"[ -+\--~]{0,256}")
_URL = re.compile(r"[!-~]+")
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_BRACKETED = re.compile(r"\[[0-9A-Fa-f:.]+\](:[0-9]*)?")  # all that may stand there with a bracket
_LOCAL_LABELS = frozenset(
    {"localhost", "localdomain", "local", "internal", "lan", "home", "corp", "intranet"}
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_IPV4_COMPATIBLE = ipaddress.IPv6Network("::/96")


def endpoint(name: str, text: str, violations: Violations) -> EndpointId:
    """Reads an endpoint id."""
    try:
        return EndpointId.parse(text)
    except BadEndpointId as error:
        violations.add(name, str(error))
        return _NO_ENDPOINT


def handle(name: str, message: v1.RequestHandle, violations: Violations) -> RequestRef:
    """Reads a RequestHandle."""
    checked = endpoint(f"{name}.endpoint_id", message.endpoint_id, violations)
    if not message.request_id:
        violations.add(f"{name}.request_id", "is required")
    elif not is_request_id(message.request_id):
        violations.add(f"{name}.request_id", "must be the id that the submission returned")
    return RequestRef(checked, message.request_id, message.ownership_token)


def seconds(name: str, duration: duration_pb2.Duration, violations: Violations) -> float:
    """Reads a Duration that must not be negative."""
    value = duration.seconds + duration.nanos / 1e9
    if value < 0:
        violations.add(name, "must not be negative")
    elif value > SECONDS_MAX or not 0 <= duration.nanos < 1_000_000_000:
        violations.add(name, "must be a valid duration")
    return value


def known_enum(name: str, kind: EnumDescriptor, value: int, violations: Violations) -> None:
    """Notes an enum value that this version does not know."""
    if value not in kind.values_by_number:
        violations.add(name, f"is no {kind.name}: {value}")


def call_options(name: str, options: v1.CallOptions, violations: Violations) -> CallOptions:
    """Reads CallOptions."""
    start_timeout = None
    if options.HasField("start_timeout"):
        start_timeout = seconds(f"{name}.start_timeout", options.start_timeout, violations)
        if 0 <= start_timeout < 1:
            violations.add(f"{name}.start_timeout", "must be at least 1 s")
    if len(options.runner_hint) > HINT_CHARACTERS_MAX or not _VISIBLE.fullmatch(options.runner_hint):
        violations.add(
            f"{name}.runner_hint", f"must be at most {HINT_CHARACTERS_MAX} printable ASCII characters"
        )
    lifecycle_json = ""
    if options.HasField("output_lifecycle"):
        lifecycle_json = lifecycle(f"{name}.output_lifecycle", options.output_lifecycle, violations)
    _check_tags(f"{name}.tags", dict(options.tags), violations)
    return CallOptions(
        start_timeout_seconds=start_timeout,
        runner_hint=options.runner_hint,
        disable_fallback=options.disable_fallback,
        store_io=options.store_io if options.HasField("store_io") else None,
        output_lifecycle_json=lifecycle_json,
        tags=dict(options.tags),
    )


def _check_tags(name: str, tags: dict[str, str], violations: Violations) -> None:
    """fal drops bad tags without a word (docs/fal-http-api.md §4): they are refused here instead."""
    if len(tags) > TAGS_MAX:
        violations.add(name, f"must be at most {TAGS_MAX}")
    if sum(len(k.encode()) + len(v.encode()) + 2 for k, v in tags.items()) > TAGS_BYTES_MAX:
        violations.add(name, f"must be at most {TAGS_BYTES_MAX} bytes in all")
    for key, value in tags.items():
        if not _TAG_KEY.fullmatch(key) or key.startswith("fal."):
            violations.add(
                f"{name}[{key!r}]", "must be named with [a-z0-9._-], at most 64, not starting with fal."
            )
        if not _TAG_VALUE.fullmatch(value):
            violations.add(f"{name}[{key!r}]", "must be at most 256 printable ASCII characters without comma")


def queue_options(name: str, options: v1.QueueOptions, violations: Violations) -> QueueOptions:
    """Reads QueueOptions."""
    known_enum(f"{name}.priority", v1.Priority.DESCRIPTOR, options.priority, violations)
    length = options.max_queue_length if options.HasField("max_queue_length") else None
    if length is not None and length < 0:
        violations.add(f"{name}.max_queue_length", "must not be negative")
    if options.webhook_url and (reason := _webhook_problem(options.webhook_url)):
        violations.add(f"{name}.webhook_url", reason)
    return QueueOptions(
        low_priority=options.priority == v1.Priority.PRIORITY_LOW if options.priority else None,
        no_retry=options.no_retry,
        max_queue_length=length,
        webhook_url=options.webhook_url,
    )


def _webhook_problem(url: str) -> str:
    """What is wrong with a webhook URL. fal drops private targets (§11.2): say so at once."""
    if len(url) > URL_CHARACTERS_MAX or not _URL.fullmatch(url):
        return f"must be at most {URL_CHARACTERS_MAX} printable ASCII characters without spaces"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "must be an absolute https URL"
    if parts.scheme != "https" or not host or "\\" in url:
        return "must be an absolute https URL"
    if "@" in parts.netloc:
        return "must not contain a user name or password"
    if "[" in parts.netloc and not _BRACKETED.fullmatch(parts.netloc):
        return "must be an absolute https URL"  # urlsplit sees the address, others what stands beside it
    return "" if _is_public(host) else "must name a public host"


def _is_public(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.rstrip(".")
        last_label = name.rpartition(".")[2]
        # A last label that is a number makes the whole name an address in some resolver's eyes.
        is_number = re.fullmatch(r"\d+|0x[0-9a-f]*", last_label) is not None
        is_local = last_label in _LOCAL_LABELS or name.endswith(".home.arpa")
        return _HOST.fullmatch(name) is not None and "." in name and not is_number and not is_local
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        low = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if address in _NAT64 or address in _IPV4_COMPATIBLE:
            inner = low
        if inner is not None and not (inner.is_global and not inner.is_multicast):
            return False
    return address.is_global and not address.is_multicast


def lifecycle(name: str, message: v1.ObjectLifecycle, violations: Violations) -> str:
    """Reads an ObjectLifecycle as the JSON of fal's headers (§10.8)."""
    document: dict[str, Any] = {}
    if message.HasField("expiration"):
        value = seconds(f"{name}.expiration", message.expiration, violations)
        if value >= 0 and (message.expiration.nanos or not 1 <= value <= LIFECYCLE_SECONDS_MAX):
            # fal takes 0 and null as "never expires" (§10.8), the opposite of what 0 looks like
            violations.add(f"{name}.expiration", "must be whole seconds, at least 1")
        document["expiration_duration_seconds"] = int(value)
    if message.HasField("initial_acl"):
        document["initial_acl"] = _access_control(f"{name}.initial_acl", message.initial_acl, violations)
    return json.dumps(document) if document else ""


def _access_control(name: str, message: v1.AccessControl, violations: Violations) -> dict[str, Any]:
    if message.default_decision == v1.AccessDecision.ACCESS_DECISION_UNSPECIFIED:
        violations.add(f"{name}.default_decision", "is required")  # else rules alone would open the file
    document: dict[str, Any] = {
        "default": _decision(f"{name}.default_decision", message.default_decision, violations)
    }
    if len(message.rules) > ACCESS_RULES_MAX:
        violations.add(f"{name}.rules", f"must be at most {ACCESS_RULES_MAX}")
    rules = []
    for number, rule in enumerate(message.rules[:ACCESS_RULES_MAX]):
        at = f"{name}.rules[{number}]"
        if not rule.user or len(rule.user) > 128 or not _VISIBLE.fullmatch(rule.user):
            violations.add(f"{at}.user", "must be 1 to 128 printable ASCII characters")
        if rule.decision == v1.AccessDecision.ACCESS_DECISION_UNSPECIFIED:
            violations.add(f"{at}.decision", "is required")
        rules.append({"user": rule.user, "decision": _decision(f"{at}.decision", rule.decision, violations)})
    if rules:
        document["rules"] = rules
    return document


_DECISIONS: dict[int, str] = {
    v1.AccessDecision.ACCESS_DECISION_UNSPECIFIED: "allow",
    v1.AccessDecision.ACCESS_DECISION_ALLOW: "allow",
    v1.AccessDecision.ACCESS_DECISION_FORBID: "forbid",
    v1.AccessDecision.ACCESS_DECISION_HIDE: "hide",
}


def _decision(name: str, value: int, violations: Violations) -> str:
    known_enum(name, v1.AccessDecision.DESCRIPTOR, value, violations)
    return _DECISIONS.get(value, "allow")

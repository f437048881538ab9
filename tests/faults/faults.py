"""What can go wrong between a gateway and fal, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["FAULTS", "Fault"]


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        name: The fault in words.
        upstream: What stands in fal's place, one of the names in test_every_fault.upstream_of.
        act: The emulator's scenario, empty for none.
        fields: Its fields.
        times: How many exchanges it spoils; None for all.
        settings: Of the gateway.
        timeout_seconds: The caller's deadline.
    """

    name: str
    upstream: str = "emulator"
    act: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    times: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    timeout_seconds: float = 20.0


def _acts(name: str, act: str, times: int | None = None, deadline: float = 20.0, **fields: Any) -> Fault:
    return Fault(name, act=act, times=times, timeout_seconds=deadline, fields=fields)


_APPS_429: Mapping[str, Any] = {
    "status": 429,
    "body": '{"detail":"slow down"}',
    "headers": {"x-fal-request-id": "from-the-app"},
}

FAULTS = (
    # before a connection
    Fault("name resolution", upstream="no such host"),
    Fault("refused", upstream="refused"),
    Fault("connect timeout", upstream="full", settings={"connect_seconds": 0.05}),
    Fault("TLS failure", upstream="untrusted TLS"),
    # a cut
    _acts("reset before body", "reset_before_body"),
    _acts("reset before body, once", "reset_before_body", times=1),
    _acts("reset after body", "reset_after_body"),
    _acts("reset after body, once", "reset_after_body", times=1),
    _acts("closed without answer", "close_after_body"),
    _acts("closed without answer, once", "close_after_body", times=1),
    Fault("stale connection", upstream="swallows the second"),
    Fault("connection closed while idle", upstream="closes when idle"),
    _acts("truncated JSON", "cut_body", after_bytes=3),
    _acts("truncated JSON, reset", "cut_body", after_bytes=3, resets=True),
    # pages of the edge
    _acts("edge 502", "edge_page", status=502),
    _acts("edge 503", "edge_page", status=503),
    _acts("edge 504", "edge_page", status=504),
    _acts("edge 502, once", "edge_page", times=1, status=502),
    # fal's own limits
    _acts("429", "fail", kind="concurrent_requests_limit"),
    _acts("429, once", "fail", times=1, kind="concurrent_requests_limit"),
    _acts("429, once, Retry-After 1", "fail", times=1, kind="concurrent_requests_limit", retry_after="1"),
    _acts("429, Retry-After 600", "fail", kind="concurrent_requests_limit", retry_after="600", deadline=30.0),
    _acts("an app's own 429", "answer", **_APPS_429),
    # failures that fal tells of
    _acts("500 from fal", "fail", kind="unhandled_exception"),
    _acts("500 from fal with a hint", "fail", kind="runner_server_error"),
    _acts("503 from fal", "fail", kind="runner_disconnected"),
    _acts("503 from fal, nothing ran", "fail", kind="runner_scheduling_failure"),
    # slowness
    _acts("hang", "hang", deadline=0.5),
    Fault(
        "hang past the idle limit",
        act="hang",
        settings={"read_idle_seconds": 0.1, "stream_idle_seconds": 0.1},
    ),
    _acts("slow answer", "slow", times=1, seconds=0.3),
    _acts("slow bytes", "slow_body", chunk_bytes=7, seconds=0.005),
    _acts("slow bytes past the deadline", "slow_body", chunk_bytes=1, seconds=0.3, deadline=0.5),
)

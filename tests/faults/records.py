"""A history as data: the clients' side, the gateway's log, and what fal received. Pure."""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.faults.history import Told

__all__ = ["Records", "kinds_of", "name_of", "number_of", "short"]

PAID = frozenset({"run", "submit", "stream"})
"""The emulator's operations whose POST costs money."""

STREAMING = frozenset({"Stream", "StreamWorkflow", "StreamStatus", "Subscribe"})


@dataclass
class Records:
    """A history: the clients' side, the gateway's log lines, the emulator's evidence."""

    calls: "list[Told]"
    log: list[dict[str, Any]]
    evidence: list[dict[str, Any]]
    died: bool = False
    _posts: dict[str, list[dict[str, Any]]] = field(init=False)

    def __post_init__(self) -> None:
        self._posts = defaultdict(list)
        for one in self.evidence:
            if one["operation"] in PAID and one["method"] == "POST":
                self._posts[one["body_sha256"]].append(one)

    @property
    def paid(self) -> "list[Told]":
        """The paid calls."""
        return [call for call in self.calls if call.is_paid]

    @property
    def with_our_status(self) -> "list[Told]":
        """The calls that ended with a status that the gateway chose, as far as their clients can tell."""
        return [
            call
            for call in self.calls
            if call.code and not call.was_ended_by_its_client and not self.is_victim(call)
        ]

    def is_victim(self, call: "Told") -> bool:
        """Whether a call ended because the gateway was killed."""
        return self.died and call.code == "UNAVAILABLE" and not call.has_error_info

    def posts(self, call: "Told") -> list[dict[str, Any]]:
        """The paid POSTs of a call that fal received, oldest first."""
        return self._posts.get(call.body_sha256, [])

    def posts_that_may_count(self, call: "Told") -> list[dict[str, Any]]:
        """Those of them that fal may have accepted."""
        return [one for one in self.posts(call) if one["status"] != 429]

    def posts_without_body(self) -> list[dict[str, Any]]:
        """Paid POSTs that were cut before their body was read: whose they are is not known."""
        return self._posts.get("", [])

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log lines of an event."""
        return [line for line in self.log if line["event"] == event]


def kinds_of(call: "Told") -> list[str]:
    """The kinds of a stream's messages, without heartbeats and events that nobody knows."""
    if call.method not in STREAMING:
        return []
    kinds = [str(message.WhichOneof("kind")) for message in call.messages]
    return [kind for kind in kinds if kind not in ("heartbeat", "other_json")]


def number_of(message: Any) -> int | None:
    """The number of an event that has one."""
    fields = message.DESCRIPTOR.fields_by_name
    text = message.event.json if "event" in fields else message.other_json if "other_json" in fields else ""
    if not text.startswith("{"):
        return None
    number = json.loads(text).get("n")
    return number if isinstance(number, int) else None


def name_of(call: "Told") -> str:
    return f"{call.method} {short(call.body_sha256)}".strip()


def short(body_sha256: str) -> str:
    return body_sha256[:8]

"""Histories that are made up, for tests of the checker."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from tests.faults.history import History, Told

from falrpc import v1

__all__ = ["Story", "true_story"]

START = 1_700_000_000.0


@dataclass
class Story:
    """A history to be told, true until a test changes it."""

    history: History = field(default_factory=History)
    log: list[dict[str, Any]] = field(default_factory=list)
    evidence: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self, method: str, code: str = "OK", *, posts: tuple[int | None, ...] = (200,), **told: Any
    ) -> Told:
        """Adds a call with its line in the log and its POSTs in the evidence."""
        number = len(self.history.calls)
        body = hashlib.sha256(b"%d" % number).hexdigest() if method != "Status" else ""
        call = Told(method, body, START, START + 1.0, code=code, has_error_info=code != "OK", **told)
        self.history.calls.append(call)
        for status in posts if body else ():
            operation = {"StreamWorkflow": "stream", "Subscribe": "submit"}.get(method, method.lower())
            self.evidence.append(
                {"operation": operation, "method": "POST", "body_sha256": body, "status": status}
            )
        named = {"method": method, "call_id": f"call-{number}", "endpoint_id": "a/b"}
        for id in call.request_ids:
            self.log.append({"event": "request.accepted", **named, "request_id": id})
        line = {"event": "call.finished", **named, "code": code, "attempts": max(1, len(posts))}
        self.log.append({**line, "reason": call.reason})
        return call

    def check(self) -> None:
        self.history.check(self.log, self.evidence)


def true_story() -> Story:
    """Calls of all kinds, as they should end."""
    story = Story()
    ran = v1.RunResponse(call=v1.CallInfo(request_id="r1"))
    story.add("Run", request_ids={"r1"}, messages=[ran], timeout_seconds=5.0)
    started = v1.StreamResponse(started=v1.CallInfo(request_id="s1"))
    numbered = [v1.StreamResponse(event=v1.Output(json=f'{{"n":{n}}}')) for n in range(3)]
    story.add("Stream", request_ids={"s1"}, messages=[started, *numbered])
    story.add("Submit", "RESOURCE_EXHAUSTED", posts=(429, 429, 429), delivery="REJECTED", has_retry_info=True)
    story.add("Run", "UNKNOWN", posts=(None,), delivery="UNKNOWN")
    story.add("Run", "UNAVAILABLE", posts=(), delivery="NOT_SENT", has_retry_info=True)
    story.add("Run", "ABORTED", posts=(503,), delivery="FAILED", request_ids={"r2"})
    accepted = v1.SubscribeResponse(accepted=v1.RequestHandle(request_id="q1"))
    result = v1.SubscribeResponse(result=v1.ResultResponse())
    story.add("Subscribe", request_ids={"q1"}, messages=[accepted, result])
    output = v1.StreamWorkflowResponse(output=v1.WorkflowOutput())
    begun = v1.StreamWorkflowResponse(started=v1.CallInfo(request_id="w1"))
    story.add("StreamWorkflow", request_ids={"w1"}, messages=[begun, output])
    story.add("Status")
    return story

"""The history checker: whoever breaks a rule is caught, and who keeps them all passes."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.conftest import KEY, Fal, Running
from tests.faults.history import History, Told
from tests.faults.stories import Story, true_story
from tests.service.test_queue_calls import request
from tests.service.test_run import run
from tests.service.test_stream_calls import stream

from falrpc import v1


def test_a_true_story_passes() -> None:
    """A history that keeps every rule is not complained about."""
    true_story().check()


def told(story: Story, method: str, code: str) -> Told:
    """The first call that ended so."""
    return next(call for call in story.history.calls if (call.method, call.code) == (method, code))


def post(story: Story, call: Told) -> dict[str, Any]:
    """Its first POST."""
    return next(one for one in story.evidence if one["body_sha256"] == call.body_sha256)


def line(story: Story, method: str, event: str = "call.finished") -> dict[str, Any]:
    """The first such line of the log."""
    return next(one for one in story.log if (one["event"], one["method"]) == (event, method))


def same_input(story: Story) -> None:
    told(story, "Stream", "OK").body_sha256 = told(story, "Run", "OK").body_sha256


def second_post(story: Story) -> None:
    story.evidence.append(post(story, told(story, "Run", "UNKNOWN")))


def second_post_without_body(story: Story) -> None:
    first = post(story, told(story, "Run", "OK"))
    story.evidence.extend({**first, "body_sha256": "", "status": None} for _ in range(4))


def not_sent_but_received(story: Story) -> None:
    call = told(story, "Run", "UNAVAILABLE")
    story.evidence.append({**story.evidence[0], "body_sha256": call.body_sha256, "status": 429})


def rejected_but_answered_ok(story: Story) -> None:
    told(story, "Run", "UNKNOWN").delivery = "REJECTED"


def accepted_but_never_received(story: Story) -> None:
    call = told(story, "Run", "UNAVAILABLE")
    call.code, call.delivery = "UNKNOWN", "ACCEPTED"
    line(story, "Run")["code"] = "UNAVAILABLE"  # so that only the delivery is wrong


def ok_but_never_received(story: Story) -> None:
    story.evidence.remove(post(story, told(story, "Run", "OK")))


def failed_but_never_received(story: Story) -> None:
    story.evidence.remove(post(story, told(story, "Run", "ABORTED")))


def id_not_logged(story: Story) -> None:
    story.log.remove(line(story, "Stream", "request.accepted"))


def refused_id_not_logged(story: Story) -> None:
    call = told(story, "Run", "ABORTED")
    story.log = [one for one in story.log if one.get("request_id") not in call.request_ids]


def id_not_told(story: Story) -> None:
    told(story, "Run", "OK").request_ids.clear()


def accepted_line_without_endpoint(story: Story) -> None:
    line(story, "Run", "request.accepted")["endpoint_id"] = ""


def no_result(story: Story) -> None:
    told(story, "Subscribe", "OK").messages.pop()


def no_output(story: Story) -> None:
    told(story, "StreamWorkflow", "OK").messages.pop()


def no_event(story: Story) -> None:
    del told(story, "Stream", "OK").messages[1:]


def no_start(story: Story) -> None:
    del told(story, "Stream", "OK").messages[0]


def event_dropped(story: Story) -> None:
    del told(story, "Stream", "OK").messages[2]


def event_repeated(story: Story) -> None:
    messages = told(story, "Stream", "OK").messages
    messages.append(messages[-1])


def no_status(story: Story) -> None:
    call = told(story, "Status", "OK")
    call.code, call.ended = "", 0.0


def no_line(story: Story) -> None:
    story.log.remove(line(story, "Status"))


def one_line_too_many(story: Story) -> None:
    story.log.append({**line(story, "Status"), "call_id": "another"})


def two_lines_of_one_call(story: Story) -> None:
    story.add("Status")
    story.log[-1]["call_id"] = line(story, "Status")["call_id"]


def other_code_in_the_log(story: Story) -> None:
    line(story, "Status")["code"] = "INTERNAL"


def too_late(story: Story) -> None:
    told(story, "Run", "OK").ended += 60.0


def invites_a_repeat(story: Story) -> None:
    call = told(story, "Submit", "RESOURCE_EXHAUSTED")
    call.delivery = "UNKNOWN"


def unavailable_but_unknown(story: Story) -> None:
    told(story, "Run", "UNAVAILABLE").delivery = "UNKNOWN"


def told_cancelled(story: Story) -> None:
    call = told(story, "Run", "ABORTED")
    call.code = "CANCELLED"


def no_error_info(story: Story) -> None:
    told(story, "Run", "ABORTED").has_error_info = False


def key_in_the_log(story: Story) -> None:
    line(story, "Run")["cause"] = f"refused {KEY}"


def key_in_a_status(story: Story) -> None:
    told(story, "Run", "ABORTED").status_text = KEY.partition(":")[2]


def too_many_resends(story: Story) -> None:
    for _ in range(7):
        story.add("Submit", "RESOURCE_EXHAUSTED", posts=(429, 429, 429), delivery="REJECTED")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (same_input, "had the same input"),
        (second_post, "received more than once"),
        (second_post_without_body, "POSTs began"),
        (not_sent_but_received, "told UNAVAILABLE NOT_SENT"),
        (rejected_but_answered_ok, "told UNKNOWN REJECTED"),
        (accepted_but_never_received, "told UNKNOWN ACCEPTED"),
        (ok_but_never_received, "told OK"),
        (failed_but_never_received, "told ABORTED FAILED"),
        (id_not_logged, "its client knows request s1"),
        (refused_id_not_logged, "its client knows request r2"),
        (id_not_told, "did not reach a client"),
        (accepted_line_without_endpoint, "lacks a field"),
        (no_result, "ended OK with ['accepted']"),
        (no_output, "ended OK with ['started']"),
        (no_event, "ended OK with ['started']"),
        (no_start, "begins with event"),
        (event_dropped, "got the events [0, 2]"),
        (event_repeated, "got the events [0, 1, 2, 2]"),
        (no_status, "has no status"),
        (no_line, "0 call.finished lines"),
        (one_line_too_many, "1 calls, 2 call.finished lines"),
        (two_lines_of_one_call, "2 call.finished lines"),
        (other_code_in_the_log, "told {'OK': 1} more often"),
        (too_late, "with a deadline of"),
        (invites_a_repeat, "invites a repeat"),
        (unavailable_but_unknown, "invites a repeat"),
        (told_cancelled, "told CANCELLED"),
        (no_error_info, "without ErrorInfo"),
        (key_in_the_log, "has the key"),
        (key_in_a_status, "the status has the key"),
        (too_many_resends, "resends for"),
    ],
)
def test_a_broken_rule_is_caught(spoil: Callable[[Story], None], sentence: str) -> None:
    """A history that breaks a rule is caught, with a sentence that says which."""
    story = true_story()
    spoil(story)
    with pytest.raises(AssertionError) as caught:
        story.check()
    assert sentence in str(caught.value)


def test_what_clients_end_themselves() -> None:
    """Calls that their clients cancelled, or whose own deadline ended them, need no status of ours."""
    story = true_story()
    story.add("Run", "CANCELLED", was_cancelled=True).has_error_info = False
    late = story.add("Run", "DEADLINE_EXCEEDED")
    late.has_error_info = False
    story.log[-1]["code"] = "CANCELLED"
    story.check()


def test_a_gateway_that_died() -> None:
    """Calls that died with the gateway may lack status and line; without that news they are violations."""
    story = true_story()
    victim = story.add("Run", "UNAVAILABLE")
    victim.has_error_info = False
    story.log.pop()
    story.history.check(story.log, story.evidence, died=True)
    with pytest.raises(AssertionError, match="without ErrorInfo"):
        story.check()


async def test_real_calls(gateway: Running, fal: Fal) -> None:
    """Calls of every shape are noted with their ids, messages, codes and inputs, and checked."""
    history = History()
    ran = await history.call(gateway.stub, "Run", run("emulator/echo", '{"n":0}'))
    assert len(ran.request_ids) == 1
    assert ran.body_sha256 == fal.received(operation="run")[0]["body_sha256"]
    events = '{"events":[{"n":0},{"n":1}]}'
    streamed = await history.call(gateway.stub, "Stream", stream("emulator/events", events))
    assert [message.WhichOneof("kind") for message in streamed.messages] == ["started", "event", "event"]
    asked = v1.SubscribeRequest(submit=request("emulator/echo", '{"a":2}'))
    subscribed = await history.call(gateway.stub, "Subscribe", asked, 20.0)
    assert subscribed.is_paid
    handle = subscribed.messages[0].accepted
    attached = await history.call(gateway.stub, "Subscribe", v1.SubscribeRequest(attach=handle))
    assert not attached.is_paid
    assert attached.request_ids == subscribed.request_ids == {handle.request_id}
    failed = await history.call(
        gateway.stub, "Run", run("emulator/fail", '{"error_type":"runner_disconnected"}')
    )
    assert (failed.code, failed.reason, failed.delivery) == ("ABORTED", "RUNNER_DISCONNECTED", "FAILED")
    late = await history.call(gateway.stub, "Run", run("emulator/sleep", '{"seconds":9}'), 0.3)
    assert late.code == "DEADLINE_EXCEEDED"
    await history.finished(gateway.logged)
    history.check(gateway.logged(), fal.received())

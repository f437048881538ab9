"""Faults on demand, and what is no scenario."""

import base64
import json
import time
from typing import Any

import httpx
import pytest
from tests.emulator.running import Emulator

from falrpc_server.emulator.failures import EDGE_STATUSES, FAILURES, REQUEST_ERRORS
from falrpc_server.emulator.routes import OPERATIONS
from falrpc_server.emulator.scenarios import ACTS

STREAM = '{"events":["one","two"]}'


def echo(emulator: Emulator) -> httpx.Response:
    return emulator.run("emulator/echo", '{"a":"0123456789"}')


def test_answer(emulator: Emulator) -> None:
    """`answer` gives status, headers and body instead, header names in any case."""
    emulator.will("answer", status=418, headers={"X-A": "b", "Content-Type": "text/x"}, body="é")
    answer = echo(emulator)
    assert (answer.status_code, answer.headers["x-a"], answer.text) == (418, "b", "é")
    assert answer.headers["content-type"] == "text/x"
    assert echo(emulator).status_code == 200


def test_slow(emulator: Emulator) -> None:
    """`slow` answers as ever, but later."""
    emulator.will("slow", seconds=0.1)
    started = time.monotonic()
    assert echo(emulator).status_code == 200
    assert time.monotonic() - started >= 0.1


@pytest.mark.parametrize(
    ("path", "given", "whole"),
    [
        pytest.param("emulator/echo", '{"a":"0123456789"}', '{"a":"0123456789"}', id="answer"),
        pytest.param(
            "emulator/events/stream", STREAM, 'data: "one"\n\ndata: "two"\n\n', id="stream of two events"
        ),
        pytest.param("emulator/answer/stream", '{"text":"0123456789"}', "0123456789", id="scripted"),
    ],
)
@pytest.mark.parametrize("after_bytes", [0, 1, 5, 13, 20, 1_000])
def test_cut_body(emulator: Emulator, path: str, given: str, whole: str, after_bytes: int) -> None:
    """`cut_body` sends so many bytes of the whole body, in one piece or many, then closes."""
    emulator.will("cut_body", after_bytes=after_bytes)
    text, is_whole = "", True
    once = {"connection": "close"}  # after a whole answer the client would use the connection again
    with emulator.http.stream("POST", f"/run/{path}", content=given, headers=once) as answer:
        try:
            for piece in answer.iter_text():
                text += piece
        except httpx.RemoteProtocolError:
            is_whole = False
    assert text == whole[:after_bytes]
    # After all bytes of a known length nothing is missing; a stream still lacks its end.
    assert is_whole == ("events" not in path and after_bytes >= len(whole))
    [record] = emulator.ended()
    assert record["outcome"] == "cut"


@pytest.mark.parametrize("act", ["cut_body", "slow_body"])
@pytest.mark.parametrize("status", [204, 304])
def test_a_body_that_is_not_there(emulator: Emulator, act: str, status: int) -> None:
    """What has no body is answered as ever."""
    emulator.will(act)
    answer = emulator.run("emulator/answer", {"status": status, "text": "x"})
    assert (answer.status_code, answer.content) == (status, b"")
    assert emulator.http.get("/_emulator/health").json()["internal_errors"] == 0


def test_which_requests(emulator: Emulator) -> None:
    """`operation` and `endpoint` choose requests, `after` lets some through, `times` ends it."""
    emulator.will("answer", operation="submit", status=500)
    emulator.will("answer", endpoint="emulator/echo", operation="run", after=1, times=2, status=501)
    assert [echo(emulator).status_code for _ in range(5)] == [200, 501, 501, 200, 200]
    assert [emulator.submit("emulator/echo").status_code for _ in range(2)] == [500, 200]


def test_listing_and_clearing(emulator: Emulator) -> None:
    """Scenarios without `times` stay until they are cleared; what is in place is listed."""
    emulator.will("answer", status=500, times=None)
    assert {echo(emulator).status_code for _ in range(5)} == {500}
    [listed] = emulator.http.get("/_emulator/scenarios").json()
    assert (listed["act"], listed["times"], listed["status"]) == ("answer", None, 500)
    emulator.http.delete("/_emulator/scenarios")
    assert echo(emulator).status_code == 200


@pytest.mark.parametrize(
    "data",
    [
        "[]",
        "1",
        "{",
        "\xff",
        "[" * 100_000,
        "{}",
        '{"act":"dance"}',
        '{"act":1}',
        *(
            f'{{"act":"answer",{rest}}}'
            for rest in (
                '"wat":1',
                '"\\ud800":1',
                '"id":1',
                '"operation":"walk"',
                '"operation":[]',
                '"endpoint":1',
                '"body":{}',
                '"body":"\\ud800"',
                '"status":199',
                '"status":600',
                '"status":-1',
                '"status":null',
                '"status":"500"',
                '"status":500.5',
                '"status":true',
                '"times":0',
                '"times":-1',
                '"after":-1',
                '"after":null',
                '"after_bytes":-1',
                '"seconds":-0.1',
                '"seconds":NaN',
                '"seconds":1e999',
                '"seconds":null',
                '"headers":[]',
                '"headers":{"a":1}',
                '"headers":{"a b":"c"}',
                '"headers":{"ä":"c"}',
                '"headers":{"a":"b\\r\\nc"}',
                '"headers":{"a":" b"}',
                '"headers":{"a":"€"}',
                '"headers":{"transfer-encoding":"chunked"}',
            )
        ),
    ],
)
def test_what_is_no_scenario(emulator: Emulator, data: str) -> None:
    """Bad data is refused with 400 and a reason, and nothing is put in place."""
    answer = emulator.http.post("/_emulator/scenarios", content=data.encode())
    assert answer.status_code == 400
    assert json.loads(answer.content)["detail"]
    assert emulator.http.get("/_emulator/scenarios").json() == []


def refused(emulator: Emulator, data: Any) -> str:
    """Why data is no scenario."""
    answer = emulator.http.post("/_emulator/scenarios", json=data)
    assert answer.status_code == 400
    assert emulator.http.get("/_emulator/scenarios").json() == []
    return str(answer.json()["detail"])


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ({"act": "dance"}, ACTS),
        ({"kind": "bad_request"}, ACTS),
        ({"act": "slow", "minutes": 1}, ["minutes", "operation", "endpoint", "times", "after", "seconds"]),
        ({"act": "fail"}, ["kind", "retry_after"]),
        ({"act": "fail", "kind": "sadness"}, FAILURES),
        ({"act": "edge_page", "status": 500}, map(str, EDGE_STATUSES)),
        ({"act": "queue", "error_type": "gpu_error"}, REQUEST_ERRORS),
        ({"act": "slow", "operation": "walk"}, ["work", *OPERATIONS]),
        ({"act": "cut_body", "operation": "walk"}, OPERATIONS),
        ({"act": "stall", "operation": "walk"}, ["stream", "status_stream"]),
    ],
)
def test_the_refusal_names_what_there_is(emulator: Emulator, data: Any, names: list[str]) -> None:
    """Whoever misspells an act, a field, a kind, a status or an operation is told which there are."""
    text = refused(emulator, data)
    assert [name for name in names if name not in text] == []


@pytest.mark.parametrize("field", ["times", "after"])
def test_a_limit_stays(emulator: Emulator, field: str) -> None:
    """A limit is in place until scenarios are cleared: one for some requests only is refused."""
    scenario = {"act": "concurrency_limit", "limit": 1, field: 1}
    answer = emulator.http.post("/_emulator/scenarios", json=scenario)
    assert answer.status_code == 400
    assert "neither times nor after" in answer.json()["detail"]
    assert emulator.http.get("/_emulator/scenarios").json() == []


MISFITS = [(act, "work") for act in ACTS.keys() - {"answer", "fail", "hang", "slow", "concurrency_limit"}]
MISFITS += [(act, "run") for act in ("cut_event", "truncate_last_event", "repeat_events", "stall")]
MISFITS += [("no_keepalives", "submit"), ("queue", "run"), ("concurrency_limit", "run")]


@pytest.mark.parametrize(("act", "operation"), sorted(MISFITS))
def test_acts_that_do_not_fit(emulator: Emulator, act: str, operation: str) -> None:
    """What would have no effect on an operation is refused, and not put in place to wait for ever."""
    required: dict[str, dict[str, Any]] = {
        "huge_answer": {"bytes": 100},
        "headers": {"headers": {}},
        "concurrency_limit": {"limit": 1},
    }
    assert "operation" in refused(emulator, {"act": act, "operation": operation, **required.get(act, {})})


@pytest.mark.parametrize("status", [204, 304])
def test_a_huge_answer_needs_a_status_with_a_body(emulator: Emulator, status: int) -> None:
    """A status that HTTP gives no body to doesn't go with a huge one."""
    assert str(status) in refused(emulator, {"act": "huge_answer", "bytes": 100, "status": status})


def test_a_list_with_a_mistake(emulator: Emulator) -> None:
    """A list is put in place whole and in order, or not at all."""
    one, other = {"act": "answer", "status": 501}, {"act": "answer", "status": 502}
    refused(emulator, [one, {"act": "dance"}, other])
    assert emulator.http.post("/_emulator/scenarios", json=[one, other]).status_code == 204
    assert [echo(emulator).status_code for _ in range(3)] == [501, 502, 200]


def test_bodies_that_are_no_text_or_long(emulator: Emulator) -> None:
    """`answer` takes bytes as base64, and repeats pieces."""
    emulator.will("answer", status=200, body_base64=base64.b64encode(b"\xff\x00").decode())
    assert echo(emulator).content == b"\xff\x00"
    emulator.will("answer", status=200, body_pieces=[["[", 3], ["]", 3]])
    assert echo(emulator).text == "[[[]]]"
    refused(emulator, {"act": "answer", "body_base64": "?"})
    refused(emulator, {"act": "answer", "body_pieces": [["x", 1_000_000_000]]})


def test_acts_of_streams_wait_for_one(emulator: Emulator) -> None:
    """An act that only a stream can show isn't used up by requests that have none."""
    emulator.will("repeat_events")
    assert emulator.result(emulator.submit("emulator/echo")).status_code == 200
    assert emulator.stream("emulator/echo", "{}").text == "data: {}\n\n" * 2


def test_endpoints_of_queue_requests(emulator: Emulator) -> None:
    """Status, result and cancel fall under their endpoint's scenarios, although their URLs lack its sub-path."""
    for wanted in ("fal-ai/flux/dev", "fal-ai/flux"):
        emulator.will("answer", endpoint="fal-ai/other", operation="status")
        emulator.will("answer", endpoint=wanted, operation="status", status=418)
        submitted = emulator.submit("fal-ai/flux/dev", {"prompt": ""})
        assert [emulator.status(submitted).status_code == 418 for _ in range(2)] == [True, False]

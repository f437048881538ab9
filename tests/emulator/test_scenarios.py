"""Faults on demand, and what is no scenario."""

import json
import time

import httpx
import pytest
from tests.emulator.running import Emulator

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


@pytest.mark.parametrize("status", [502, 503, 504])
def test_edge_page(emulator: Emulator, status: int) -> None:
    """`edge_page` is what fal's proxy answers: HTML of nginx without a request id."""
    emulator.will("edge_page", status=status)
    answer = echo(emulator)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html")
    assert "nginx" in answer.text
    assert "x-fal-request-id" not in answer.headers


def test_hang(emulator: Emulator) -> None:
    """`hang` never answers."""
    emulator.will("hang")
    with pytest.raises(httpx.ReadTimeout):
        emulator.run("emulator/echo", timeout=0.1)


def test_slow(emulator: Emulator) -> None:
    """`slow` answers as ever, but later."""
    emulator.will("slow", seconds=0.1)
    started = time.monotonic()
    assert echo(emulator).status_code == 200
    assert time.monotonic() - started >= 0.1


@pytest.mark.parametrize("act", ["reset_before_body", "close_after_body"])
def test_no_answer(emulator: Emulator, act: str) -> None:
    """The connection ends without an answer, before or after the request was read."""
    emulator.will(act)
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)):
        echo(emulator)
    [record] = emulator.ended()
    assert (record["outcome"], record["status"]) == ("cut", None)
    assert record["body_bytes"] == (0 if act == "reset_before_body" else 18)


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
    with emulator.http.stream("POST", f"/run/{path}", content=given) as answer:
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

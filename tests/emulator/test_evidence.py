"""What really arrived, and when clients left."""

import hashlib
import json
import time

import pytest
from tests.emulator.queueing import known, reaches
from tests.emulator.running import Emulator, eventually

from falrpc_server.emulator.evidence import RECORDS_MAX, Evidence


def test_records(emulator: Emulator) -> None:
    """A record tells operation, endpoint, headers without the key, and the body's size and hash."""
    emulator.run("emulator/echo", '{"a":1}', headers={"X-A": "b"})
    emulator.submit("emulator/echo")
    [record] = emulator.ended(operation="run")
    assert record["operation"] == "run"
    assert record["endpoint"] == "emulator/echo"
    assert (record["method"], record["path"]) == ("POST", "/run/emulator/echo")
    assert (record["headers"]["x-a"], record["headers"]["authorization"]) == ("b", "Key …")
    assert record["body_bytes"] == 7
    assert record["body_sha256"] == hashlib.sha256(b'{"a":1}').hexdigest()
    assert (record["status"], record["outcome"]) == (200, "answered")
    assert record["at"] <= record["closed_at"]


@pytest.mark.parametrize(
    ("authorization", "shown"), [("Bearer secret-token", "Bearer …"), ("Key a:b", "Key …"), ("", " …")]
)
def test_secrets_in_records(emulator: Emulator, authorization: str, shown: str) -> None:
    """A record has the query without signatures, and of a credential only its scheme."""
    secrets = dict.fromkeys(("signature", "identity", "fal_jwt_token"), "SECRET")
    headers = {"authorization": authorization}
    emulator.run("emulator/echo", params={"a": "b", "empty": "", **secrets}, headers=headers)
    [record] = emulator.ended()
    assert record["query"] == {"a": "b", "empty": ""}
    assert record["headers"]["authorization"] == shown
    assert record["path"] == "/run/emulator/echo"
    assert not any(secret in emulator.http.get("/_emulator/evidence").text for secret in ("SECRET", "a:b"))


def test_counts(emulator: Emulator) -> None:
    """Requests are counted by operation and endpoint, and forgotten when asked; our own are not counted."""
    for _ in range(3):
        emulator.run("emulator/echo")
    emulator.run("nobody/x")
    evidence = emulator.evidence()
    assert evidence["counts"] == [
        {"operation": "run", "endpoint": "emulator/echo", "count": 3},
        {"operation": "run", "endpoint": "nobody/x", "count": 1},
    ]
    assert len(emulator.ended(endpoint="nobody/x")) == 1
    emulator.http.delete("/_emulator/evidence")
    assert emulator.evidence()["requests"] == emulator.evidence()["counts"] == []


@pytest.mark.parametrize(
    ("operation", "endpoint", "body"),
    [
        pytest.param("run", "emulator/sleep", b'{"seconds":60}', id="run"),
        pytest.param("stream", "emulator/events", b'{"events":[1],"end":"hang"}', id="stream"),
        pytest.param("stream", "emulator/events", b'{"events":[1,2],"delay":60}', id="stream in a pause"),
        pytest.param("status_stream", "emulator/cancellable", b"", id="status stream"),
    ],
)
def test_a_client_that_leaves(emulator: Emulator, operation: str, endpoint: str, body: bytes) -> None:
    """A closed connection is noticed within 100 ms."""
    delays = []
    for _ in range(3):  # the best one counts: others use this machine, too
        if operation == "status_stream":
            request_id = emulator.submit(endpoint).json()["request_id"]
            connection = emulator.send("GET", f"/queue/{endpoint}/requests/{request_id}/status/stream")
        else:
            tail = "/stream" if operation == "stream" else ""
            connection = emulator.send("POST", f"/run/{endpoint}{tail}", body)
        with connection:
            seen = len(delays) + 1
            eventually(lambda seen=seen: len(emulator.evidence(operation=operation)["requests"]) == seen)
            if operation != "run":
                assert connection.recv(100).startswith(b"HTTP/1.1 200 OK")
            left_at = time.time()
        record = emulator.ended(operation=operation)[-1]
        assert record["outcome"] == "client_closed"
        delays.append(record["closed_at"] - left_at)
    assert min(delays) < 0.1


def test_a_client_that_leaves_in_its_request(emulator: Emulator) -> None:
    """A request that was never whole is seen, too."""
    with emulator.connect() as connection:
        connection.sendall(b"POST /run/emulator/echo HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{")
        eventually(lambda: emulator.evidence()["requests"])
    [record] = emulator.ended()
    assert (record["outcome"], record["body_bytes"]) == ("client_closed", 0)


def test_what_came_more_than_once(emulator: Emulator) -> None:
    """The same body twice for the same operation and endpoint is told; other bodies and none are not."""
    for body in (b'{"a":1}', b'{"a":2}', b'{"a":1}', b'{"a":1}'):
        emulator.submit("emulator/echo", body)
    emulator.run("emulator/echo", b'{"a":1}')
    emulator.run("emulator/logs", b'{"a":1}')
    submitted = emulator.submit("emulator/echo", b'{"a":3}')
    for _ in range(2):
        emulator.status(submitted)
    again = {"endpoint": "emulator/echo", "body_sha256": hashlib.sha256(b'{"a":1}').hexdigest(), "count": 3}
    assert emulator.evidence()["repeated"] == [{"operation": "submit", **again}]
    assert emulator.evidence(operation="submit")["repeated"] == [{"operation": "submit", **again}]
    assert emulator.evidence(operation="run")["repeated"] == []
    emulator.http.delete("/_emulator/evidence")
    assert emulator.evidence()["repeated"] == []


def test_choosing_records(emulator: Emulator) -> None:
    """Operation and endpoint choose records, alone and together; their numbers are in order of arrival."""
    emulator.run("emulator/echo")
    emulator.submit("emulator/echo")
    emulator.run("emulator/logs")
    assert [r["operation"] for r in emulator.ended(endpoint="emulator/echo")] == ["run", "submit"]
    assert [r["endpoint"] for r in emulator.ended(operation="run")] == ["emulator/echo", "emulator/logs"]
    [both] = emulator.ended(operation="run", endpoint="emulator/logs")
    assert both["endpoint"] == "emulator/logs"
    assert emulator.ended(operation="cancel") == []
    numbers = [record["seq"] for record in emulator.ended()]
    assert numbers == list(range(numbers[0], numbers[0] + 3))


def test_open_connections(emulator: Emulator) -> None:
    """Connections count from their opening to their end, without any request on them."""
    emulator.evidence()
    before = emulator.evidence()["open_connections"]
    assert before >= 1  # the one that asks

    def more() -> int:
        now: int = emulator.evidence()["open_connections"]
        return now - before

    with emulator.connect(), emulator.connect():
        eventually(lambda: more() == 2)
        assert emulator.http.get("/_emulator/health").json()["open_connections"] == before + 2
    eventually(lambda: more() == 0)


def test_open_requests(emulator: Emulator) -> None:
    """A request counts as open until its answer is complete, and is a record without an end so long."""
    with emulator.send("POST", "/run/emulator/sleep", b'{"seconds":60}'):
        seen = eventually(emulator.evidence, lambda seen: seen["open_requests"] == 1)
        [record] = seen["requests"]
        assert (record["outcome"], record["status"], record["closed_at"]) == ("open", None, None)
        assert emulator.http.get("/_emulator/health").json()["open_requests"] == 1
        emulator.http.delete("/_emulator/evidence")
        assert emulator.evidence()["open_requests"] == 1  # forgotten, and still there
    eventually(lambda: emulator.evidence()["open_requests"] == 0)


def test_scenarios_in_records(emulator: Emulator) -> None:
    """A record names the scenario that its request fell under, whether put in place or brought along."""
    emulator.will("answer", operation="run", status=418)
    emulator.will("slow", operation="run", seconds=0)
    own = {"x-emulator-scenario": json.dumps({"act": "cut_body"})}
    emulator.run("emulator/echo")
    emulator.run("emulator/echo")
    emulator.run("emulator/echo")
    with emulator.http.stream("POST", "/run/emulator/echo", headers=own, content="{}"):
        pass
    records = [(record["scenario"], record["status"]) for record in emulator.ended(operation="run")]
    assert records == [("answer", 418), ("slow", 200), ("", 200), ("cut_body", 200)]


def test_cancellations(emulator: Emulator) -> None:
    """A cancellation is among the records, and marks the request that it reached and no other."""
    kept, cancelled = emulator.submit("emulator/cancellable"), emulator.submit("emulator/cancellable")
    for submitted in (kept, cancelled):
        reaches(emulator, submitted, "IN_PROGRESS")
    emulator.http.put(cancelled.json()["cancel_url"])
    reaches(emulator, cancelled, "COMPLETED")
    assert known(emulator, cancelled) == {
        "request_id": cancelled.json()["request_id"],
        "gateway_request_id": cancelled.json()["request_id"],
        "endpoint": "emulator/cancellable",
        "state": "COMPLETED",
        "attempts": 1,
        "cancelled": True,
        "status": 499,
    }
    other = known(emulator, kept)
    assert (other["state"], other["cancelled"], other["status"]) == ("IN_PROGRESS", False, None)
    [record] = emulator.ended(operation="cancel")
    assert (record["method"], record["status"]) == ("PUT", 202)
    assert record["path"].endswith(f"{cancelled.json()['request_id']}/cancel")
    emulator.http.put(kept.json()["cancel_url"])


def test_what_the_emulator_does_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake of the emulator's own is told on stderr and counted."""
    evidence = Evidence()
    assert evidence.health()["internal_errors"] == 0
    try:
        raise LookupError("my own")
    except LookupError:
        evidence.mistake()
    assert "LookupError: my own" in capsys.readouterr().err
    assert evidence.health()["internal_errors"] == 1


def test_records_max() -> None:
    """The oldest records are forgotten beyond a number, and all requests are counted."""
    evidence = Evidence()
    for number in range(RECORDS_MAX + 5):
        evidence.end(evidence.begin("run", "POST", f"/{number}", {}, "emulator/echo", {}), "answered")
    report = evidence.report({})
    assert len(report["requests"]) == RECORDS_MAX
    assert (report["requests"][0]["path"], report["open_requests"]) == ("/5", 0)
    assert report["counts"] == [{"operation": "run", "endpoint": "emulator/echo", "count": RECORDS_MAX + 5}]

"""What really arrived, and when clients left."""

import hashlib
import time

import pytest
from tests.emulator.running import Emulator, eventually


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

"""fal's Python client and webhooks (§11)."""

import http.server
import json
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.conformance.clients import Calling
from tests.emulator.running import Emulator


class Receiver(http.server.ThreadingHTTPServer):
    """Takes what is posted to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receiving)
        self.received: queue.Queue[tuple[str, dict[str, str], Any]] = queue.Queue()


class _Receiving(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.received.put((self.path, {n.lower(): v for n, v in self.headers.items()}, body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keeps quiet."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Receives webhooks."""
    with Receiver() as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        yield server
        server.shutdown()
        serving.join()


@pytest.mark.parametrize(
    ("endpoint", "given", "told"),
    [
        pytest.param("emulator/echo", {"a": 1}, {"status": "OK", "payload": {"a": 1}}, id="ok"),
        pytest.param(
            "emulator/fail",
            {},
            {
                "status": "ERROR",
                "error": "Invalid status code: 500",
                "payload": {"detail": "Internal Server Error"},
            },
            id="error",
        ),
    ],
)
def test_webhook(
    client: Calling, emulator: Emulator, receiver: Receiver, endpoint: str, given: Any, told: dict[str, Any]
) -> None:
    """submit() with a webhook has the outcome posted to that URL, signed, whatever has to be escaped in it."""
    url = f"http://127.0.0.1:{receiver.server_port}/hook?a=1&b=%C3%BC+%26"
    handle = client.submit(endpoint, given, webhook_url=url)
    path, headers, body = receiver.received.get(timeout=20)
    assert path == "/hook?a=1&b=%C3%BC+%26"
    ids = {"request_id": handle.request_id, "gateway_request_id": handle.request_id}
    assert body == {**ids, **told}
    assert headers["x-fal-webhook-request-id"] == handle.request_id
    assert headers["x-fal-webhook-user-id"]
    assert headers["x-fal-webhook-timestamp"].isdigit()
    assert len(bytes.fromhex(headers["x-fal-webhook-signature"])) == 64

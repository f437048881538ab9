"""An emulator in a process of its own, and what tests ask of it."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

AUTHORIZATION = {"authorization": "Key test-id:test-secret"}
NOBODY = "http://127.0.0.1:9"  # a proxy that must not be used


class Emulator:
    """A running emulator and a client of it with a key."""

    def __init__(self, url: str, https_url: str = "") -> None:
        self.url = url
        self.https_url = https_url
        self.http = httpx.Client(base_url=url, headers=AUTHORIZATION, trust_env=False, timeout=20)

    def run(self, endpoint: str, given: Any = None, **options: Any) -> httpx.Response:
        """Runs a model; the input is text, bytes or a value."""
        return self.http.post(f"/run/{endpoint}", content=_text(given), **options)

    def stream(self, endpoint: str, given: Any = None, **options: Any) -> httpx.Response:
        """Streams a model until the end."""
        return self.run(f"{endpoint}/stream", given, **options)

    def submit(self, endpoint: str, given: Any = None, **options: Any) -> httpx.Response:
        """Puts a request in the queue."""
        return self.http.post(f"/queue/{endpoint}", content=_text(given), **options)

    def status(self, submitted: httpx.Response, **query: Any) -> httpx.Response:
        """The status of what `submit` answered."""
        return self.http.get(submitted.json()["status_url"], params=query)

    def until_completed(self, submitted: httpx.Response, **query: Any) -> dict[str, Any]:
        """Waits until a request is COMPLETED and returns its status."""
        answer = eventually(
            lambda: self.status(submitted, **query), lambda a: a.json()["status"] == "COMPLETED"
        )
        return dict(answer.json())

    def result(self, submitted: httpx.Response) -> httpx.Response:
        """Waits for a request and reads its result."""
        self.until_completed(submitted)
        return self.http.get(submitted.json()["response_url"])

    def evidence(self, **query: str) -> dict[str, Any]:
        """What arrived."""
        return dict(self.http.get("/_emulator/evidence", params=query).json())

    def ended(self, **query: str) -> list[dict[str, Any]]:
        """The records of requests, once none is open: an answer may be here before its record ends."""
        return list(
            eventually(lambda: self.evidence(**query), lambda seen: seen["open_requests"] == 0)["requests"]
        )

    def will(self, act: str, **scenario: Any) -> None:
        """Puts a scenario in place."""
        answer = self.http.post("/_emulator/scenarios", json={"act": act, **scenario})
        assert answer.status_code == 204, answer.text

    def upload(self, data: bytes, content_type: str = "image/png", name: str = "a.png") -> str:
        """Uploads a file and returns its URL."""
        urls = self.initiate(content_type, name)
        put = self.http.put(urls["upload_url"], content=data, headers={"content-type": content_type})
        assert put.status_code == 200, put.text
        return urls["file_url"]

    def initiate(self, content_type: str = "image/png", name: str = "a.png") -> dict[str, str]:
        """Asks for an upload target."""
        asked = {"content_type": content_type, "file_name": name}
        path = "/rest/storage/upload/initiate?storage_type=fal-cdn-v3"
        return dict(self.http.post(path, json=asked).raise_for_status().json())

    def connect(self) -> socket.socket:
        """A bare connection."""
        url = httpx.URL(self.url)
        return socket.create_connection((url.host, url.port), timeout=10)

    def send(self, method: str, path: str, body: bytes = b"") -> socket.socket:
        """Sends a request over a connection of its own and leaves the answer unread."""
        connection = self.connect()
        head = f"{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: {AUTHORIZATION['authorization']}\r\n"
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        return connection

    def reset(self) -> None:
        """Forgets requests and scenarios."""
        self.http.delete("/_emulator/evidence")
        self.http.delete("/_emulator/scenarios")


@contextlib.contextmanager
def running_emulator(*options: str) -> Iterator[tuple[Emulator, "subprocess.Popen[str]"]]:
    """Runs an emulator; at the end it must stop at SIGTERM, with exit code 0 and no word."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAL")}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "HTTP_PROXY": NOBODY, "http_proxy": NOBODY}
    command = [sys.executable, "-m", "falrpc_server", "emulator", "--port", "0", *options]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True)
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line.startswith("listening "), line
            emulator = Emulator(*line.split()[1:])
            with emulator.http:
                yield emulator, process
                process.terminate()
                exit_code = process.wait(timeout=60)
            errors.seek(0)
            said = errors.read()
            assert (exit_code, said) == (0, ""), (exit_code, said)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def eventually(look: Callable[[], Any], is_there: Callable[[Any], bool] = bool) -> Any:
    """What `look` returns as soon as it is as wanted."""
    deadline = time.monotonic() + 30
    while not is_there(seen := look()):
        assert time.monotonic() < deadline, seen
        time.sleep(0.005)
    return seen


def events(text: str) -> list[str]:
    """The data of the whole events in a stream."""
    return [
        "\n".join(line.removeprefix("data: ") for line in block.split("\n"))
        for block in text.split("\n\n")[:-1]
        if not block.startswith(":")
    ]


def _text(given: Any) -> bytes:
    if isinstance(given, bytes):
        return given
    return (given if isinstance(given, str) else json.dumps({} if given is None else given)).encode()

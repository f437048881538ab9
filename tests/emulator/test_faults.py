"""What faults look like on the wire: to bare sockets, and over TLS."""

import contextlib
import re
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.emulator.running import Emulator, eventually, running_emulator

SENTENCE = b'{"a":"0123456789"}'
HEAD = b"POST /run/emulator/echo HTTP/1.1\r\nhost: x\r\nauthorization: Key a:b\r\ncontent-length: 18\r\n\r\n"


@pytest.fixture(scope="module")
def tls_emulator() -> Iterator[tuple[Emulator, int]]:
    """An emulator that also speaks TLS, and its process id."""
    with running_emulator("--tls-port", "0") as (emulator, process):
        yield emulator, process.pid


@contextlib.contextmanager
def connection_to(emulator: Emulator, scheme: str) -> Iterator[socket.socket]:
    """A bare connection."""
    if scheme == "http":
        with emulator.connect() as connection:
            yield connection
        return
    trusting = ssl.create_default_context(cadata=emulator.http.get("/_emulator/ca.pem").text)
    url = httpx.URL(emulator.https_url)
    with (
        socket.create_connection((url.host, url.port), timeout=10) as raw,
        trusting.wrap_socket(raw, server_hostname=url.host, suppress_ragged_eofs=False) as connection,
    ):
        yield connection


def received(connection: socket.socket, timeout: float = 10) -> tuple[bytes, str]:
    """All that comes, and how it ends: `closed`, `reset`, or still open and `silent`."""
    connection.settimeout(timeout)
    data = b""
    while True:
        try:
            piece = connection.recv(65_536)
        except ConnectionResetError:
            return data, "reset"
        except (
            ssl.SSLEOFError
        ):  # an end without TLS's own farewell, by RST or FIN: the ssl module doesn't say
            return data, "cut" if is_connected(connection) else "reset"
        except TimeoutError:
            return data, "silent"
        if not piece:
            return data, "closed"
        data += piece


def is_connected(connection: socket.socket) -> bool:
    """Whether the other end is still known: it is after FIN, and not after RST."""
    try:
        connection.getpeername()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("size", [16, 17, 64 * 1024 + 10, 64 * 1024 + 11, 64 * 1024 + 12, 5_000_000])
def test_huge_answer(emulator: Emulator, size: int) -> None:
    """`huge_answer` is valid JSON of exactly the size, with a length and a status as asked."""
    emulator.will("huge_answer", bytes=size, status=429)
    answer = emulator.run("emulator/echo")
    assert (answer.status_code, len(answer.content)) == (429, size)
    assert (answer.headers["content-length"], answer.headers["content-type"]) == (
        str(size),
        "application/json",
    )
    assert set(answer.json()) == {"blob"}


def test_a_huge_answer_takes_no_memory(tls_emulator: tuple[Emulator, int]) -> None:
    """An answer is made as it is read: 100 GB of it don't fill the memory, and end when the reader leaves."""
    emulator, pid = tls_emulator
    statistics = Path(f"/proc/{pid}/status")
    if not statistics.exists():
        pytest.skip("no /proc here")

    def peak_kib() -> int:
        return int(re.findall(r"VmHWM:\s+(\d+)", statistics.read_text())[0])

    emulator.reset()
    before = peak_kib()
    emulator.will("huge_answer", bytes=100_000_000_000)
    with emulator.http.stream("POST", "/run/emulator/echo") as answer:
        read = 0
        for piece in answer.iter_raw():
            read += len(piece)
            if read > 100_000_000:
                break
    assert peak_kib() - before < 30_000
    assert [record["outcome"] for record in emulator.ended()] == ["client_closed"]


def test_hang(emulator: Emulator) -> None:
    """`hang` reads the whole request, is silent, keeps the connection, and ends with it."""
    emulator.will("hang")
    with emulator.send("POST", "/run/emulator/echo", SENTENCE) as connection:
        assert received(connection, timeout=0.3) == (b"", "silent")
        [record] = emulator.evidence()["requests"]
        assert (record["outcome"], record["body_bytes"], record["status"]) == ("open", 18, None)
    [record] = emulator.ended()
    assert record["outcome"] == "client_closed"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_reset_before_body(tls_emulator: tuple[Emulator, int], scheme: str) -> None:
    """`reset_before_body` resets the connection before a byte of the body was sent."""
    emulator, _ = tls_emulator
    emulator.will("reset_before_body")
    with connection_to(emulator, scheme) as connection:
        connection.sendall(HEAD)
        assert received(connection) == (b"", "reset")


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(("act", "end"), [("reset_after_body", "reset"), ("close_after_body", "closed")])
def test_no_answer_to_a_whole_request(
    tls_emulator: tuple[Emulator, int], scheme: str, act: str, end: str
) -> None:
    """`reset_after_body` and `close_after_body` wait for the whole request, then reset or close as they say."""
    emulator, _ = tls_emulator
    emulator.reset()
    emulator.will(act)
    with connection_to(emulator, scheme) as connection:
        connection.sendall(HEAD + SENTENCE[:-1])
        assert received(connection, timeout=0.1) == (b"", "silent")
        connection.sendall(SENTENCE[-1:])
        assert received(connection) == (b"", end)
    [record] = emulator.ended()
    assert (record["outcome"], record["status"], record["body_bytes"]) == ("cut", None, 18)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("resets", [False, True])
def test_cut_body_on_the_wire(tls_emulator: tuple[Emulator, int], scheme: str, resets: bool) -> None:
    """`cut_body` promises the whole body, sends a part of it, and closes or resets."""
    emulator, _ = tls_emulator
    emulator.will("cut_body", after_bytes=7, resets=resets)
    with connection_to(emulator, scheme) as connection:
        connection.sendall(HEAD + SENTENCE)
        data, end = received(connection)
    assert end == ("reset" if resets else "closed")
    if not resets:  # a reset may overtake what was sent
        head, _, body = data.partition(b"\r\n\r\n")
        assert (b"content-length: 18" in head.lower(), body) == (True, SENTENCE[:7])


@pytest.mark.parametrize(
    ("path", "given", "whole"),
    [
        pytest.param("emulator/echo", SENTENCE, SENTENCE, id="answer"),
        pytest.param("emulator/echo/stream", b'{"a":123456}', b'data: {"a":123456}\n\n', id="stream"),
    ],
)
def test_slow_body(emulator: Emulator, path: str, given: bytes, whole: bytes) -> None:
    """`slow_body` sends the whole body in pieces, with a pause before each but the first."""
    emulator.will("slow_body", chunk_bytes=6, seconds=0.1)
    started, arrived = time.monotonic(), []
    with emulator.http.stream("POST", f"/run/{path}", content=given) as answer:
        assert answer.status_code == 200
        pieces = []
        for piece in answer.iter_bytes():
            pieces.append(piece)
            arrived.append(time.monotonic() - started)
    assert b"".join(pieces) == whole
    assert len(pieces) > 1
    assert len(pieces[0]) == 6
    assert arrived[-1] - arrived[0] >= 0.09 * ((len(whole) - 1) // 6)
    assert arrived[-1] >= 0.1 * ((len(whole) - 1) // 6)


def test_no_pause_around_one_piece(emulator: Emulator) -> None:
    """A body in one piece has no pause before or after it."""
    emulator.will("slow_body", chunk_bytes=100, seconds=60)
    assert emulator.run("emulator/echo", SENTENCE).content == SENTENCE


@pytest.mark.parametrize("path", ["/run/emulator/echo", "/run/emulator/echo/stream", "/queue/emulator/echo"])
def test_headers(emulator: Emulator, path: str) -> None:
    """`headers` adds, replaces and removes headers of a real answer, names in any case, and nothing else."""
    changed = {"X-A": "b", "Content-Type": "text/x", "X-Fal-Request-Id": None, "x-fal-billable-units": "7"}
    emulator.will("headers", headers=changed)
    answer = emulator.http.post(path, content=SENTENCE)
    assert answer.status_code == 200
    assert (
        answer.headers.items() >= {"x-a": "b", "content-type": "text/x", "x-fal-billable-units": "7"}.items()
    )
    assert "x-fal-request-id" not in answer.headers
    assert SENTENCE in answer.content or b"IN_QUEUE" in answer.content
    emulator.will("headers", headers={"content-type": None})
    answer = emulator.http.post(path, content=SENTENCE)
    assert "content-type" not in answer.headers
    assert "x-fal-request-id" in answer.headers


def test_headers_and_no_connection(emulator: Emulator) -> None:
    """A connection that a header closes is closed behind the whole answer."""
    emulator.will("headers", headers={"connection": "close"})
    with emulator.send("POST", "/run/emulator/echo", SENTENCE) as connection:
        data, end = received(connection)
    assert (data.endswith(SENTENCE), end) == (True, "closed")
    assert eventually(lambda: emulator.evidence()["open_requests"] == 0)

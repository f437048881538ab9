"""Start and stop."""

import socket
import subprocess
import sys
import time

import httpx
import pytest
from tests.emulator.running import eventually, running_emulator

TRIES = 3  # a time limit is met by the best of them: others use this machine, too


def test_sigterm_with_everything_open() -> None:
    """SIGTERM ends it within 2 s, exit code 0, nothing on stderr, whatever is open."""
    for _ in range(TRIES):
        if (seconds := seconds_to_stop()) < 2:
            return
    raise AssertionError(f"{seconds} s at the best of {TRIES} tries")


def test_an_idle_connection_stays_open() -> None:
    """A connection is kept longer than clients keep theirs (5 s is usual), so that it is they who close."""
    with running_emulator() as (emulator, _), emulator.connect() as connection:
        request = b"GET /_emulator/health HTTP/1.1\r\nhost: x\r\n\r\n"
        connection.sendall(request)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
        connection.settimeout(6)
        with pytest.raises(TimeoutError):
            while connection.recv(65_536).startswith(b"{"):  # the body, if it came by itself
                pass
        connection.sendall(request)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")


def seconds_to_stop() -> float:
    """How long an emulator takes to stop that has everything open."""
    with running_emulator() as (emulator, process):
        submitted = emulator.submit("emulator/cancellable").json()
        emulator.submit("emulator/sleep", {"seconds": 60})
        emulator.will("hang", operation="download")
        open_ones = [
            emulator.send("POST", "/run/emulator/sleep", b'{"seconds":60}'),
            emulator.send("POST", "/run/emulator/events/stream", b'{"events":[1],"end":"hang"}'),
            emulator.send("POST", "/run/emulator/blob", b'{"bytes":50000000}'),  # nobody reads it
            emulator.send("GET", f"{httpx.URL(submitted['status_url']).path}/stream"),
            emulator.send("GET", "/cdn/x"),
            emulator.connect(),
        ]
        half = emulator.connect()
        half.sendall(b"POST /run/emulator/echo HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{")
        drawing = emulator.send("POST", "/run/fal-ai/fast-sdxl", b'{"prompt":"a","image_size":"square_hd"}')
        eventually(lambda: len(emulator.evidence()["requests"]) == 9)
        started = time.monotonic()
        process.terminate()
        assert process.wait(timeout=60) == 0
        seconds = time.monotonic() - started
        for connection in (*open_ones, half, drawing):
            connection.close()
    return seconds


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::1", "localhost"])
def test_the_announced_url_works(host: str) -> None:
    """Whatever it listens on, what it announces is a URL to reach it, and to reach its files."""
    if ":" in host:
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("no IPv6 here")
    with running_emulator("--host", host) as (emulator, _):
        assert httpx.URL(emulator.url).host in ("127.0.0.1", "::1")
        assert emulator.http.get("/_emulator/health").json()["status"] == "ok"
        assert emulator.http.get(emulator.upload(b"x")).content == b"x"


def test_a_port_in_use() -> None:
    """It says why it can't listen."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "falrpc_server", "emulator", "--port", str(port)]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    assert f"cannot listen on 127.0.0.1, port {port}" in ran.stderr
    assert "Traceback" not in ran.stderr

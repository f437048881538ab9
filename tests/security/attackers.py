"""A program: floods a gateway with frames, each of them allowed.

Its arguments are the kind, the gateway's port, how many frames, and for how many seconds at least: it begins
again until both are reached. It connects anew when the gateway closes the connection. At the end it writes
a line of JSON: how many frames it sent, and on how many connections.
"""

import contextlib
import gzip
import itertools
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator

from hyperframe.frame import ContinuationFrame, DataFrame, PingFrame, RstStreamFrame, SettingsFrame
from tests.security.frames import PREFACE, Connection, headers, message, run_message

WRITE_FRAMES = 500  # at once
STREAMS = itertools.count(1, 2)
HEADER_BYTES = 4_000
BOMB_BYTES = 400 * 1024 * 1024
REFUSED = 8  # CANCEL


def rapid_resets(connection: Connection) -> Iterator[bytes]:
    """Calls that are cancelled as soon as they have begun."""
    for stream in itertools.count(1, 2):
        yield (
            connection.head(stream, headers())
            + DataFrame(stream, data=run_message(), flags=["END_STREAM"]).serialize()
            + RstStreamFrame(stream, error_code=REFUSED).serialize()
        )


def settings(connection: Connection) -> Iterator[bytes]:
    """Settings, each of which wants an answer."""
    return itertools.repeat(SettingsFrame(0, settings={4: 65_535}).serialize())


def pings(connection: Connection) -> Iterator[bytes]:
    """Pings, each of which wants an answer."""
    return itertools.repeat(PingFrame(0, opaque_data=b"12345678").serialize())


def empty_data(connection: Connection) -> Iterator[bytes]:
    """DATA without any, on one call."""
    yield connection.head(1, headers())
    yield from itertools.repeat(DataFrame(1, data=b"").serialize())


def continuations(connection: Connection) -> Iterator[bytes]:
    """A header that never ends."""
    encoder = connection._encoder
    yield connection.head(1, headers(), "PRIORITY")  # without END_HEADERS
    for number in itertools.count():
        block = encoder.encode([(f"x-{number}", "a" * HEADER_BYTES)], huffman=False)
        yield ContinuationFrame(1, data=block).serialize()


def open_streams(connection: Connection) -> Iterator[bytes]:
    """Calls that never send their message."""
    for stream in itertools.count(1, 2):
        yield connection.head(stream, headers())


def bombs(connection: Connection) -> Iterator[bytes]:
    """Small messages that are very large."""
    bomb = message(gzip.compress(bytes(BOMB_BYTES)), compressed=True)
    for stream in itertools.count(1, 2):
        yield connection.head(stream, headers(more=[("grpc-encoding", "gzip")]))
        for start in range(0, len(bomb), 16_000):
            piece = bomb[start : start + 16_000]
            flags = ["END_STREAM"] if start + 16_000 >= len(bomb) else []
            yield DataFrame(stream, data=piece, flags=flags).serialize()


FLOODS: dict[str, tuple[Callable[[Connection], Iterator[bytes]], bool]] = {
    "rapid_resets": (rapid_resets, True),
    "settings": (settings, True),
    "settings_unread": (settings, False),
    "pings": (pings, True),
    "pings_unread": (pings, False),
    "empty_data": (empty_data, True),
    "continuations": (continuations, True),
    "open_streams": (open_streams, True),
    "bombs": (bombs, True),
}
"""Each kind, and whether answers are read."""


def flood(kind: str, port: int, count: int, seconds: float) -> dict[str, int]:
    """Sends the frames."""
    make, reads = FLOODS[kind]
    sent = connections = 0
    ends_at = time.monotonic() + seconds
    while sent < count or time.monotonic() < ends_at:
        connections += 1
        left = count
        with contextlib.suppress(OSError), Connection(port, keeps=False, reads=reads) as connection:
            connection._socket.settimeout(1.0)  # who does not read is not read any more
            frames = make(connection)
            while left > 0 and not connection.ended.is_set():
                several = list(itertools.islice(frames, min(left, WRITE_FRAMES)))
                connection.send(b"".join(several))
                sent += len(several)
                left -= len(several)
                if sent >= count and time.monotonic() > ends_at:
                    break
    return {"sent": sent, "connections": connections}


def idle_sockets(port: int, count: int, seconds: float) -> dict[str, float]:
    """Connections that say nothing, or half of what they should, or no more. Tells how many are left, and when."""
    words = (b"", PREFACE[:12], PREFACE)
    opened = []
    for number in range(count):
        one = socket.create_connection(("127.0.0.1", port))
        one.sendall(words[number % len(words)])
        one.setblocking(False)
        opened.append(one)
    opened_at = time.monotonic()
    ends_at = opened_at + seconds
    left = opened
    while left and time.monotonic() < ends_at:
        time.sleep(0.2)
        left = [one for one in left if is_open(one)]
    return {"sent": count, "left": len(left), "seconds": time.monotonic() - opened_at}


def is_open(one: socket.socket) -> bool:
    """Whether the other side has not closed it."""
    try:
        while one.recv(4_096):
            pass
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


if __name__ == "__main__":
    os.nice(19)
    kind, port, count, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    play = idle_sockets if kind == "idle_sockets" else lambda *arguments: flood(kind, *arguments)
    print(json.dumps(play(port, count, seconds)), flush=True)

"""A connection to the gateway by hand: frames of HTTP/2 as no client library would send them."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterable
from typing import Any

import hpack
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, SettingsFrame

__all__ = ["PREFACE", "RUN", "Connection", "headers", "message", "run_message"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
RUN = "/falrpc.v1.FalService/Run"
READ_BYTES = 65_536
HEAD_BYTES = 9

Headers = Iterable[tuple[str | bytes, str | bytes]]


def headers(path: str | bytes = RUN, more: Headers = ()) -> list[tuple[str | bytes, str | bytes]]:
    """The header of a gRPC call."""
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *more,
    ]


def message(content: bytes, *, compressed: bool = False) -> bytes:
    """A message as DATA carries it."""
    return struct.pack(">BI", compressed, len(content)) + content


def run_message(endpoint_id: str = "emulator/echo") -> bytes:
    """A RunRequest for an endpoint."""
    return message(bytes([10, len(endpoint_id)]) + endpoint_id.encode())


class Connection:
    """One connection, with a thread that reads what comes.

    Attributes:
        frames: What came.
        ended: Set when the gateway has closed it.
    """

    def __init__(self, port: int, *, keeps: bool = True, reads: bool = True, **settings: Any) -> None:
        """Connects, and sends the preface.

        Args:
            port: The gateway's, on this machine.
            keeps: Whether frames that come are kept.
            reads: Whether they are read at all.
        """
        self.frames: list[Frame] = []
        self.ended = threading.Event()
        self.changed = threading.Condition()
        self._keeps = keeps
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._encoder = hpack.Encoder()
        self._decoder = hpack.Decoder()
        self.send(PREFACE + SettingsFrame(0, **settings).serialize())
        if reads:
            threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Sends bytes. Raises OSError when the gateway has closed the connection."""
        self._socket.sendall(data)

    def head(self, stream: int, fields: Headers, *flags: str) -> bytes:
        """A frame with a header, encoded for this connection. Flags are END_HEADERS unless there are others."""
        block = self._encoder.encode(fields, huffman=False)
        return HeadersFrame(stream, data=block, flags=list(flags or ["END_HEADERS"])).serialize()

    def call(self, stream: int, fields: Headers, content: bytes = b"") -> None:
        """Begins a call and ends its messages."""
        data = DataFrame(stream, data=content or run_message(), flags=["END_STREAM"])
        self.send(self.head(stream, fields) + data.serialize())

    def of(self, kind: type[Frame], stream: int = 0) -> list[Any]:
        """The frames of a kind that came on a stream."""
        return [frame for frame in self.frames if isinstance(frame, kind) and frame.stream_id == stream]

    @property
    def goodbye(self) -> str:
        """What the last GOAWAY said."""
        said = [frame for frame in self.frames if isinstance(frame, GoAwayFrame)]
        return said[-1].additional_data.decode() if said else ""

    def wait(self, condition: Any, seconds: float) -> bool:
        """Waits until the condition holds or the connection has ended. Returns whether it holds."""
        with self.changed:
            self.changed.wait_for(lambda: condition() or self.ended.is_set(), seconds)
            return bool(condition())

    def _read(self) -> None:
        held = b""
        with contextlib.suppress(OSError):
            while piece := self._socket.recv(READ_BYTES):
                held = self._take(held + piece)
        self.ended.set()
        with self.changed:
            self.changed.notify_all()

    def _take(self, held: bytes) -> bytes:
        while len(held) >= HEAD_BYTES:
            frame, length = Frame.parse_frame_header(memoryview(held[:HEAD_BYTES]))
            if len(held) < HEAD_BYTES + length:
                break
            if self._keeps or isinstance(frame, GoAwayFrame):
                frame.parse_body(memoryview(held[HEAD_BYTES : HEAD_BYTES + length]))
                if isinstance(frame, HeadersFrame):
                    frame.fields = [  # type: ignore[attr-defined]
                        (name.decode("latin-1"), value.decode("latin-1"))
                        for name, value in self._decoder.decode(frame.data, raw=True)
                    ]
                with self.changed:
                    self.frames.append(frame)
                    self.changed.notify_all()
            held = held[HEAD_BYTES + length :]
        return held

"""What only frames by hand can carry: names of methods that are nearly right, and hostile metadata."""

import asyncio
import base64
import urllib.parse

import pytest
from google.rpc import status_pb2
from hyperframe.frame import GoAwayFrame, HeadersFrame, RstStreamFrame
from tests.conftest import Fal, Running
from tests.failures import unpacked_details
from tests.security.frames import RUN, Connection, headers
from tests.service.test_run import run

SECONDS_MAX = 20.0
UNIMPLEMENTED, INVALID_ARGUMENT, INTERNAL, OK = "12", "3", "13", "0"
REFUSED_BY_GRPC = "refused by grpc"
CANARY = "canary-4711"
LONG = 8_192

PATHS = [
    pytest.param(RUN.removeprefix("/"), id="no leading slash"),
    pytest.param(f"/{RUN}", id="two leading slashes"),
    pytest.param(f"{RUN}/", id="trailing slash"),
    pytest.param(RUN.replace("/Run", "//Run"), id="two slashes"),
    pytest.param(f"{RUN}?{CANARY}", id="query"),
    pytest.param(f"{RUN}#{CANARY}", id="fragment"),
    pytest.param(f"{RUN};{CANARY}", id="parameter"),
    pytest.param(RUN.replace("/Run", "/%52un"), id="percent-encoded letter"),
    pytest.param(RUN.replace("/Run", "%2fRun"), id="percent-encoded slash"),
    pytest.param(f"/x/..{RUN}", id="parent"),
    pytest.param(RUN.replace("/Run", "/../falrpc.v1.FalService/Run"), id="parent within"),
    pytest.param(RUN.replace("/Run", "/./Run"), id="same"),
    pytest.param(RUN.lower(), id="lower case"),
    pytest.param(RUN.upper(), id="upper case"),
    pytest.param(RUN.replace("v1", "v2"), id="other version"),
    pytest.param(RUN.replace("falrpc.v1.", ""), id="no package"),
    pytest.param("/grpc.health.v1.Health/Run", id="other service"),
    pytest.param("/falrpc.v1.FalService/Check", id="other service's method"),
    pytest.param("/falrpc.v1.FalService/__init__", id="attribute"),
    pytest.param("/falrpc.v1.FalService/", id="no method"),
    pytest.param("/falrpc.v1.FalService", id="service only"),
    pytest.param("/", id="slash"),
    pytest.param("", id="empty"),
    pytest.param("*", id="asterisk"),
    pytest.param(f"http://localhost{RUN}", id="whole URL"),
    pytest.param(f"{RUN} ", id="trailing space"),
    pytest.param(f" {RUN}", id="leading space"),
    pytest.param(f"{RUN}\0", id="NUL"),
    pytest.param(f"{RUN}\r\nx-fal-key: a:b", id="line break"),
    pytest.param(RUN.encode() + b"\xff\xfe", id="no text"),
    pytest.param("/" + "x" * LONG, id="8 KB"),
    pytest.param(f"/{CANARY}/{CANARY}", id="words"),
]

METADATA = [
    pytest.param([("x-a", f"{CANARY}\r\nx-b: 1")], INVALID_ARGUMENT, id="line break"),
    pytest.param([("x-a", f"{CANARY}\r")], INVALID_ARGUMENT, id="CR"),
    pytest.param([("x-a", f"{CANARY}\n")], INVALID_ARGUMENT, id="LF"),
    pytest.param([("x-a", f"{CANARY}\0")], INVALID_ARGUMENT, id="NUL"),
    pytest.param([("x-a", f"{CANARY}\x1b[2J")], INVALID_ARGUMENT, id="ESC"),
    pytest.param([("x-a", f"{CANARY}\x7f")], INVALID_ARGUMENT, id="DEL"),
    pytest.param([("x-a", f"{CANARY}\t")], INVALID_ARGUMENT, id="tab"),
    pytest.param([("x-a", CANARY.encode() + b"\x80")], INVALID_ARGUMENT, id="0x80"),
    pytest.param([("x-a", f"{CANARY}é".encode())], INVALID_ARGUMENT, id="UTF-8"),
    pytest.param([("authorization", f"{CANARY}\n")], INVALID_ARGUMENT, id="line feed in authorization"),
    pytest.param(
        [("authorization", CANARY), ("authorization", "b")], INVALID_ARGUMENT, id="authorization twice"
    ),
    pytest.param([("x-fal-key", CANARY), ("x-fal-key", CANARY)], INVALID_ARGUMENT, id="x-fal-key twice"),
    pytest.param([("x-a", CANARY + "x" * LONG)], INVALID_ARGUMENT, id="8 KB in one"),
    pytest.param([(f"x-{n}", CANARY + "x" * 400) for n in range(20)], INVALID_ARGUMENT, id="8 KB in many"),
    pytest.param([(f"x-{n}", "") for n in range(250)], INVALID_ARGUMENT, id="many without values"),
    pytest.param([("x-a", CANARY + "x" * 65_536)], REFUSED_BY_GRPC, id="64 KB"),
    pytest.param([("X-A", CANARY)], REFUSED_BY_GRPC, id="upper-case name"),
    pytest.param([("x a", CANARY)], REFUSED_BY_GRPC, id="space in a name"),
    pytest.param([("x\na", CANARY)], REFUSED_BY_GRPC, id="LF in a name"),
    pytest.param([("x:a", CANARY)], REFUSED_BY_GRPC, id="colon in a name"),
    pytest.param([(b"x-\xff", CANARY)], REFUSED_BY_GRPC, id="0xff in a name"),
    pytest.param([("", CANARY)], REFUSED_BY_GRPC, id="empty name"),
    pytest.param([(":other", CANARY)], REFUSED_BY_GRPC, id="pseudo-header"),
    pytest.param([("x-a", CANARY), ("x-a", "b")], OK, id="another name twice"),
    pytest.param([("x-a", "".join(map(chr, range(33, 127))))], OK, id="all of printable ASCII"),
    pytest.param([("x-a", CANARY + "x" * 7_000)], OK, id="7 KB"),
    pytest.param([("x-a-bin", "AAECAw")], OK, id="binary"),
]


@pytest.mark.parametrize("path", PATHS)
async def test_a_path_that_is_nearly_right(gateway: Running, fal: Fal, path: str | bytes) -> None:
    """No path but a method's own reaches it; the answer does not repeat it, and no line of the log has it."""
    status, text = await answered(gateway, headers(path))
    assert status in (UNIMPLEMENTED, REFUSED_BY_GRPC)
    assert not repeats(text, path)
    assert fal.received() == []
    assert gateway.logged("call.finished") == []
    assert CANARY not in gateway.log_text
    # grpc alone ends its server over a path that is no text, and every call with it.
    assert (await gateway.stub.Run(run("emulator/echo"))).output.json == "{}"


async def test_the_right_path(gateway: Running, fal: Fal) -> None:
    """By the same frames a method is reached by its own path."""
    assert (await answered(gateway, headers(RUN)))[0] == OK
    assert len(fal.received(operation="run")) == 1


@pytest.mark.parametrize(("more", "expected"), METADATA)
async def test_metadata(
    gateway: Running, fal: Fal, more: list[tuple[str | bytes, str | bytes]], expected: str
) -> None:
    """Hostile metadata is refused before anything is logged or sent on, in words that do not repeat it."""
    status, text = await answered(gateway, headers(RUN, more))
    assert status == expected, text
    assert CANARY not in text
    assert CANARY not in gateway.log_text
    assert len(fal.received(operation="run")) == (expected == OK)
    if expected == INVALID_ARGUMENT:
        assert "METADATA_INVALID" in text


@pytest.mark.parametrize(
    ("name", "value"), [(":method", "POST"), (":authority", "b"), ("content-type", "a/b")]
)
async def test_given_twice(gateway: Running, fal: Fal, name: str, value: str) -> None:
    """What may be there only once, twice: no method is reached by it."""
    status, _ = await answered(gateway, [*headers(f"/{CANARY}"), (name, value)])
    assert status in (UNIMPLEMENTED, REFUSED_BY_GRPC)
    assert fal.received() == []


async def test_two_paths(gateway: Running, fal: Fal) -> None:
    """Of two paths grpc takes the last one: that is the one which is looked at, logged and served."""
    status, _ = await answered(gateway, [*headers("/falrpc.v1.FalService/Status"), (":path", RUN)])
    assert status == OK
    [line] = await gateway.finished()
    assert line["method"] == "Run"
    assert len(fal.received(operation="run")) == 1


async def answered(gateway: Running, fields: list[tuple[str | bytes, str | bytes]]) -> tuple[str, str]:
    """The status of a call by hand, or that grpc refused it; and everything that was told beside it."""
    with Connection(int(gateway.address.rpartition(":")[2])) as connection:
        connection.call(1, fields)
        await asyncio.to_thread(connection.wait, lambda: is_over(connection), SECONDS_MAX)
        assert is_over(connection) or connection.ended.is_set()
        trailers = trailers_of(connection)
        told = [
            f"{name}: {urllib.parse.unquote(value, errors='replace')}" for name, value in trailers.items()
        ]
        told.append(connection.goodbye)
        if packed := trailers.get("grpc-status-details-bin"):
            told += [str(detail) for detail in unpacked_details(status_of(packed))]
        status = trailers.get("grpc-status", REFUSED_BY_GRPC)
        if status == INTERNAL and not packed:  # a failure of ours has details
            status = REFUSED_BY_GRPC
        return status, "\n".join(told)


def is_over(connection: Connection) -> bool:
    ended = any(isinstance(one, RstStreamFrame | GoAwayFrame) for one in connection.frames)
    return ended or "grpc-status" in trailers_of(connection)


def trailers_of(connection: Connection) -> dict[str, str]:
    """All that came in headers of the call."""
    frames = connection.of(HeadersFrame, 1)
    return {name: value for frame in frames for name, value in frame.fields}


def status_of(packed: str) -> status_pb2.Status:
    return status_pb2.Status.FromString(base64.b64decode(packed + "=" * (-len(packed) % 4)))


def repeats(text: str, path: str | bytes) -> bool:
    """Whether a text has a path in it, or the better part of it."""
    shown = path.decode(errors="replace") if isinstance(path, bytes) else path
    return len(shown) > 8 and (shown in text or shown[1:100] in text)

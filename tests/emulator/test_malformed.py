"""Whatever arrives, the answer is one that fal could give."""

import asyncio
import io
import json
from typing import Any

import h11
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.emulator.running import Emulator, eventually

from falrpc_server.emulator import Application, Options
from falrpc_server.emulator.connection import TRANSPORT
from falrpc_server.emulator.models.registry import MODELS
from falrpc_server.emulator.models.work import Model, Work

HEAD = b"host: x\r\nauthorization: Key a:b\r\n"
QUICK = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
MODEL = st.sampled_from(
    sorted(MODELS.keys() - {"emulator/sleep", "emulator/stubborn", "emulator/cancellable"})
)
HARMLESS = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def exchange(emulator: Emulator, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Sends bytes over a connection of their own and reads one answer."""
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    parser.send(h11.EndOfMessage())
    with emulator.connect() as connection:
        connection.sendall(request)
        head, body = None, io.BytesIO()
        while True:
            match parser.next_event():
                case h11.Response() as head:
                    pass
                case h11.Data(data=data):
                    body.write(data)
                case h11.EndOfMessage():
                    assert head is not None
                    headers = {name.decode(): value.decode() for name, value in head.headers}
                    return head.status_code, headers, body.getvalue()
                case h11.NEED_DATA:
                    parser.receive_data(connection.recv(65_536))


def falls_in_line(answer: tuple[int, dict[str, str], bytes]) -> None:
    """An answer like fal's: JSON, with a request id; never a failure of the emulator's own."""
    status, headers, body = answer
    assert 200 <= status < 500, body
    assert headers["content-type"] == "application/json"
    assert "x-fal-request-id" in headers
    json.loads(body)


@pytest.mark.parametrize(
    "target",
    [
        *(
            b"/",
            b"//",
            b"/run",
            b"/run/",
            b"/run//",
            b"/run/%",
            b"/run/%zz",
            b"/run/%ff%00",
            b"/queue/requests/",
        ),
        *(b"/queue/a/requests//status", b"/queue//requests/%2e%2e/", b"/cdn/../../etc/passwd", b"/cdn/%00"),
        *(
            b"/run/emulator/echo?%ff=%zz&&=&a",
            b"/run/emulator/echo?" + b"&" * 5_000,
            b"*",
            b"http://x/run/a/b",
        ),
        *(b"/run/workflows", b"/run/comfy/a", b"/run/" + b"a/" * 5_000, b"/run/emulator/echo/stream/stream"),
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"POST", b"PUT", b"PATCH", b"FOO"])
def test_odd_targets(emulator: Emulator, method: bytes, target: bytes) -> None:
    """Odd paths and queries get an ordinary answer."""
    falls_in_line(
        exchange(emulator, method + b" " + target + b" HTTP/1.1\r\n" + HEAD + b"content-length: 2\r\n\r\n{}")
    )


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"hello\r\n\r\n", id="no HTTP"),
        pytest.param(b"GET /\xff HTTP/1.1\r\n" + HEAD + b"\r\n", id="bytes in the target"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="no host"),
        pytest.param(b"GET / HTTP/1.1\r\n" + HEAD + b"a b: c\r\n\r\n", id="bad header name"),
        pytest.param(b"GET / HTTP/1.1\r\n" + HEAD + b"a: " + b"b" * 65_490 + b"\r\n\r\n", id="huge head"),
        pytest.param(b"POST / HTTP/1.1\r\n" + HEAD + b"content-length: x\r\n\r\n", id="bad length"),
        pytest.param(b"POST / HTTP/1.1\r\n" + HEAD + b"transfer-encoding: gzip\r\n\r\n", id="bad encoding"),
        pytest.param(
            b"POST /run/emulator/echo HTTP/1.1\r\n" + HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
            id="bad chunk",
        ),
    ],
)
def test_what_is_no_http(emulator: Emulator, request_bytes: bytes) -> None:
    """A request that HTTP forbids is 400 with a JSON body."""
    answer = exchange(emulator, request_bytes)
    falls_in_line(answer)
    assert 400 <= answer[0] < 500


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(b"x-a: \xff\xfe\x80\r\n", id="bytes"),
        pytest.param(b"authorization: Key c:d\r\n", id="two keys"),
        pytest.param(b"host: y\xff\r\n", id="odd host"),
        pytest.param(b"upgrade: websocket\r\nconnection: upgrade\r\n", id="upgrade"),
        pytest.param(b"expect: 100-continue\r\n", id="expect"),
        pytest.param(b"content-type: \xff\r\n", id="odd type"),
        pytest.param(b"x-fal-request-timeout: \xb2\r\n", id="odd timeout"),
    ],
)
def test_odd_headers(emulator: Emulator, headers: bytes) -> None:
    """Odd headers get an ordinary answer."""
    start = b"POST /run/emulator/echo HTTP/1.1\r\n" + HEAD
    falls_in_line(exchange(emulator, start + headers + b"content-length: 2\r\n\r\n{}"))


@QUICK
@given(MODEL, st.binary(max_size=20) | HARMLESS.map(lambda value: json.dumps(value).encode()))
def test_any_body(one_emulator: Emulator, model: str, body: bytes) -> None:
    """Any bytes as input are answered like fal on run and queue."""
    answer = one_emulator.run(model, body)
    falls_in_line((answer.status_code, dict(answer.headers), answer.content or b"{}"))
    assert one_emulator.submit(model, body).status_code == 200


@QUICK
@given(MODEL, st.data())
def test_any_fields(one_emulator: Emulator, model: str, data: st.DataObject) -> None:
    """Any values in a model's own fields are answered like fal."""
    names = [field.name for field in MODELS[model].fields] + ["headers", "body"]
    values = data.draw(st.dictionaries(st.sampled_from(names), HARMLESS, max_size=4))
    for tail in ("", "/stream"):
        body = {"end": "clean", "delay": 0, "seconds": 0} | values
        answer = one_emulator.run(model + tail, json.dumps(body))
        assert answer.status_code < 500 or model in ("emulator/fail", "emulator/answer"), answer.text


@QUICK
@given(st.binary(max_size=30) | HARMLESS.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_for_storage_and_scenarios(one_emulator: Emulator, body: bytes) -> None:
    """Uploads are started, and scenarios added, by proper objects only."""
    for path in ("/rest/storage/upload/initiate?storage_type=fal-cdn-v3", "/_emulator/scenarios"):
        assert one_emulator.http.post(path, content=body).status_code in (200, 204, 400, 422)
    one_emulator.reset()


async def test_our_own_mistakes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An unexpected exception is 500 like any app's, with a request id, a record and a traceback."""

    async def breaks(work: Work) -> Any:
        raise LookupError("a bug")

    monkeypatch.setitem(MODELS, "emulator/bug", Model("emulator/bug", "Has a bug.", breaks))
    application, sent = Application(Options()), []

    async def ask(method: str, path: str) -> Any:
        incoming = [{"type": "http.request", "body": b"{}"}]

        async def receive() -> Any:
            if incoming:
                return incoming.pop()
            return await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        await application(
            {
                "type": "http",
                "method": method,
                "raw_path": path.encode(),
                "query_string": b"",
                "headers": [(b"authorization", b"Key a:b")],
                "extensions": {TRANSPORT: None},
            },
            receive,
            send,
        )
        return dict(sent[-2]["headers"]), sent[-2]["status"], json.loads(sent[-1]["body"])

    def path_of(url: str) -> str:
        return httpx.URL(url).path

    headers, status, body = await ask("POST", "/run/emulator/bug")
    assert (status, body) == (500, {"detail": "Internal Server Error"})
    assert headers[b"x-fal-request-id"]
    _, _, evidence = await ask("GET", "/_emulator/evidence")
    assert [(r["status"], r["outcome"]) for r in evidence["requests"]] == [(500, "answered")]
    assert "LookupError: a bug" in capsys.readouterr().err
    _, _, submitted = await ask("POST", "/queue/emulator/bug")
    while (status := (await ask("GET", path_of(submitted["status_url"])))[2])["status"] != "COMPLETED":
        pass
    _, status, body = await ask("GET", path_of(submitted["response_url"]))
    assert (status, body) == (500, {"detail": "Internal Server Error"})
    await application.close()


def test_it_still_serves(emulator: Emulator) -> None:
    """After all that, nothing is open and the emulator answers."""
    eventually(lambda: emulator.evidence()["open_requests"] == 0)
    assert emulator.run("emulator/echo", '{"a":1}').text == '{"a":1}'

"""Bytes in and out: an ASGI application on uvicorn, with faults and evidence around every request."""

import asyncio
import contextlib
import json
import signal
import socket
import struct
import traceback
import uuid
import warnings
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import parse_qsl

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from falrpc_server.emulator.answers import Answer, EventStream, detail, json_answer
from falrpc_server.emulator.evidence import Evidence, Record
from falrpc_server.emulator.scenarios import BadScenario, Scenario, Scenarios
from falrpc_server.emulator.service import MODELS, Incoming, Service, Target, target_of
from falrpc_server.emulator.work import CutHere

__all__ = ["Emulator", "Options", "serve"]

TRANSPORT = "emulator.transport"
EDGE_PAGE = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center><hr>nginx</body></html>"
EDGE_TITLES = {502: "502 Bad Gateway", 503: "503 Service Unavailable", 504: "504 Gateway Time-out"}
REQUEST_BODY_BYTES_MAX = 512 * 1024 * 1024
BACKLOG = 4_096
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 # where to reach who listens everywhere

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Options:
    """How the emulator runs.

    Attributes:
        host, port: Where it listens; port 0 takes any free one.
        speed: Durations are divided by it.
        keepalive_seconds: Interval of comments on status streams (§7.5).
        key: The only key that is accepted; None accepts any that is well-formed.
    """

    host: str = "127.0.0.1"
    port: int = 0
    speed: float = 1.0
    keepalive_seconds: float = 15.0
    key: str | None = None


class ClientClosed(Exception):
    """The client went away before the answer was complete."""


class Emulator:
    """The ASGI application."""

    def __init__(self, options: Options) -> None:
        self.service = Service(options.speed, options.keepalive_seconds, options.key)
        self._evidence = Evidence()
        self._scenarios = Scenarios()

    def listens_at(self, base_url: str) -> None:
        """Tells what URLs to hand out."""
        self.service.base_url = base_url
        self.service.storage.base = f"{base_url}/cdn"

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            return
        path = scope["raw_path"].decode("latin-1").partition("?")[0]
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        if path.startswith("/_emulator/"):
            body = await _read_body(receive)
            await _send_answer(send, self._admin(scope["method"], path, query, body))
            return
        target = target_of(scope["method"], path, headers.get("host", ""))
        record = self._evidence.begin(target.operation, scope["method"], path, target.endpoint, headers)
        connection = scope["extensions"][TRANSPORT]
        outcome = "client_closed"
        try:
            await self._serve(target, headers, query, record, connection, receive, send)
            outcome = "answered"
        except ClientClosed:
            pass
        except CutHere as cut:
            outcome = "cut"
            if cut.resets:
                _reset(connection)
            else:
                connection.close()
        finally:
            self._evidence.end(record, outcome)

    async def _serve(
        self,
        target: Target,
        headers: dict[str, str],
        query: dict[str, str],
        record: Record,
        connection: asyncio.Transport,
        receive: Receive,
        send: Send,
    ) -> None:
        scenario = self._scenarios.take(target.operation, target.endpoint)
        if scenario and scenario.act == "reset_before_body":
            raise CutHere(resets=True)
        body = await _read_body(receive)
        record.received(body)
        incoming = Incoming(target, headers, query, body)
        # Whoever answers is stopped as soon as the client goes away.
        answering = asyncio.create_task(self._answer(incoming, scenario, record, connection, send))
        leaving = asyncio.create_task(_wait_closed(receive))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                raise ClientClosed
            answering.result()
        finally:
            for task in (answering, leaving):
                task.cancel()
            await asyncio.wait({answering, leaving})

    async def _answer(
        self,
        incoming: Incoming,
        scenario: Scenario | None,
        record: Record,
        connection: asyncio.Transport,
        send: Send,
    ) -> None:
        act = scenario.act if scenario else ""
        if scenario:
            if act == "hang":
                await asyncio.Event().wait()
            if act == "close_after_body":
                raise CutHere(resets=False)
            if act == "slow":
                await asyncio.sleep(scenario.seconds)
            if act in ("edge_page", "answer"):
                record.status = scenario.status
                await _send_answer(send, _scripted(scenario))
                return
        try:
            answer = await self.service.answer(incoming)
        except Exception:  # our own mistake: told on stderr, and to the caller as any app's would be
            traceback.print_exc()
            answer = detail(500, "Internal Server Error")
        ids = {"x-fal-request-id": incoming.target.request_id or str(uuid.uuid4())}
        record.status = 200 if isinstance(answer, EventStream) else answer.status
        cut_after = scenario.after_bytes if scenario and act == "cut_body" else None
        if isinstance(answer, EventStream):
            await _send_stream(send, answer, ids, cut_after)
        else:
            await _send_answer(send, answer, ids, cut_after)

    def _admin(self, method: str, path: str, query: dict[str, str], body: bytes) -> Answer:
        """The emulator's own endpoints."""
        name = path.removeprefix("/_emulator/")
        match method, name:
            case "GET", "health":
                return json_answer({"status": "ok"})
            case "GET", "models":
                return json_answer({name: model.summary for name, model in MODELS.items()})
            case "GET", "evidence":
                return json_answer(self._evidence.report(query))
            case "DELETE", "evidence":
                self._evidence.reset()
                return Answer(204, b"")
            case "GET", "scenarios":
                return json_answer(self._scenarios.listed())
            case "POST", "scenarios":
                try:
                    self._scenarios.add(Scenario.read(json.loads(body)))
                except (BadScenario, ValueError, RecursionError) as error:
                    return detail(400, str(error))
                return Answer(204, b"")
            case "DELETE", "scenarios":
                self._scenarios.clear()
                return Answer(204, b"")
        if name in ("health", "models", "evidence", "scenarios"):
            return detail(405, "Method Not Allowed")
        return detail(404, "Not Found")


class Protocol(H11Protocol):
    """uvicorn's HTTP protocol, which also hands the connection to the application, for faults."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio sets this for most sockets, but not behind a listener that uvicorn made: an answer's
        # body would wait 40 ms for the acknowledgement of its head.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        application = self.app

        async def with_connection(scope: Any, receive: Any, send: Any) -> None:
            scope.setdefault("extensions", {})[TRANSPORT] = transport
            await application(scope, receive, send)

        self.app = with_connection

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP in fal's manner instead of as plain text."""
        answer = detail(400, msg, {"connection": "close", "x-fal-request-id": str(uuid.uuid4())})
        head = h11.Response(status_code=400, headers=_encoded(answer.headers), reason=b"Bad Request")
        for event in (head, h11.Data(data=answer.body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def serve(options: Options, announce: Callable[[str], None]) -> None:
    """Runs the emulator until SIGTERM or SIGINT. `announce` is told its URL once it listens."""
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what it says of broken pictures is no news
    asyncio.run(_serve_until_told(options, announce))


async def _serve_until_told(options: Options, announce: Callable[[str], None]) -> None:
    emulator = Emulator(options)
    config = uvicorn.Config(
        emulator,
        http=Protocol,
        ws="none",
        lifespan="off",
        log_level="critical",
        access_log=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=0,  # what is open is cut: some of it would never end
        h11_max_incomplete_event_size=64 * 1024,
    )
    server = uvicorn.Server(config)
    listener = _listen(options.host, options.port)
    host, port = listener.getsockname()[:2]
    host = LOOPBACK.get(host, host)
    base_url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    emulator.listens_at(base_url)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, setattr, server, "should_exit", True)
    with contextlib.closing(listener):
        serving = asyncio.create_task(server._serve([listener]))  # serve() would take the signals, too
        while not server.started and not serving.done():  # noqa: ASYNC110 # uvicorn has no event for it
            await asyncio.sleep(0.005)
        announce(base_url)
        await serving
    await emulator.service.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise SystemExit(f"cannot listen on {host}, port {port}: {error}") from None


async def _read_body(receive: Receive) -> bytes:
    pieces, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientClosed
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > REQUEST_BODY_BYTES_MAX:
            raise CutHere(resets=True)
        if not message.get("more_body"):
            return b"".join(pieces)


async def _wait_closed(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _scripted(scenario: Scenario) -> Answer:
    if scenario.act == "edge_page":
        title = EDGE_TITLES.get(scenario.status, f"{scenario.status} Error")
        return Answer(scenario.status, EDGE_PAGE.format(title).encode(), {"content-type": "text/html"})
    given = {name.lower(): value for name, value in (scenario.headers or {}).items()}
    headers = {"content-type": "application/json", **given}
    return Answer(scenario.status, scenario.body.encode(), headers)


async def _send_answer(
    send: Send, answer: Answer, standard: dict[str, str] | None = None, cut_after: int | None = None
) -> None:
    body = b"" if answer.status in (204, 304) else answer.body
    headers = {**(standard or {}), **answer.headers, "content-length": str(len(body))}
    if answer.status in (204, 304):
        del headers["content-length"]
    await send({"type": "http.response.start", "status": answer.status, "headers": _encoded(headers)})
    if cut_after is not None:
        await _send_and_cut(send, body[:cut_after])
    await send({"type": "http.response.body", "body": body})


async def _send_stream(
    send: Send, answer: EventStream, standard: dict[str, str], cut_after: int | None
) -> None:
    headers = {**standard, **answer.headers, "content-type": "text/event-stream", "cache-control": "no-store"}
    await send({"type": "http.response.start", "status": 200, "headers": _encoded(headers)})
    async with contextlib.aclosing(answer.pieces) as pieces:  # type: ignore[type-var]
        sent = 0
        if cut_after == 0:
            await _send_and_cut(send, b"")
        try:
            async for piece in pieces:
                sent += len(piece)
                if cut_after is not None and sent >= cut_after:
                    await _send_and_cut(send, piece[: len(piece) - (sent - cut_after)])
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except CutHere:
            raise
        except Exception:  # our own mistake: too late for an answer of its own
            traceback.print_exc()
            raise CutHere(resets=False) from None
    if cut_after is not None:
        raise CutHere(resets=False)
    await send({"type": "http.response.body", "body": b""})


async def _send_and_cut(send: Send, piece: bytes) -> NoReturn:
    await send({"type": "http.response.body", "body": piece, "more_body": True})
    raise CutHere(resets=False)


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]


def _reset(connection: asyncio.Transport) -> None:
    """Ends a connection with RST instead of FIN."""
    raw = connection.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.abort()

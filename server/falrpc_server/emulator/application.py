"""The ASGI application: each request recorded, spoilt if a scenario says so, and answered."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from falrpc_server.emulator import faults, scenarios
from falrpc_server.emulator.admin import Admin
from falrpc_server.emulator.answers import Answer, CutHere, EventStream, detail, encoded
from falrpc_server.emulator.connection import TRANSPORT, reset
from falrpc_server.emulator.evidence import Evidence, Record
from falrpc_server.emulator.routes import Bases, Incoming, Target, target_of
from falrpc_server.emulator.scenarios import BadScenario, Scenario
from falrpc_server.emulator.scenarios_in_place import Scenarios
from falrpc_server.emulator.service import Options, Service
from falrpc_server.emulator.tls import Authority

__all__ = ["Application", "Options"]

ADMIN = "/_emulator"
SCENARIO_HEADER = "x-emulator-scenario"
REQUEST_BODY_BYTES_MAX = 512 * 1024 * 1024

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class ClientClosed(Exception):
    """The client went away before the answer was complete."""


@dataclass(slots=True)
class Exchange:
    """A request on its way to an answer."""

    target: Target
    headers: dict[str, str]
    query: dict[str, str]
    bases: Bases
    record: Record
    connection: asyncio.Transport
    receive: Receive
    send: Send


class Application:
    """All of fal's hosts, and the emulator's own endpoints."""

    def __init__(
        self, options: Options, connections: Collection[object] = (), authority: Authority | None = None
    ) -> None:
        self._evidence = Evidence(connections)
        self._scenarios = Scenarios()
        self.service = Service(options, self._scenarios, self._evidence.mistake)
        self._admin = Admin(self.service, self._scenarios, self._evidence, authority)

    async def close(self) -> None:
        """Ends everything that still runs."""
        await self.service.close()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            return
        path = scope["raw_path"].decode("latin-1").partition("?")[0]
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        if path == ADMIN or path.startswith(f"{ADMIN}/"):
            with contextlib.suppress(ClientClosed):
                body = await _read_body(receive)
                answer = self._admin.answer(scope["method"], path.removeprefix(ADMIN).strip("/"), query, body)
                await _send_whole(send, answer, answer.headers)
            return
        host = headers.get("host", "")
        target = target_of(scope["method"], path, host)
        bases = Bases.of(scope.get("scheme", "http"), host, _authority_of(scope.get("server")))
        record = self._evidence.begin(
            target.operation, scope["method"], path, query, target.endpoint, headers
        )
        connection = scope["extensions"][TRANSPORT]
        exchange = Exchange(target, headers, query, bases, record, connection, receive, send)
        outcome = "client_closed"
        try:
            await self._serve(exchange)
            outcome = "answered"
        except ClientClosed:
            pass
        except CutHere as cut:
            outcome = "cut"
            if cut.resets:
                reset(connection)
            else:
                connection.close()
        except Exception:  # our own mistake: too late for an answer
            self._evidence.mistake()
            outcome = "failed"
            connection.close()
        finally:
            self._evidence.end(record, outcome)

    async def _serve(self, exchange: Exchange) -> None:
        target = exchange.target
        try:
            own = Scenarios(_in_header(exchange.headers))
        except BadScenario as error:
            exchange.record.received(await _read_body(exchange.receive))
            bad = detail(400, str(error))
            exchange.record.status = bad.status
            await _send_whole(
                exchange.send, bad, {**bad.headers, "x-fal-request-id": self.service.ids.uuid()}
            )
            return
        scenario = own.take(target.operation, target.endpoint) or self._scenarios.take(
            target.operation, target.endpoint
        )
        exchange.record.scenario = str(type(scenario).__struct_config__.tag) if scenario else ""
        if isinstance(scenario, scenarios.ResetBeforeBody):
            raise CutHere(resets=True)
        body = await _read_body(exchange.receive)
        exchange.record.received(body)
        incoming = Incoming(target, exchange.headers, exchange.query, body, exchange.bases)
        # Whoever answers is stopped as soon as the client goes away.
        answering = asyncio.create_task(self._answer(exchange, incoming, scenario, own))
        leaving = asyncio.create_task(_wait_closed(exchange.receive))
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
        self, exchange: Exchange, incoming: Incoming, scenario: Scenario | None, own: Scenarios
    ) -> None:
        match scenario:
            case scenarios.Hang():
                await asyncio.Event().wait()
            case scenarios.CloseAfterBody():
                raise CutHere(resets=False)
            case scenarios.ResetAfterBody():
                raise CutHere(resets=True)
            case scenarios.Slow():
                await asyncio.sleep(scenario.seconds)
        answer: Answer | EventStream
        if isinstance(scenario, scenarios.HugeAnswer):
            answer = EventStream(
                faults.huge_body(scenario.bytes),
                {"content-type": "application/json", "content-length": str(scenario.bytes)},
                scenario.status,
            )
        elif spoken := faults.instead(scenario):
            answer = spoken
        else:
            try:
                answer = await self.service.answer(incoming, own)
            except Exception:  # our own mistake: told on stderr, and to the caller as any app's would be
                self._evidence.mistake()
                answer = detail(500, "Internal Server Error")
        exchange.record.status = answer.status
        headers = dict(answer.headers)
        if not isinstance(scenario, scenarios.Instead | scenarios.EdgePage):
            headers = {"x-fal-request-id": incoming.target.request_id or self.service.ids.uuid(), **headers}
        if isinstance(scenario, scenarios.Headers):
            changed = {**headers, **{name.lower(): value for name, value in scenario.headers.items()}}
            headers = {name: value for name, value in changed.items() if value is not None}
        if isinstance(answer, EventStream):
            try:
                await self._send_pieces(exchange.send, answer.status, headers, answer.pieces, scenario)
            finally:
                answer.ended()
        elif isinstance(scenario, scenarios.CutBody | scenarios.SlowBody) and _has_body(answer):
            whole = {**headers, "content-length": str(len(answer.body))}
            await self._send_pieces(exchange.send, answer.status, whole, _one_piece(answer.body), scenario)
        else:
            await _send_whole(exchange.send, answer, headers)

    async def _send_pieces(
        self,
        send: Send,
        status: int,
        headers: Mapping[str, str],
        pieces: AsyncIterator[bytes],
        scenario: Scenario | None,
    ) -> None:
        await send({"type": "http.response.start", "status": status, "headers": encoded(headers)})
        spoilt = faults.spoil(pieces, scenario)
        async with contextlib.aclosing(pieces), contextlib.aclosing(spoilt):  # type: ignore[type-var]
            try:
                async for piece in spoilt:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            except CutHere:
                raise
            except Exception:  # our own mistake: too late for an answer of its own
                self._evidence.mistake()
                raise CutHere(resets=False) from None
        await send({"type": "http.response.body", "body": b""})


def _in_header(headers: dict[str, str]) -> list[Scenario]:
    """The scenarios that a request brings along. Raises BadScenario."""
    text = headers.get(SCENARIO_HEADER)
    if text is None:
        return []
    try:
        data = json.loads(text.encode("latin-1"))
    except (ValueError, RecursionError) as error:
        raise BadScenario(f"{SCENARIO_HEADER} is no JSON: {error}") from None
    found = scenarios.read(data)
    if any(isinstance(scenario, scenarios.ConcurrencyLimit) for scenario in found):
        raise BadScenario("concurrency_limit is about many requests: it can't come with one of them")
    return found


def _authority_of(server: tuple[str, int] | None) -> str:
    host, port = server or ("localhost", 80)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _one_piece(body: bytes) -> AsyncIterator[bytes]:
    yield body


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


async def _send_whole(send: Send, answer: Answer, headers: Mapping[str, str]) -> None:
    length = {"content-length": str(len(answer.body))} if _has_body(answer) else {}
    given = {name: value for name, value in headers.items() if name != "content-length"}
    encoded_headers = encoded({**given, **length})
    await send({"type": "http.response.start", "status": answer.status, "headers": encoded_headers})
    await send({"type": "http.response.body", "body": answer.body if _has_body(answer) else b""})


def _has_body(answer: Answer) -> bool:
    return answer.status not in (204, 304)

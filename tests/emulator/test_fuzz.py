"""Ten thousand random requests: no failure of the emulator's own, and nothing left over."""

import asyncio
import json
import random
import re
from collections import Counter
from typing import Any

import httpx
import pytest
from tests.emulator.running import Emulator, eventually, running_emulator

from falrpc_server.emulator.failures import FAILURES
from falrpc_server.emulator.models.registry import MODELS
from falrpc_server.emulator.routes import HOSTS
from falrpc_server.emulator.scenarios import ACTS

REQUESTS = 10_000
AT_ONCE = 24
SEED = 20_261
PATIENCE_SECONDS = 0.3  # with scenarios that hang
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "X")
PATHS = (  # with the method that they have
    ("POST", "/run/{model}"),
    ("POST", "/run/{model}"),
    ("POST", "/run/{model}/stream"),
    ("POST", "/queue/{model}"),
    ("POST", "/queue/{model}?fal_webhook={junk}&fal_max_queue_length={number}"),
    ("GET", "/queue/{model}/requests/{id}/status?logs={number}"),
    ("GET", "/queue/{model}/requests/{id}/status/stream"),
    ("GET", "/queue/{model}/requests/{id}"),
    ("PUT", "/queue/{model}/requests/{id}/cancel"),
    ("POST", "/rest/storage/auth/token?storage_type=fal-cdn-v3"),
    ("POST", "/rest/storage/upload/initiate?storage_type={junk}"),
    ("POST", "/rest/storage/upload/initiate?storage_type=fal-cdn-v3"),
    ("POST", "/rest/storage/upload/initiate-multipart?storage_type=fal-cdn-v3"),
    ("GET", "/rest/.well-known/jwks.json"),
    ("POST", "/cdn/files/upload"),
    ("POST", "/cdn/files/upload/multipart"),
    ("PUT", "/cdn/files/b/{junk}/{junk}"),
    ("GET", "/cdn/files/b/{junk}/{junk}"),
    ("PUT", "/cdn/files/b/{junk}/{junk}/{number}?signature={junk}"),
    ("POST", "/cdn/files/b/{junk}/{junk}/complete"),
    ("POST", "/cdn/files/b/{junk}/{junk}/sign"),
    ("PUT", "/cdn/files/b/{junk}/{junk}/multipart/{junk}/{number}"),
    ("GET", "/{junk}"),
    ("POST", "/_emulator/{junk}"),
    ("POST", "/_emulator/clock"),
)
HEADERS = (
    "x-fal-request-timeout",
    "x-fal-request-start-timeout",
    "x-fal-queue-priority",
    "x-fal-no-retry",
    "x-fal-retry-config",
    "x-fal-store-io",
    "x-fal-object-lifecycle",
    "x-fal-object-lifecycle-preference",
    "x-fal-file-name",
    "content-type",
    "accept",
    "range",
    "expect",
)
TAME = "abz019-_.~%"
WILD = TAME + "/ ?&=+\u00e9\xff\x80:,;{}[]\"'\\"
MAY_SAY_500 = ("emulator/fail", "emulator/answer", "workflows/emulator/failing-step")


class Fuzzer:
    """Makes random requests, some of them nearly right."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.ids = ["none"]
        """Queue requests that were accepted."""

    def junk(self, size: int = 12) -> str:
        letters = TAME if self.random.random() < 0.8 else WILD
        return "".join(self.random.choice(letters) for _ in range(self.random.randrange(size)))

    def value(self, depth: int = 2) -> Any:
        """Any JSON value."""
        pick = self.random.randrange(10 if depth else 7)
        simple = (None, True, self.random.randrange(-5, 300), self.random.random(), self.junk(), "", 10**30)
        if pick < 7:
            return simple[pick]
        if pick < 9:
            return {self.junk(): self.value(depth - 1) for _ in range(self.random.randrange(4))}
        return [self.value(depth - 1) for _ in range(self.random.randrange(4))]

    def body(self, model: str) -> bytes:
        """A model's input: right, nearly right, any JSON, broken JSON, or any bytes."""
        pick = self.random.random()
        if pick < 0.15:
            return self.random.randbytes(self.random.randrange(40))
        if pick < 0.3:
            return json.dumps(self.value()).encode()
        given: dict[str, Any] = {"seconds": 0.01, "image_size": {"width": 64, "height": 64}, "num_frames": 8}
        for field in MODELS[model].fields if model in MODELS else ():
            if field.name not in given and self.random.random() < 0.6:
                given[field.name] = self.value() if self.random.random() < 0.7 else "data:,x"
        if self.random.random() < 0.5:
            given |= {"delay": 0, "end": self.random.choice(("clean", "cut", "reset", "half_event"))}
        given.pop("bytes", None)
        text = json.dumps(given).encode()
        return text[: self.random.randrange(len(text))] if self.random.random() < 0.1 else text

    def scenario(self) -> str:
        """The value of the header for scenarios."""
        act = self.random.choice((*ACTS, self.junk()))
        fields = {"act": act, "kind": self.random.choice(tuple(FAILURES)), "seconds": 0.01, "bytes": 5_000}
        names = ACTS[act].__struct_fields__ if act in ACTS else ("kind",)
        data = {"act": act, **{name: value for name, value in fields.items() if name in names}}
        if self.random.random() < 0.3:
            data[self.random.choice((*names, self.junk()))] = self.value()
        return self.random.choice((json.dumps(data), json.dumps([data]), self.junk()))

    def request(self) -> tuple[bytes, bool]:
        """A request's bytes, and whether an answer of status 500 would be a mistake."""
        if self.random.random() < 0.03:
            return self.random.randbytes(self.random.randrange(1, 200)), True
        model = self.random.choice((*MODELS, *MODELS, "fal-ai/flux", "nobody/x", self.junk()))
        method, target = self.random.choice(PATHS)
        if self.random.random() < 0.1:
            method = self.random.choice(METHODS)
        role = target.split("/")[1]
        target = target.format(
            model=model,
            id=self.random.choice(self.ids[-50:]),
            junk=self.junk(),
            number=self.random.choice((0, 1, 99_999, "x")),
        )
        body = self.body(model)
        head = {"host": "x", "authorization": "Key a:b"}
        if self.random.random() < 0.05:
            head["authorization"] = self.random.choice(("Bearer x", "Key", self.junk(), "Key locked:x"))
        if self.random.random() < 0.05:
            head["host"] = self.random.choice((*HOSTS, self.junk()))
        elif role in HOSTS.values() and self.random.random() < 0.3:
            head["host"] = next(host for host in HOSTS if HOSTS[host] == role)
            target = target.removeprefix(f"/{role}")
        for name in self.random.sample(HEADERS, self.random.randrange(3)):
            head[name] = self.random.choice(("1", "0", "0.2", json.dumps(self.value()), self.junk()))
        is_scripted = self.random.random() < 0.1
        if is_scripted:
            head["x-emulator-scenario"] = self.scenario()
        framing = self.random.random()
        if framing < 0.9:
            head["content-length"] = str(len(body))
        elif framing < 0.95:
            head["transfer-encoding"] = "chunked"
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        else:
            head["content-length"] = self.random.choice(("x", "-1", "5", "99999", ""))
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        raw = f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("utf-8", "replace")
        return raw + body, not is_scripted and model not in MAY_SAY_500


async def exchange(host: str, port: int, request: bytes) -> tuple[int | None, bytes]:
    """Sends bytes over a connection of their own; reads status and what else comes until it's quiet."""
    received = b""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while piece := await reader.read(65_536):
                received += piece
                if ends(received):
                    break
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.transport.abort()
    match = re.match(rb"HTTP/1\.1 (\d{3}) ", received)
    return int(match[1]) if match else None, received


def ends(received: bytes) -> bool:
    """Whether an answer is whole."""
    head, found, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return bool(found) and (len(body) >= int(length[1]) if length else received.endswith(b"0\r\n\r\n"))


@pytest.mark.timeout(300)
async def test_ten_thousand_random_requests() -> None:
    """Whatever comes, the emulator makes no mistake of its own, leaves no task, and serves on."""
    fuzzer, statuses = Fuzzer(SEED), Counter[int | None]()
    with running_emulator("--speed", "100") as (emulator, _):
        url = httpx.URL(emulator.url)
        tasks = health(emulator)["open_tasks"]

        async def send(count: int) -> None:
            for _ in range(count):
                request, is_no_500 = fuzzer.request()
                status, answer = await exchange(url.host, url.port or 80, request)
                statuses[status] += 1
                assert not (status == 500 and is_no_500), (request, answer)
                if found := re.search(rb'"request_id":"([0-9a-f-]{36})"', answer):
                    fuzzer.ids.append(found[1].decode())

        await asyncio.gather(*(send(REQUESTS // AT_ONCE + 1) for _ in range(AT_ONCE)))
        emulator.reset()
        emulator.http.post("/_emulator/clock", json={"advance_seconds": 10_000}).raise_for_status()
        seen = eventually(lambda: health(emulator), lambda seen: seen["open_requests"] == 0)
        assert seen["internal_errors"] == 0
        eventually(lambda: health(emulator)["open_tasks"], lambda now: now <= tasks + 2)
        assert emulator.run("emulator/echo", '{"a":1}').text == '{"a":1}'
    # The requests were good enough to get far: most were answered, many of them well.
    assert sum(statuses.values()) >= REQUESTS
    assert statuses[200] > REQUESTS / 10, statuses
    assert statuses[None] < REQUESTS / 10, statuses


def health(emulator: Emulator) -> dict[str, Any]:
    return dict(emulator.http.get("/_emulator/health").json())

"""The Envoy of deploy/envoy in front of a gateway, and calls through it that are no gRPC."""

import base64
import contextlib
import json
import os
import re
import struct
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from google.protobuf.message import Message
from tests.conftest import Running, running_gateway
from tests.processes.channels import own_channel
from tests.streams.envoy import Envoy, configured_envoy

from falrpc import v1

__all__ = ["ORIGIN", "SERVICE", "Proxied", "deployed_envoy", "gateway_behind_envoy", "web_call"]

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy/envoy"
ORIGIN = "https://app.example.com"
SERVICE = "/falrpc.v1.FalService"
TRAILERS = 0x80
WAIT_SECONDS_MAX = 60


@contextlib.asynccontextmanager
async def deployed_envoy(
    upstream: str, origin: str = ORIGIN, idle_seconds: int = 60
) -> AsyncIterator[tuple[Envoy, httpx.AsyncClient]]:
    """Runs Envoy with the file in deploy/envoy, addresses put in by the command that its README gives.

    Args:
        upstream: The gateway's `host:port`.
        origin: Whose pages may call; empty: the file's own list.
        idle_seconds: How long a stream may be silent; the file's own time is a minute.
    """
    filled = _filled(upstream, origin)
    config = filled.replace("stream_idle_timeout: 60s", f"stream_idle_timeout: {idle_seconds}s")
    assert (config == filled) == (idle_seconds == 60)
    async with (
        configured_envoy(config) as envoy,
        httpx.AsyncClient(
            base_url=f"http://{envoy.address}", trust_env=False, verify=False, timeout=WAIT_SECONDS_MAX
        ) as http,
    ):
        yield envoy, http


class Proxied:
    """What a test has: the gateway behind Envoy, a client for gRPC and one for HTTP."""

    def __init__(self, gateway: Running, envoy: Envoy, http: httpx.AsyncClient, channel: Any) -> None:
        self.gateway = gateway
        self.envoy = envoy
        self.http = http
        self.channel = channel
        self.stub = v1.FalServiceStub(channel)

    async def json(self, method: str, request: Any, **headers: str) -> httpx.Response:
        """Calls a method with JSON: an object, or text as it is."""
        content = request if isinstance(request, str) else json.dumps(request)
        given = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        return await self.http.post(f"{SERVICE}/{method}", content=content, headers=given)


@contextlib.asynccontextmanager
async def gateway_behind_envoy(**settings: Any) -> AsyncIterator[Proxied]:
    """Runs a gateway with these settings behind that Envoy."""
    async with (
        running_gateway(**settings) as gateway,
        deployed_envoy(gateway.address) as (envoy, http),
        own_channel(envoy.address) as channel,
    ):
        yield Proxied(gateway, envoy, http, channel)


def _filled(upstream: str, origin: str) -> str:
    """The file with addresses. The command must change each of its places, and nothing else."""
    [command] = re.findall(r"```sh\n(sed .*?) > filled.yaml\n", (DEPLOY / "README.md").read_text(), re.DOTALL)
    if not origin:
        command = "".join(line for line in command.splitlines(keepends=True) if "ORIGIN" not in line)
    host, _, port = upstream.rpartition(":")
    values = {
        "LISTEN_HOST": "127.0.0.1",
        "LISTEN_PORT": "0",
        "ADMIN_PORT": "0",
        "FALRPC_HOST": host,
        "FALRPC_PORT": port,
        "DESCRIPTORS": str(ROOT / "generated/falrpc.binpb"),
        "ORIGIN": origin,
    }
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=DEPLOY,
        env={**os.environ, **values},
        capture_output=True,
        text=True,
        check=True,
    )
    committed = (DEPLOY / "envoy.yaml").read_text().splitlines()
    filled = done.stdout.splitlines()
    changed = [n for n, line in enumerate(committed) if line != filled[n]]
    assert (len(filled), len(changed)) == (len(committed), 5 if origin else 4)
    return done.stdout


def framed(message: Message) -> bytes:
    """A message as gRPC-Web sends it: a byte of flags, four of length, the bytes."""
    data = message.SerializeToString()
    return struct.pack(">BI", 0, len(data)) + data


def unframed(body: bytes) -> tuple[list[bytes], dict[str, str]]:
    """The messages of an answer, and its trailers."""
    messages, trailers = [], {}
    while body:
        flags, length = struct.unpack_from(">BI", body)
        data, body = body[5 : 5 + length], body[5 + length :]
        assert len(data) == length
        if flags & TRAILERS:
            lines = [line.partition(":") for line in data.decode().splitlines()]
            trailers = {name: value.strip() for name, _, value in lines}
            assert body == b"", "something follows the trailers"
        else:
            messages.append(data)
    return messages, trailers


async def web_call(
    http: httpx.AsyncClient, method: str, request: Message, *, as_text: bool = False, **headers: str
) -> tuple[list[bytes], dict[str, str], httpx.Headers]:
    """Calls a method in gRPC-Web. Returns messages, trailers (of the body, or in the head) and the head."""
    kind = "application/grpc-web-text" if as_text else "application/grpc-web+proto"
    body = framed(request)
    answer: Any = await http.post(
        f"{SERVICE}/{method}",
        content=base64.b64encode(body) if as_text else body,
        headers={"content-type": kind, "accept": kind, "x-grpc-web": "1", **headers},
    )
    assert answer.status_code == 200
    content = answer.content
    if as_text:  # pieces, each with a padding of its own
        content = b"".join(map(base64.b64decode, re.findall(rb"[^=]+={0,2}", content)))
    messages, trailers = unframed(content)
    return messages, trailers or dict(answer.headers), answer.headers

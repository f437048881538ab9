"""TLS to fal: servers that are not who they should be get nothing."""

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.certificates import Authority
from tests.conftest import running_gateway
from tests.faults.each_call import CALLS, code_of, failure_of_any
from tests.faults.test_environment import OK
from tests.service.test_run import run
from tests.unit.test_transport import Connection, Server, answer, exchange, serving

from falrpc_server.fal_http.transport import Transport


@pytest.fixture
async def tls_server(tmp_path: Path) -> AsyncIterator[Any]:
    """What starts TLS servers with certificates of an authority."""
    authority, servers = Authority(), []

    async def start(signer: Authority | None = None, **names: Any) -> tuple[str, Server, ssl.SSLContext]:
        key, chain = (signer or authority).issue(**names)
        (tmp_path / "key").write_bytes(key)
        (tmp_path / "chain").write_bytes(chain)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "chain", tmp_path / "key")
        server = Server(answer(OK))
        listener = await asyncio.start_server(server.handle, "127.0.0.1", 0, ssl=context)
        servers.append(listener)
        trusting = ssl.create_default_context(cadata=authority.pem.decode())
        return f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}", server, trusting

    yield start
    for listener in servers:
        listener.close()


BAD_SERVERS: dict[str, dict[str, Any]] = {
    "another name": {"dns": ["fal.run"]},
    "another address": {"ips": ["127.0.0.2"]},
    "the name as a common name": {"common_names": ["127.0.0.1"]},
    "expired": {"ips": ["127.0.0.1"], "ends": -datetime.timedelta(hours=1)},
    "another authority": {"ips": ["127.0.0.1"], "signer": Authority()},
}


@pytest.mark.parametrize("kind", BAD_SERVERS)
async def test_certificates_of_servers(tls_server: Any, kind: str) -> None:
    """A server whose certificate is not right for its name gets not a byte of a request; a right one does."""
    for names, is_good in ((BAD_SERVERS[kind], False), ({"ips": ["127.0.0.1"]}, True)):
        url, server, trusting = await tls_server(**names)
        sent = httpx.Request("POST", f"{url}/x", content=b"{}", extensions={"timeout": {"read": 10.0}})
        async with Transport(tls=trusting) as transport:
            if is_good:
                assert (await exchange(transport, sent))[0].status_code == 200
            else:
                with pytest.raises(httpx.ConnectError):
                    await exchange(transport, sent)
        assert len(server.requests) == is_good


async def test_an_authority_that_nobody_knows(tls_server: Any) -> None:
    """Through the gateway a server that no known authority vouches for is no fal: it gets nothing."""
    url, server, _ = await tls_server(ips=["127.0.0.1"])
    hosts = dict.fromkeys(("fal_run_url", "fal_queue_url", "fal_rest_url", "fal_cdn_url"), url)
    async with running_gateway(**hosts, poll_patience_seconds=0.1) as gateway:
        for method, begin in CALLS.items():
            assert await code_of(begin(gateway.stub)) == "UNAVAILABLE", method
        assert server.requests == []


async def test_versions_of_tls() -> None:
    """TLS 1.2 and 1.3 are offered to fal, and nothing older."""
    hello = asyncio.get_running_loop().create_future()

    async def behave(connection: Connection) -> None:
        first = await connection.reader.read(65_536)
        if not hello.done():
            hello.set_result(first)

    async with serving(behave) as server:
        url = server.url.replace("http:", "https:").replace("127.0.0.1", "localhost")
        async with running_gateway(fal_run_url=url) as gateway:
            failed = await failure_of_any(gateway.stub.Run(run("a/b"), timeout=60))
            assert (failed.code, failed.delivery) == ("UNAVAILABLE", "NOT_SENT")
    assert versions_in(await hello) == {b"\x03\x03", b"\x03\x04"}


def versions_in(hello: bytes) -> set[bytes]:
    """What a ClientHello (RFC 8446, section 4.1.2) lists in its extension supported_versions."""
    position = 5 + 4 + 2 + 32  # record, handshake, version, random
    position += 1 + hello[position]
    position += 2 + int.from_bytes(hello[position : position + 2], "big")
    position += 1 + hello[position] + 2
    while position < len(hello):
        kind, length = (
            hello[position : position + 2],
            int.from_bytes(hello[position + 2 : position + 4], "big"),
        )
        if kind == b"\x00\x2b":
            listed = hello[position + 5 : position + 4 + length]
            return {listed[n : n + 2] for n in range(0, len(listed), 2)}
        position += 4 + length
    raise AssertionError("the extension is not there")

"""Where an upload's bytes go: what fal names is connected to only when it is a listed host (§10.6)."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.conftest import Running, running_gateway
from tests.uploads.standing import DATA, PART_BYTES, SETTINGS, SMALL, Caller, chunks, failure, header
from tests.uploads.stores import Act, Store, eventually, stored, storing

REFUSED = ("INTERNAL", "UPLOAD_HOST_REFUSED", "REJECTED")
WAYS = {"initiate": SMALL, "initiate-multipart": DATA}

HOSTILE = {
    "user-info": "https://fal.media@evil.example/x",
    "user and password": "https://fal.media:pw@evil.example/x",
    "user-info at fal": "https://user:pw@fal.media/x",
    "empty user-info": "https://@fal.media/x",
    "user-info with a port": "https://fal.media:443@127.0.0.1:{port}/x",
    "percent-encoded at": "https://fal.media%40evil.example/x",
    "no dot before the suffix": "https://evilfal.media/x",
    "a prefix": "https://fal.media.evil.example/x",
    "another port": "https://fal.media:{port}/x",
    "another port below": "https://v3.fal.media:8443/x",
    "port 80": "https://fal.media:80/x",
    "port 0": "https://fal.media:0/x",
    "a port of letters": "https://fal.media:https/x",
    "decimal IP": "http://2130706433:{port}/x",
    "decimal IP, https": "https://2130706433/x",
    "octal IP": "http://0177.0.0.1:{port}/x",
    "hex IP": "http://0x7f000001:{port}/x",
    "dotted hex IP": "http://0x7f.0.0.1:{port}/x",
    "short IP": "http://127.1:{port}/x",
    "any address": "http://0.0.0.0:{port}/x",
    "loopback": "http://127.0.0.1:{port}/x",
    "localhost": "http://localhost:{port}/x",
    "link-local": "http://169.254.169.254/latest/meta-data",
    "IPv6": "http://[::1]:{port}/x",
    "IPv6 mapped": "http://[::ffff:127.0.0.1]:{port}/x",
    "IPv6 mapped in hex": "https://[::ffff:7f00:1]/x",
    "IPv6 zone": "https://[fe80::1%25eth0]/x",
    "a name in brackets": "https://[fal.media]/x",
    "trailing dot": "https://fal.media./x",
    "trailing dot below": "https://v3.fal.media./x",
    "leading dot": "https://.fal.media.evil.example/x",
    "backslash": "https://evil.example\\.fal.media/x",
    "backslash and at": "https://evil.example\\@fal.media/x",
    "backslashes for slashes": "https:\\\\fal.media/x",
    "tab": "https://evil.example\t.fal.media/x",
    "tab in the name": "https://fal.me\tdia/x",
    "newline": "https://fal.media\n.evil.example/x",
    "newline in the path": "https://fal.media/x\r\nHost: evil.example",
    "nul": "https://evil.example\x00.fal.media/x",
    "space": " https://fal.media/x",
    "fragment": "https://evil.example#.fal.media/x",
    "fragment behind fal's": "https://fal.media/x#y",
    "in the query": "https://evil.example?.fal.media/x",
    "in the path": "https://evil.example/fal.media/x",
    "percent-encoded dot": "https://fal.media%2eevil.example/x",
    "punycode": "https://xn--fl-7cd.media/x",
    "punycode below": "https://xn--v3-xyz.fal.media/x",
    "cyrillic": "https://f\u0430l.media/x",
    "fullwidth": "https://\uff46\uff41\uff4c.media/x",
    "ideographic dot": "https://evil\u3002fal.media/x",
    "fullwidth slash": "https://evil.example\uff0f.fal.media/x",
    "upper-case suffix": "https://EVILFAL.MEDIA/x",
    "upper-case prefix": "https://FAL.MEDIA.EVIL.EXAMPLE/x",
    "dotless i": "https://FAL.MED\u0130A/x",
    "long s": "https://evil.example/\u017f.fal.media",
    "plain http": "http://v3.fal.media/x",
    "upper-case http": "HTTP://FAL.MEDIA/x",
    "http at a port": "http://fal.media:{port}/x",
    "ftp": "ftp://fal.media/x",
    "file": "file:///etc/passwd",
    "a data URL": "data:text/plain,fal.media",
    "no scheme": "//fal.media/x",
    "no scheme, other host": "//evil.example/x",
    "no authority": "https:fal.media/x",
    "one slash": "https:/fal.media/x",
    "no host": "https:///fal.media/x",
    "no host but a port": "https://:{port}/x",
    "a path": "/x",
    "nothing": "",
    "fal's other host": "https://rest.fal.ai/x",
    "too long": "https://fal.media/" + "x" * 10_000,
}

HOSTILE_ON_LOOPBACK = {
    "user-info": "http://127.0.0.1@localhost:{port}/x",
    "user-info at the host": "http://a:b@127.0.0.1:{port}/x",
    "decimal IP": "http://2130706433:{port}/x",
    "octal IP": "http://0177.0.0.1:{port}/x",
    "hex IP": "http://0x7f.0.0.1:{port}/x",
    "short IP": "http://127.1:{port}/x",
    "zeros": "http://127.000.000.001:{port}/x",
    "another loopback address": "http://127.0.0.2:{port}/x",
    "its name": "http://localhost:{port}/x",
    "IPv6 mapped": "http://[::ffff:127.0.0.1]:{port}/x",
    "IPv6": "http://[::1]:{port}/x",
    "trailing dot": "http://127.0.0.1.:{port}/x",
    "a suffix": "http://127.0.0.1.evil.example:{port}/x",
    "backslash": "http://127.0.0.1:{port}\\x",
    "fragment": "http://127.0.0.1:{port}/x#y",
    "tab": "http://127.0.0.1\t:{port}/x",
    "ftp": "ftp://127.0.0.1:{port}/x",
}
"""The same where 127.0.0.1 itself is listed, as beside an emulator."""


@dataclass
class Seen:
    """What this process has asked of the network."""

    lookups: list[str] = field(default_factory=list)
    connects: list[tuple[Any, ...]] = field(default_factory=list)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Notes names that are looked up and addresses that are connected to. Every name is this machine's."""
    noted = Seen()
    resolve, connect = socket.getaddrinfo, socket.socket.connect

    def getaddrinfo(host: Any, *rest: Any, **options: Any) -> Any:
        noted.lookups.append(host)
        return resolve("127.0.0.1", *rest, **options)

    def noting(one: socket.socket, address: Any) -> None:
        noted.connects.append(address)
        connect(one, address)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket.socket, "connect", noting)
    return noted


@dataclass
class Trap:
    """A server that nobody should connect to."""

    port: int = 0
    accepts: int = 0

    def accept(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepts += 1
        writer.close()


@contextlib.asynccontextmanager
async def waiting() -> AsyncIterator[Trap]:
    """A trap on every address of this machine, IPv4 and IPv6 where there is that."""
    trap = Trap()
    listener = socket.create_server(
        ("", 0),
        family=socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET,
        dualstack_ipv6=socket.has_dualstack_ipv6(),
    )
    async with await asyncio.start_server(trap.accept, sock=listener):
        trap.port = listener.getsockname()[1]
        yield trap


@contextlib.asynccontextmanager
async def fals_hosts(store: Store, **settings: Any) -> AsyncIterator[Running]:
    """A gateway that asks the storage for its targets, and goes by the list of upload hosts."""
    hosts = dict.fromkeys(("fal_run_url", "fal_queue_url", "fal_rest_url"), f"{store.url}/rest")
    async with running_gateway(**hosts, **SETTINGS, **settings) as gateway:
        yield gateway


def own(store: Store) -> tuple[str, int]:
    """The storage's address."""
    host, _, port = store.url.removeprefix("http://").rpartition(":")
    return host, int(port)


@pytest.mark.parametrize(
    ("urls", "listed"),
    [
        pytest.param(HOSTILE, ("fal.media",), id="fal's host listed"),
        pytest.param(HOSTILE_ON_LOOPBACK, ("127.0.0.1",), id="loopback listed"),
    ],
)
@pytest.mark.parametrize("way", WAYS)
async def test_hostile_targets(seen: Seen, way: str, urls: dict[str, str], listed: tuple[str, ...]) -> None:
    """Each is refused: no name is looked up, and nobody but the storage that named it is connected to."""
    data = WAYS[way]
    async with storing() as store, waiting() as trap, fals_hosts(store, upload_hosts=listed) as gateway:
        for name, url in urls.items():
            store.will(way, Act(answers=url.replace("{port}", str(trap.port))))
            failed = await failure(gateway.address, few(data))
            assert (failed.code, failed.info.reason, failed.delivery) == REFUSED, name
            assert not seen.lookups, name
            assert set(seen.connects) == {own(store)}, name
        assert len(store.asked) == len(store.all(way)) == len(urls)
        assert trap.accepts == 0
        assert not stored(store)
        budget = gateway.gateway._uploads._budget
        assert budget.free_bytes == SETTINGS["upload_buffer_bytes_max"]


def few(data: bytes) -> Caller:
    """A file of that declared size, whose caller waits when there is enough to begin with."""
    return Caller(chunks(header(len(data)), data[: PART_BYTES + 2 * len(SMALL)]))


@pytest.mark.parametrize(
    ("url", "lookups", "port"),
    [
        pytest.param("https://v3.fal.media/x", ["v3.fal.media"], 443, id="fal's"),
        pytest.param("https://FAL.MEDIA:443/x", ["fal.media"], 443, id="upper case"),
        pytest.param("http://127.0.0.1:{port}/x", [], None, id="address"),
        pytest.param("http://localhost:{port}/x", ["localhost"], None, id="name"),
    ],
)
@pytest.mark.parametrize("way", WAYS)
async def test_listed_targets(seen: Seen, way: str, url: str, lookups: list[str], port: int | None) -> None:
    """What is listed is looked up and connected to: the same eyes see it."""
    listed = ("fal.media", "127.0.0.1", "localhost")
    async with (
        storing() as store,
        waiting() as trap,
        fals_hosts(store, upload_hosts=listed, connect_seconds=1.0) as gateway,
    ):
        store.will(way, Act(answers=url.replace("{port}", str(trap.port))))
        data = WAYS[way]
        failing = asyncio.create_task(failure(gateway.address, chunks(header(len(data)), data), seconds=3.0))
        there = ("127.0.0.1", port or trap.port)
        await eventually(lambda: there in seen.connects, lambda: seen)
        assert set(seen.lookups) == set(lookups)
        await failing
        assert bool(trap.accepts) == (port is None)
        assert not stored(store)

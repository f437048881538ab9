"""Names of hosts that cannot be looked up, or only after long: others are reached meanwhile."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.conftest import running_gateway
from tests.failures import failure_of
from tests.service.test_run import run
from tests.unit.test_transport import answer, serving

from falrpc_server.fal_http.transport import Limits, Transport

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
HANGING = 20  # more than the threads that asyncio and uvloop look names up with
LONG = 60.0  # seconds, after which a test that waits in vain ends


class Names:
    """Stands for the system's lookups: any host is this machine, but for those that hang or fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hanging: set[str] = set()
        self.failing: set[str] = set()
        self.asked: list[str] = []
        self.go_on = threading.Event()
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._getaddrinfo)

    def _getaddrinfo(self, host: Any, *rest: Any, **named: Any) -> Any:
        self.asked.append(str(host))
        if host in self.hanging:
            assert self.go_on.wait(LONG)
        if host in self.failing:
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return self._real("127.0.0.1", *rest, **named)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    """The system's lookups for the test."""
    one = Names(monkeypatch)
    yield one
    one.go_on.set()


async def fetched(transport: Transport, url: str) -> int:
    async with asyncio.timeout(LONG):
        response = await transport.handle_async_request(httpx.Request("GET", url))
        await response.aread()
        await response.aclose()
        return response.status_code


async def test_lookups_that_hang(names: Names) -> None:
    """While many hosts' lookups hang, another host is reached, and the event loop's own threads are free."""
    names.hanging = {f"hangs-{n}.test" for n in range(HANGING)}
    limits = Limits(connect_seconds=LONG / 2, pool_seconds=LONG / 2)
    async with serving(answer(OK)) as server, Transport(limits) as transport:
        port = server.url.rpartition(":")[2]
        stuck = [asyncio.create_task(fetched(transport, f"http://{host}:{port}/")) for host in names.hanging]
        async with asyncio.timeout(20):
            while len(set(names.asked)) < HANGING:
                await asyncio.sleep(0.01)
            assert await fetched(transport, f"http://fal.test:{port}/") == 200
            assert await asyncio.to_thread(lambda: "free") == "free"
        assert not any(task.done() for task in stuck)
        for task in stuck:
            task.cancel()
        await asyncio.wait(stuck)


async def test_an_address_that_was_good(names: Names) -> None:
    """When lookups fail after a success, new connections go where the last ones went."""
    async with serving(answer(OK)) as server, Transport() as transport:
        url = f"http://fal.test:{server.url.rpartition(':')[2]}/"
        assert await fetched(transport, url) == 200
        names.failing.add("fal.test")
        transport._session.connector.clear_dns_cache()  # type: ignore[union-attr] # seconds later
        assert await fetched(transport, url) == 200
        assert names.asked.count("fal.test") == 2


@pytest.mark.parametrize("trouble", ["failing", "hanging"])
async def test_a_name_without_an_address(names: Names, trouble: str) -> None:
    """A paid call to a host whose name is not to be had is UNAVAILABLE, NOT_SENT, long before its deadline."""
    getattr(names, trouble).add("localhost")
    urls = {"fal_run_url": "http://localhost:1", "connect_seconds": 0.3, "resends_max": 0}
    async with running_gateway(**urls) as gateway:
        started = time.monotonic()
        failed = await failure_of(gateway.stub.Run(run("a/b"), timeout=LONG))
        assert (failed.code, failed.info.reason) == ("UNAVAILABLE", "UPSTREAM_UNREACHABLE")
        assert failed.delivery == "NOT_SENT"
        assert time.monotonic() - started < LONG / 3

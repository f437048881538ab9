"""Names to addresses, on both event loops, with a system whose lookups hang and fail at will."""

import asyncio
import socket
import threading
import time
from collections.abc import Coroutine, Iterator
from typing import Any

import aiohttp
import pytest
import uvloop

from falrpc_server.fal_http import resolver
from falrpc_server.fal_http.resolver import Resolver

ADDRESS = "192.0.2.1"  # reserved for documentation
OTHER = "192.0.2.2"
BRIEF = 0.05  # seconds, where the end of a wait is what is tested
LONG = 60.0  # seconds, after which a test that waits in vain has failed
HANGS = "hangs"


class System:
    """Stands for socket.getaddrinfo.

    Attributes:
        answers: What each host's lookups bring: addresses, an exception, or HANGS.
        asked: The hosts that were looked up, with the family.
        go_on: Ends all that hangs; they find ADDRESS then.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, int]] = []
        self.go_on = threading.Event()
        self._real = socket.getaddrinfo

    def getaddrinfo(self, host: Any, port: Any, family: int = 0, *rest: Any, **named: Any) -> Any:
        answer = self.answers.get(host)
        if answer is None:
            return self._real(host, port, family, *rest, **named)
        self.asked.append((host, family))
        if answer == HANGS:
            assert self.go_on.wait(LONG)
            answer = [ADDRESS]
        if isinstance(answer, Exception):
            raise answer
        return [self._info(address) for address in answer]

    def _info(self, address: str) -> Any:
        [*_, last] = self._real(address, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        return last


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    """The system's lookups for the test; whatever hangs is let go at its end."""
    one = System()
    monkeypatch.setattr(socket, "getaddrinfo", one.getaddrinfo)
    yield one
    one.go_on.set()


class Loop:
    """An event loop of a kind, for one test."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(LONG):
                await work

        self._runner.run(bounded())


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield Loop(runner)


def hosts(found: list[Any]) -> list[str]:
    return [address["host"] for address in found]


async def asked(system: System, count: int) -> None:
    """Waits until that many lookups have begun."""
    while len(system.asked) < count:
        await asyncio.sleep(0.001)


def test_addresses_as_aiohttp_takes_them(loop: Loop, system: System) -> None:
    """IPv4 and IPv6 addresses come with their family, the caller's port, and as numbers."""
    system.answers["fal.test"] = [ADDRESS, "2001:db8::1"]
    numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV

    async def claims() -> None:
        found = await Resolver().resolve("fal.test", 8443, socket.AF_UNSPEC)
        common = {"hostname": "fal.test", "port": 8443, "proto": socket.IPPROTO_TCP, "flags": numeric}
        assert found == [
            {**common, "host": ADDRESS, "family": socket.AF_INET},
            {**common, "host": "2001:db8::1", "family": socket.AF_INET6},
        ]
        await Resolver().resolve("fal.test", 1, socket.AF_INET)
        assert system.asked == [("fal.test", socket.AF_UNSPEC), ("fal.test", socket.AF_INET)]

    loop.run(claims())


def test_the_same_as_aiohttps_own(loop: Loop) -> None:
    """A name that really is looked up has the addresses that aiohttp's own resolver finds."""

    async def claims() -> None:
        for family in (socket.AF_UNSPEC, socket.AF_INET):
            ours = await Resolver().resolve("localhost", 80, family)
            assert ours == await aiohttp.ThreadedResolver().resolve("localhost", 80, family)

    loop.run(claims())


def test_lookups_that_hang_stop_nothing_else(loop: Loop, system: System) -> None:
    """While lookups hang, others go on at once, and so do the loop's own pools of threads."""
    system.answers |= {f"hangs-{n}.test": HANGS for n in range(resolver.LOOKUPS_MAX - 1)}
    system.answers["fal.test"] = [ADDRESS]

    async def claims() -> None:
        one = Resolver()
        hanging = [
            asyncio.create_task(one.resolve(f"hangs-{n}.test")) for n in range(resolver.LOOKUPS_MAX - 1)
        ]
        await asked(system, len(hanging))
        async with asyncio.timeout(LONG / 2):
            assert hosts(await one.resolve("fal.test")) == [ADDRESS]
            assert await asyncio.to_thread(lambda: "done") == "done"
            assert await asyncio.get_running_loop().getaddrinfo("localhost", 80)
        assert not any(task.done() for task in hanging)
        system.go_on.set()
        assert [hosts(found) for found in await asyncio.gather(*hanging)] == [[ADDRESS]] * len(hanging)

    loop.run(claims())


def test_the_number_of_threads_is_bounded(loop: Loop, system: System) -> None:
    """One lookup more than there may be is OSError at once; when the others end, it can be had."""
    system.answers |= {f"hangs-{n}.test": HANGS for n in range(resolver.LOOKUPS_MAX)}
    system.answers["fal.test"] = [ADDRESS]

    async def claims() -> None:
        one = Resolver()
        hanging = [asyncio.create_task(one.resolve(f"hangs-{n}.test")) for n in range(resolver.LOOKUPS_MAX)]
        await asked(system, len(hanging))
        with pytest.raises(OSError, match="too many lookups"):
            await one.resolve("fal.test")
        system.go_on.set()
        await asyncio.gather(*hanging)
        assert hosts(await one.resolve("fal.test")) == [ADDRESS]

    loop.run(claims())


def test_waiters_share_a_lookup(loop: Loop, system: System) -> None:
    """All who want a host's addresses at the same time wait for one lookup; each gets its own port."""
    system.answers["fal.test"] = HANGS

    async def claims() -> None:
        one = Resolver()
        waiting = [asyncio.create_task(one.resolve("fal.test", port)) for port in range(20)]
        await asked(system, 1)
        await asyncio.sleep(0)
        system.go_on.set()
        ports = [address["port"] for found in await asyncio.gather(*waiting) for address in found]
        assert ports == list(range(20))
        assert len(system.asked) == 1

    loop.run(claims())


def test_a_waiter_that_leaves_takes_nothing_along(loop: Loop, system: System) -> None:
    """A cancelled waiter leaves at once; those beside it get the answer."""
    system.answers["fal.test"] = HANGS

    async def claims() -> None:
        one = Resolver()
        leaving, staying = (asyncio.create_task(one.resolve("fal.test")) for _ in range(2))
        await asked(system, 1)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        system.go_on.set()
        assert hosts(await staying) == [ADDRESS]
        assert len(system.asked) == 1

    loop.run(claims())


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(socket.gaierror(socket.EAI_NONAME, "no such name"), id="no-such-name"),
        pytest.param(socket.gaierror(socket.EAI_AGAIN, "try again"), id="try-again"),
        pytest.param(OSError("out of files"), id="other"),
    ],
)
def test_a_failure_after_a_success(loop: Loop, system: System, error: OSError) -> None:
    """When a lookup fails, the last good answer serves; when lookups work again, theirs does."""
    system.answers["fal.test"] = [ADDRESS]

    async def claims() -> None:
        one = Resolver()
        await one.resolve("fal.test", 1)
        system.answers["fal.test"] = error
        for port in (2, 3):
            [found] = await one.resolve("fal.test", port)
            assert (found["host"], found["port"]) == (ADDRESS, port)
        system.answers["fal.test"] = [OTHER]
        assert hosts(await one.resolve("fal.test")) == [OTHER]
        assert len(system.asked) == 4

    loop.run(claims())


def test_an_answer_that_is_too_old(loop: Loop, system: System) -> None:
    """An answer that was kept too long does not serve: the failure is told."""
    system.answers["fal.test"] = [ADDRESS]

    async def claims() -> None:
        one = Resolver(kept_seconds_max=BRIEF)
        await one.resolve("fal.test")
        system.answers["fal.test"] = socket.gaierror(socket.EAI_AGAIN, "try again")
        await asyncio.sleep(2 * BRIEF)
        with pytest.raises(socket.gaierror, match="try again"):
            await one.resolve("fal.test")

    loop.run(claims())


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        pytest.param("fal.test", socket.gaierror(socket.EAI_NONAME, "no such name"), id="no-such-name"),
        pytest.param("fal.test", OSError("out of files"), id="other"),
        pytest.param("fal.test", [], id="no-addresses"),
        pytest.param("x" * 64 + ".test", None, id="no-name-at-all"),
        pytest.param("a\0b.test", None, id="nul"),
    ],
)
def test_a_failure_without_an_answer(loop: Loop, system: System, name: str, answer: Any) -> None:
    """A lookup that fails when none has succeeded yet is OSError, whatever Python makes of it."""
    if answer is not None:
        system.answers[name] = answer

    async def claims() -> None:
        one = Resolver()
        for _ in range(2):
            with pytest.raises(OSError):
                await one.resolve(name)

    loop.run(claims())


def test_a_slow_lookup_after_a_success(loop: Loop, system: System) -> None:
    """When a lookup takes long the last good answer serves; who comes later does not wait for it again."""
    system.answers["fal.test"] = [OTHER]

    async def claims() -> None:
        one = Resolver(patience_seconds=0.5)
        await one.resolve("fal.test")
        system.answers["fal.test"] = HANGS
        assert hosts(await one.resolve("fal.test")) == [OTHER]
        started = time.monotonic()
        for _ in range(20):
            assert hosts(await one.resolve("fal.test")) == [OTHER]
        assert time.monotonic() - started < 5  # 10 seconds if each waited
        assert len(system.asked) == 2
        system.go_on.set()
        while hosts(await one.resolve("fal.test")) == [OTHER]:  # the lookup went on
            await asyncio.sleep(0.001)

    loop.run(claims())


def test_a_slow_lookup_without_an_answer(loop: Loop, system: System) -> None:
    """A first lookup that never ends is given up with OSError; later ones are begun, but not endlessly."""
    system.answers["fal.test"] = HANGS

    async def claims() -> None:
        one = Resolver(lookup_seconds_max=BRIEF)
        while len(system.asked) < resolver.LOOKUPS_PER_NAME_MAX:
            with pytest.raises(socket.gaierror):
                await one.resolve("fal.test")
        for _ in range(5):
            with pytest.raises(socket.gaierror):
                await one.resolve("fal.test")
            await asyncio.sleep(BRIEF)
        assert len(system.asked) == resolver.LOOKUPS_PER_NAME_MAX
        system.answers["fal.test"] = [OTHER]
        system.go_on.set()
        async with asyncio.timeout(LONG / 2):
            while True:
                try:
                    assert hosts(await one.resolve("fal.test")) == [OTHER]
                    break
                except socket.gaierror:
                    await asyncio.sleep(0.001)

    loop.run(claims())


def test_the_number_of_kept_answers_is_bounded(loop: Loop, system: System) -> None:
    """However many names are asked for, only so many answers are kept: the newest."""
    names = [f"{n}.test" for n in range(resolver.KEPT_MAX + 1)]
    system.answers |= {name: [ADDRESS] for name in names}

    async def claims() -> None:
        one = Resolver()
        for name in names:
            await one.resolve(name)
        system.answers |= {name: OSError("fails") for name in names}
        assert hosts(await one.resolve(names[-1])) == hosts(await one.resolve(names[1])) == [ADDRESS]
        with pytest.raises(OSError, match="fails"):
            await one.resolve(names[0])

    loop.run(claims())


def test_the_end_does_not_wait_for_lookups(loop: Loop, system: System) -> None:
    """A resolver and its event loop close while lookups hang, and what those find later harms nobody."""
    system.answers["fal.test"] = HANGS

    async def claims() -> None:
        one = Resolver()
        waiting = asyncio.create_task(one.resolve("fal.test"))
        await asked(system, 1)
        await one.close()
        waiting.cancel()

    loop.run(claims())
    loop._runner.close()
    [thread] = [thread for thread in threading.enumerate() if thread.name == "lookup fal.test"]
    assert thread.daemon
    system.go_on.set()
    thread.join(LONG)  # an error in it would be a warning, and the test would fail
    assert not thread.is_alive()

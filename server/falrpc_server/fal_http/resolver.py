"""Names to addresses, in threads of their own.

asyncio and uvloop look names up in pools of a few threads that everything shares: a handful of lookups that
hang stops those of every other host. Here each lookup has a thread for itself; it is a daemon, because one
that hangs must not hold up the end of the process. fal's hosts are few and fixed, so the last good answer
serves when a lookup fails or takes long.

The threads ask the system, so that /etc/hosts and the name service switch count. aiodns would need no
threads, but c-ares behind it goes by its own reading of those files. What aiohttp does in front of this
(answers remembered for seconds, one lookup for all who wait) is not done again, but one that is given up
must not be begun anew each time.
"""

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from dataclasses import dataclass

from aiohttp.abc import AbstractResolver, ResolveResult

__all__ = ["Resolver"]

LOOKUPS_MAX = 32
LOOKUPS_PER_NAME_MAX = 4  # one, and those that were given up and still hang
KEPT_MAX = 256  # upload hosts are named by fal

_Name = tuple[str, socket.AddressFamily]
_Addresses = list[tuple[socket.AddressFamily, int, str]]  # family, protocol, numeric address


@dataclass(frozen=True, slots=True)
class _Lookup:
    answer: "asyncio.Future[_Addresses | OSError]"
    started: float


class Resolver(AbstractResolver):
    """Looks names up for one event loop.

    Args:
        patience_seconds: After this long a kept answer serves instead; the lookup goes on.
        lookup_seconds_max: After this long a lookup is given up, and a new one may begin.
        kept_seconds_max: How old an answer may be that serves instead.
    """

    def __init__(
        self,
        patience_seconds: float = 2.0,
        lookup_seconds_max: float = 10.0,
        kept_seconds_max: float = 3_600.0,
    ) -> None:
        self._patience_seconds = patience_seconds
        self._lookup_seconds_max = lookup_seconds_max
        self._kept_seconds_max = kept_seconds_max
        self._lookups: dict[_Name, _Lookup] = {}
        self._threads: Counter[_Name] = Counter()
        self._kept: dict[_Name, tuple[_Addresses, float]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host. Raises OSError."""
        name, now = (host, family), asyncio.get_running_loop().time()
        kept, since = self._kept.get(name, ([], now))
        if now - since > self._kept_seconds_max:
            kept = []
        try:
            found = await self._found(name, self._patience_seconds if kept else self._lookup_seconds_max)
        except OSError:
            if not kept:
                raise
            found = kept
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=protocol, flags=flags)
            for kind, protocol, address in found
        ]

    async def close(self) -> None:
        """Has nothing to wait for: lookups that hang are left to themselves."""

    async def _found(self, name: _Name, seconds: float) -> _Addresses:
        """What the lookup in flight finds, or a new one when there is none. Raises OSError."""
        loop = asyncio.get_running_loop()
        lookup = self._lookups.get(name)
        if lookup is None or loop.time() - lookup.started >= self._lookup_seconds_max:
            lookup = self._begin(name, loop)
        left = lookup.started + seconds - loop.time()
        await asyncio.wait({lookup.answer}, timeout=max(0.0, left))  # who leaves does not cancel the lookup
        if not lookup.answer.done():
            raise socket.gaierror(socket.EAI_AGAIN, "the lookup takes too long")
        answer = lookup.answer.result()
        if isinstance(answer, OSError):
            raise answer
        return answer

    def _begin(self, name: _Name, loop: asyncio.AbstractEventLoop) -> _Lookup:
        if self._threads[name] >= LOOKUPS_PER_NAME_MAX or self._threads.total() >= LOOKUPS_MAX:
            raise socket.gaierror(socket.EAI_AGAIN, "too many lookups hang")
        lookup = _Lookup(loop.create_future(), loop.time())

        def look_up() -> None:
            answer = _look_up(*name)
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(self._ended, name, lookup, answer)

        try:
            threading.Thread(target=look_up, name=f"lookup {name[0]}", daemon=True).start()
        except RuntimeError as error:  # there is no thread to be had
            raise OSError(str(error)) from error
        self._threads[name] += 1
        self._lookups[name] = lookup
        return lookup

    def _ended(self, name: _Name, lookup: _Lookup, answer: _Addresses | OSError) -> None:
        self._threads -= Counter([name])
        if self._lookups.get(name) is lookup:
            del self._lookups[name]
        if not isinstance(answer, OSError):
            self._kept.pop(name, None)  # so that the oldest is first
            self._kept[name] = (answer, asyncio.get_running_loop().time())
            if len(self._kept) > KEPT_MAX:
                del self._kept[next(iter(self._kept))]
        lookup.answer.set_result(answer)


def _look_up(host: str, family: socket.AddressFamily) -> _Addresses | OSError:
    found: _Addresses = []
    try:
        for kind, _, protocol, _, address in socket.getaddrinfo(
            host, None, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        ):
            numeric = str(address[0])
            if len(address) == 4 and address[3]:  # a link-local address needs its interface
                numeric, _ = socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
            found.append((kind, protocol, numeric))
    except OSError as error:
        return _own_shortage() or error
    except Exception as error:  # what Python takes for no name at all: UnicodeError, for one
        return socket.gaierror(socket.EAI_NONAME, type(error).__name__)
    return found or socket.gaierror(socket.EAI_NONAME, "no addresses")


def _own_shortage() -> OSError | None:
    """Why this machine can open nothing, if it can't: a lookup says the same of a name that is not there."""
    try:
        socket.socket().close()
    except OSError as error:
        return error
    return None

"""aiohttp's connection pool, more careful about what it uses again and how it cuts.

It overrides two private methods, because there is no public way to either; tests on real sockets watch them.
"""

from time import monotonic
from typing import Any

import aiohttp

__all__ = ["Connector"]


class Connector(aiohttp.TCPConnector):
    """A pool of connections."""

    async def _get(self, key: Any, traces: Any) -> Any:
        # Bytes that came while nobody waited would be taken for the answer to the next request, of another
        # caller maybe (aio-libs/aiohttp#13656). A closed connection is passed over.
        oldest = monotonic() - (self._keepalive_timeout or 0.0)
        for connection, since in self._conns.get(key, ()):
            if connection.should_close:
                connection.abort()
            elif connection.is_connected() and since >= oldest:
                break  # the one that will be taken
        return await super()._get(key, traces)

    def _release(self, key: Any, protocol: Any, *, should_close: bool = False) -> None:
        # What is cut is cut at once: TLS would wait half a minute for the peer's goodbye.
        if should_close:
            protocol.abort()
        super()._release(key, protocol, should_close=should_close)

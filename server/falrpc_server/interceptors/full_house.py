"""Refuses calls of a server that is full, before grpc reads them.

The interceptors refuse such a call, too (admission.py), at more than twice the price, and what is refused is
most often much. Here no caller is known: so only those are refused whom nobody's share could let in. They
have no log line each, but one a second tells how many they were.
"""

import asyncio
import itertools
from typing import Any

import grpc
import structlog

from falrpc_server.access.admission import Admission, Methods
from falrpc_server.access.gate import Gate
from falrpc_server.interceptors.admission import METHODS
from falrpc_server.interceptors.call import CallRegistry
from falrpc_server.translate import refusals, rpc_status

__all__ = ["FullHouse"]

ANSWERS = 256  # with different times to come again, so that those who are refused together do not
LOG_SECONDS = 1.0

Handler = Any  # grpc's, for one call


class FullHouse:
    """What refuses calls while there is no place for anybody's."""

    def __init__(
        self,
        service: str,
        door: Admission,
        gate: Gate,
        calls: CallRegistry,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._calls = calls  # a server that is about to stop says so, and counts who still comes
        self._door = door
        self._gate = gate
        self._log = log
        self._methods = {f"/{service}/{name}": methods for name, methods in METHODS.items()}
        self._answers = {
            methods: itertools.cycle([_answer(door, methods) for _ in range(ANSWERS)]) for methods in Methods
        }
        self._refused = 0

    def __call__(self, path: str) -> Handler | None:
        """The handler that refuses a call of this method; None while it may begin."""
        methods = self._methods.get(path)
        if (
            methods is None
            or self._calls.refuses_new
            or not self._door.is_full(methods, is_shared=len(self._gate.policy.tenants) > 1)
        ):
            return None
        if not self._refused:
            asyncio.get_running_loop().call_later(LOG_SECONDS, self._tell)
        self._refused += 1
        return next(self._answers[methods])

    def _tell(self) -> None:
        self._log.warning("calls.refused", reason="SERVER_BUSY", count=self._refused)
        self._refused = 0


def _answer(door: Admission, methods: Methods) -> Handler:
    """A handler that sends nothing but a status. As one of a stream it need not wait for the request."""
    status = rpc_status.status_of(refusals.of_refusal(door.refusal_of_a_full_house(methods), "", ""))
    trailers = ((rpc_status.DETAILS_HEADER, status.SerializeToString()),)

    async def refuse(_: Any, context: Any) -> None:
        context.set_trailing_metadata(trailers)
        context.set_code(grpc.StatusCode.RESOURCE_EXHAUSTED)
        context.set_details(status.message)

    return grpc.stream_stream_rpc_method_handler(refuse)

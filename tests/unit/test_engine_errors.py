"""Every exception of the HTTP engine has a meaning: none gets through as a bug of ours."""

import socket
import ssl

import aiohttp
import httpx
import pytest
from aiohttp import http_exceptions

from falrpc_server.fal_http import transport
from falrpc_server.fal_http.transport import Progress


def subclasses(cls: type[Exception]) -> set[type[Exception]]:
    """A class and all that descend from it."""
    return {cls}.union(*(subclasses(sub) for sub in cls.__subclasses__()))


def known() -> list[type[Exception]]:
    """All exceptions of aiohttp, and those of the layers below it."""
    engine = {cls for cls in subclasses(aiohttp.ClientError) if cls.__module__.startswith("aiohttp")}
    engine |= {
        cls for cls in subclasses(http_exceptions.HttpProcessingError) if cls.__module__.startswith("aiohttp")
    }
    below = {OSError, ConnectionResetError, BrokenPipeError, socket.gaierror, ssl.SSLError, TimeoutError}
    return sorted(engine | below, key=lambda cls: cls.__name__)


# A response that the engine refuses can only be read over a connection.
NEEDS_A_CONNECTION = subclasses(http_exceptions.HttpProcessingError)


def test_there_are_many() -> None:
    """The list is not empty by mistake."""
    names = {cls.__name__ for cls in known()}
    assert len(names) > 25
    assert {"ClientConnectorError", "ServerDisconnectedError", "ClientPayloadError", "LineTooLong"} <= names


@pytest.mark.parametrize("cls", [cls for cls in known() if cls not in NEEDS_A_CONNECTION])
def test_before_a_connection(cls: type[Exception]) -> None:
    """Without a connection nothing was sent, and httpx's exception says so."""
    kind = transport._kind(cls.__new__(cls), Progress(connecting=True))
    assert kind in (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol)


@pytest.mark.parametrize("cls", known())
def test_over_a_connection(cls: type[Exception]) -> None:
    """Over a connection bytes may have left, and no exception claims otherwise."""
    kind = transport._kind(cls.__new__(cls), Progress(connecting=True, connected=True))
    assert kind in (httpx.ReadError, httpx.ReadTimeout, httpx.WriteError, httpx.RemoteProtocolError)


def test_what_is_no_failure_of_the_engine() -> None:
    """A bug of ours stays one."""
    for progress in (Progress(), Progress(connected=True)):
        assert transport._kind(LookupError(), progress) is None

"""fal's client on real sockets: what the funnel does with odd answers."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator

import pytest

from falrpc_server.fal_http import results, wire
from falrpc_server.fal_http.accounts import Account
from falrpc_server.fal_http.client import Bounds, FalClient
from falrpc_server.fal_http.error_bodies import Failure, FalError
from falrpc_server.fal_http.exchange import Exchanges
from falrpc_server.fal_http.models import CallOptions, EndpointId, RequestOutcome, RequestRef, Scope, Upload
from falrpc_server.fal_http.storage import SignedUrlStorage
from falrpc_server.fal_http.transfers import Transfers
from falrpc_server.fal_http.transport import Transport
from falrpc_server.fal_http.upload_errors import UploadMismatch
from falrpc_server.fal_http.uploads import UploadBounds, Uploads

ACCOUNT = Account("test", "id:secret")
ENDPOINT = EndpointId.parse("fal-ai/flux")
REF = RequestRef(ENDPOINT, "r-1")


def response(status: str, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@contextlib.asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[tuple[Exchanges, wire.Hosts, list[bytes]]]:
    """A way to a server that gives these answers, one per connection, and the requests it got."""
    requests: list[bytes] = []
    left = list(answers)

    handlers: list[asyncio.Task[None] | None] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next((line for line in head.lower().split(b"\r\n") if b"content-length:" in line), b":0")
            requests.append(head + await reader.readexactly(int(length.split(b":")[1])))
            writer.write(left.pop(0).replace(b"SELF", address))
            await writer.drain()
        writer.close()

    listener = await asyncio.start_server(handle, "127.0.0.1", 0)
    address = b"127.0.0.1:%d" % listener.sockets[0].getsockname()[1]
    base = f"http://{address.decode()}"
    try:
        async with Transport() as transport:
            exchanges = Exchanges(transport, "falrpc/test")
            yield exchanges, wire.Hosts(base, base, base, uploads=("127.0.0.1",)), requests
    finally:
        listener.close()
        await asyncio.gather(*filter(None, handlers))  # so that all requests are listed


@contextlib.asynccontextmanager
async def fal(*answers: bytes) -> AsyncIterator[tuple[FalClient, list[bytes]]]:
    """A client of such a server."""
    async with answering(*answers) as (exchanges, hosts, requests):
        yield FalClient(exchanges, hosts), requests


@contextlib.asynccontextmanager
async def storage(*answers: bytes) -> AsyncIterator[tuple[Uploads, list[bytes]]]:
    """Uploads to such a server."""
    async with answering(*answers) as (exchanges, hosts, requests):
        yield Uploads(SignedUrlStorage(Transfers(exchanges, Bounds()), hosts), UploadBounds()), requests


@pytest.mark.parametrize("state", ["IN_QUEUE", "IN_PROGRESS"])
async def test_a_202_is_no_result(monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    """§16.1 row 16: a result that is answered 202 with a status is not completed; it is no output."""
    answer = response("202 Accepted", b'{"status":"%s"}' % state.encode(), Content_Type="application/json")
    async with fal(answer) as (client, _):
        with pytest.raises(FalError) as caught:
            await client.result(REF, Scope(ACCOUNT))
    assert caught.value.failure is Failure.NOT_COMPLETED
    monkeypatch.setattr(results, "PAUSES_SECONDS", (0.01,))
    async with fal(answer, answer) as (client, _):
        assert await client.outcome(REF, Scope(ACCOUNT)) is RequestOutcome.UNKNOWN
    async with fal(answer, response("200 OK", b"{}")) as (client, _):
        assert await client.outcome(REF, Scope(ACCOUNT)) is RequestOutcome.SUCCEEDED


async def test_an_answer_without_content_is_an_output() -> None:
    """A 204 has no body by definition, so nothing of it can be missing (RFC 9110 §15.3.5)."""
    async with fal(b"HTTP/1.1 204 No Content\r\nX-Fal-Request-Id: r\r\n\r\n") as (client, _):
        payload = await client.run(ENDPOINT, b"{}", CallOptions(), Scope(ACCOUNT))
    assert payload.data == b""


async def test_paid_work_is_committed_before_it_is_sent() -> None:
    """The commit is awaited once, before the first byte of a paid request; a read commits nothing."""
    order: list[str] = []

    async def commit() -> None:
        order.append(f"commit after {len(requests)} requests")

    async with fal(response("200 OK", b"{}", X_Fal_Request_Id="r-9")) as (client, requests):
        scope = Scope(ACCOUNT, commit=commit, accepted=order.append)
        await client.run(ENDPOINT, b"{}", CallOptions(), scope)
    assert order == ["commit after 0 requests", "r-9"]
    assert (scope.attempts, scope.committed, scope.paid_bytes_may_have_left) == (1, True, True)
    async with fal(response("200 OK", b'{"status":"IN_QUEUE"}')) as (client, requests):
        scope = Scope(ACCOUNT, commit=commit)
        await client.status(REF, scope)
    assert (len(order), scope.committed, scope.paid_bytes_may_have_left) == (2, False, False)


async def test_reads_are_sent_again_and_paid_work_is_not() -> None:
    """An edge page makes a status read again until it answers, and a run fail at once."""
    edge = response("503 Service Unavailable", b"<html>nginx</html>")
    async with fal(edge, edge, response("200 OK", b'{"status":"IN_QUEUE"}')) as (client, requests):
        await client.status(REF, Scope(ACCOUNT))
        assert len(requests) == 3
    async with fal(edge, response("200 OK", b"{}")) as (client, requests):
        with pytest.raises(FalError):
            await client.run(ENDPOINT, b"{}", CallOptions(), Scope(ACCOUNT))
        assert len(requests) == 1


async def test_a_read_whose_body_is_cut_is_sent_again() -> None:
    """retry.py repeats truncated reads: a status whose body broke off is read once more."""
    cut = b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"status":'
    async with fal(cut, response("200 OK", b'{"status":"IN_QUEUE"}')) as (client, requests):
        await client.status(REF, Scope(ACCOUNT))
        assert len(requests) == 2


TARGET = response("200 OK", b'{"upload_url":"http://SELF/put","file_url":"https://v3.fal.media/f"}')
TARGET = TARGET.replace(b"Content-Length: 68", b"Connection: close").replace(b"Content-Length", b"X-Length")
UPLOAD = Upload("a.bin", "application/octet-stream")


async def test_the_key_stays_with_fal() -> None:
    """The signed PUT carries no credential, while the initiation does (§10.6)."""
    async with storage(TARGET, response("200 OK")) as (uploads, requests):
        await uploads.store_bytes(UPLOAD, b"abc", Scope(ACCOUNT))
    assert b"authorization: key id:secret" in requests[0].lower()
    assert b"secret" not in requests[1]
    assert requests[1].endswith(b"\r\n\r\nabc")


@pytest.mark.parametrize("chunks", [[b"abc"], [b"ab", b"c"], [b"abc", b""], [b"", b"abc"]], ids=repr)
async def test_a_wrong_digest_never_stores_a_whole_file(chunks: list[bytes]) -> None:
    """The digest is verified before the last byte is sent on, however the bytes are cut."""

    async def pieces() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    sha256 = hashlib.sha256(b"other").digest()
    async with storage(TARGET, response("200 OK")) as (uploads, requests):
        with pytest.raises(UploadMismatch, match="sha256"):
            await uploads.store(
                UPLOAD,
                pieces(),
                Scope(ACCOUNT),
                size=3,
                sha256=sha256,
                bytes_max=10,
                progress=lambda _: None,
            )
    assert not any(request.endswith(b"abc") for request in requests)


async def test_a_long_retry_after_is_the_callers_to_wait() -> None:
    """A read that fal puts off for minutes ends at once with that delay, not with a held call."""
    later = response("429 Too Many Requests", b"{}", Retry_After="600")
    async with fal(later) as (client, _):
        deadline = asyncio.get_running_loop().time() + 3_600
        with pytest.raises(FalError) as caught:
            async with asyncio.timeout(10):
                await client.status(REF, Scope(ACCOUNT, deadline=deadline))
    assert caught.value.answer is not None
    assert caught.value.answer.retry_after_seconds == 600

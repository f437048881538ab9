"""Event streams that are odd or fall silent: what arrives, what the status says, and what the log notes."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from tests.conftest import Running, running_gateway
from tests.failures import Failure, messages_and_failure, unpacked
from tests.faults.test_cut_streams import HEAD
from tests.processes.channels import own_channel
from tests.service.test_stream_calls import stream, workflow
from tests.unit.test_transport import Behaviour, Connection, answer, serving

from falrpc import v1

A = '{"type":"completion","node_id":"a","output":{"n":1}}'
B = '{"type":"completion","node_id":"b","output":{"n":2}}'
OUTPUT = '{"type":"output","output":{"n":3}}'
LONG = 60  # seconds, beyond every limit here


def chunked(*parts: bytes, is_whole: bool = True) -> bytes:
    """An event stream of these parts in chunks; without the last chunk its end is a cut."""
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunks + (b"0\r\n\r\n" if is_whole else b"")


def event(data: str) -> bytes:
    return f"data: {data}\n\n".encode()


@contextlib.asynccontextmanager
async def gateway_to(behaviour: Behaviour, **settings: Any) -> AsyncIterator[Running]:
    """A gateway whose upstream does that with each connection."""
    async with serving(behaviour) as fal, running_gateway(emulator_url=fal.url, **settings) as gateway:
        yield gateway


def streamed(gateway: Running) -> Any:
    return gateway.stub.Stream(stream("a/b"), timeout=LONG)


def streamed_workflow(gateway: Running) -> Any:
    return gateway.stub.StreamWorkflow(workflow("workflows/a/b"), timeout=LONG)


async def test_a_cut_before_the_blank_line() -> None:
    """The line that came whole before the connection broke is delivered, and counts: here step b finished."""
    wire = chunked(event(A), f"data: {B}\nda".encode(), is_whole=False)
    async with gateway_to(answer(wire)) as gateway:
        messages, failed = await messages_and_failure(streamed_workflow(gateway))
    assert [one.completion.node_id for one in messages[1:]] == ["a", "b"]
    assert (failed.info.reason, failed.info.metadata["finished_nodes"]) == ("STREAM_TRUNCATED", "a,b")


async def test_a_cut_inside_an_event_of_several_lines() -> None:
    """Whole lines that are no whole JSON are not delivered, and the end is called a cut, not bad JSON."""
    wire = chunked(event("1"), b'data: {\ndata: "n":1\n', is_whole=False)
    async with gateway_to(answer(wire)) as gateway:
        messages, failed = await messages_and_failure(streamed(gateway))
    assert [one.event.json for one in messages[1:]] == ["1"]
    assert failed.info.reason == "STREAM_TRUNCATED"


@pytest.mark.parametrize("data", ['{"n":1}', OUTPUT], ids=["stream", "workflow"])
@pytest.mark.parametrize("end", ["", "\n"], ids=["in the line", "before the blank line"])
async def test_a_missing_blank_line_is_noted(data: str, end: str) -> None:
    """A last event that only its bytes prove whole is delivered, and the log notes what was missing."""
    async with gateway_to(answer(chunked(f"data: {data}{end}".encode()))) as gateway:
        call = streamed_workflow(gateway) if data == OUTPUT else streamed(gateway)
        assert len([one async for one in call]) == 2
        [line] = gateway.logged("fal.noticed")
        assert (line["what"], line["value"]) == (
            "unfinished_event",
            "workflows/a/b" if data == OUTPUT else "a/b",
        )


async def test_nothing_is_noted_of_a_whole_stream() -> None:
    """A stream that ends with a blank line gives no such line."""
    async with gateway_to(answer(chunked(event('{"n":1}'), b": bye\n"))) as gateway:
        assert len([one async for one in streamed(gateway)]) == 2
        assert gateway.logged("fal.noticed") == []


async def test_blank_events_and_bytes_that_nobody_reads() -> None:
    """An event of white space is none, and invalid UTF-8 outside data harms nothing."""
    wire = chunked(b"data:\ndata:\n\n", b": caf\xe9\nevent: \xe9\n\n", event('{"n":1}'), b"data:   \n\n")
    async with gateway_to(answer(wire)) as gateway:
        assert [one.event.json async for one in streamed(gateway)][1:] == ['{"n":1}']


async def test_comments_only() -> None:
    """A stream of nothing but comments ended before its result."""
    async with gateway_to(answer(chunked(*[b": beat\n\n"] * 100))) as gateway:
        messages, failed = await messages_and_failure(streamed(gateway))
    assert [one.WhichOneof("kind") for one in messages] == ["started"]
    assert (failed.code, failed.info.reason) == ("UNKNOWN", "STREAM_TRUNCATED")


@pytest.mark.parametrize(
    ("wire", "reason", "delivery"),
    [
        pytest.param(b"", "OUTCOME_UNKNOWN", "UNKNOWN", id="before the answer"),
        pytest.param(chunked(event(A), is_whole=False), "STREAM_TRUNCATED", "ACCEPTED", id="in the stream"),
    ],
)
async def test_silence(wire: bytes, reason: str, delivery: str) -> None:
    """fal's silence past FALRPC_STREAM_IDLE_SECONDS ends the call, long before its deadline."""
    started = time.monotonic()
    async with gateway_to(answer(wire, hold=True), stream_idle_seconds=0.5) as gateway:
        _, failed = await messages_and_failure(streamed_workflow(gateway))
    assert (failed.code, failed.info.reason, failed.delivery) == ("UNKNOWN", reason, delivery)
    assert 0.5 <= time.monotonic() - started < LONG / 2


async def test_comments_are_no_silence() -> None:
    """A stream whose comments come often enough lives longer than the limit of its silence."""

    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.write(HEAD + b"connection: close\r\n\r\n")
        for _ in range(15):
            await asyncio.sleep(0.2)
            await connection.write(b": beat\n")
        await connection.write(event('{"n":1,"partial":false}'))

    async with gateway_to(behave, stream_idle_seconds=2.0) as gateway:
        assert len([one async for one in streamed(gateway)]) == 2


async def test_an_answer_of_nothing() -> None:
    """An empty 200 of no type where a stream was asked ended before its result."""
    async with gateway_to(answer(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")) as gateway:
        for call in (streamed(gateway), streamed_workflow(gateway)):
            messages, failed = await messages_and_failure(call)
            assert [one.WhichOneof("kind") for one in messages] == ["started"]
            assert (failed.code, failed.info.reason) == ("UNKNOWN", "STREAM_TRUNCATED")


async def test_a_page_where_a_stream_was_asked() -> None:
    """An answer of another type is delivered whole as the one event, for workflows as the output."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n"
    async with gateway_to(answer(head + b"<html>")) as gateway:
        [_, got] = [one async for one in streamed(gateway)]
        assert (got.event.binary.content_type, got.event.binary.data) == ("text/html", b"<html>")
        [_, got] = [one async for one in streamed_workflow(gateway)]
        assert got.output.output.binary.data == b"<html>"


async def test_a_refusal_that_calls_itself_a_stream() -> None:
    """An error status is an error answer, whatever its type: its body is read and decides the status."""
    body = b'{"detail":[{"loc":["body","n"],"msg":"too many","type":"less_than"}]}'
    head = HEAD.replace(b"200 OK", b"422 X") + b"content-length: %d\r\n\r\n" % len(body)
    async with gateway_to(answer(head + body)) as gateway:
        messages, failed = await messages_and_failure(streamed(gateway))
    assert messages == []
    assert (failed.code, failed.info.reason, failed.fields) == ("INVALID_ARGUMENT", "LESS_THAN", ["input.n"])
    assert failed.info.metadata["http_status"] == "422"


async def test_a_step_that_fails_without_a_status() -> None:
    """All of what fal says of a step's failure arrives, and no HTTP status that it did not say."""
    wire = chunked(event('{"type":"error","node_id":"n","error":{"detail":"Out of memory"}}'))
    async with gateway_to(answer(wire)) as gateway:
        messages, failed = await messages_and_failure(streamed_workflow(gateway))
    assert messages[-1].error == v1.WorkflowError(node_id="n", body_json='{"detail":"Out of memory"}')
    assert (failed.code, failed.info.reason, failed.message) == ("UNKNOWN", "STREAM_ERROR", "Out of memory")
    assert (failed.info.metadata["node_id"], failed.delivery) == ("n", "FAILED")
    assert "http_status" not in failed.info.metadata


def two_steps_and(then: bytes) -> Behaviour:
    """Two steps finish; what follows comes for as long as it is read."""

    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.write(HEAD + b"connection: close\r\n\r\n" + event(A) + event(B))
        while then:
            await connection.write(then)
        await connection.until_closed()

    return behave


def told_of_both(failed: Failure, reason: str) -> None:
    assert (failed.info.reason, failed.delivery) == (reason, "ACCEPTED")
    assert failed.info.metadata["finished_nodes"] == "a,b"


async def test_the_servers_deadline_names_who_finished() -> None:
    """A workflow that this server's own limit ends tells which steps had finished."""
    async with gateway_to(two_steps_and(b""), deadline_seconds_max=1.0) as gateway:
        _, failed = await messages_and_failure(streamed_workflow(gateway))
        told_of_both(failed, "CALL_DEADLINE_EXCEEDED")


async def test_a_drain_names_who_finished() -> None:
    """A workflow that the server's shutdown ends tells which steps had finished."""
    async with gateway_to(two_steps_and(b""), drain_seconds=0.2) as gateway:
        call = streamed_workflow(gateway)
        for _ in range(3):
            await call.read()
        draining = asyncio.create_task(gateway.gateway.drain())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        told_of_both(unpacked(caught.value), "SERVER_DRAINING")
        await draining


async def test_a_stalled_reader_is_told_who_finished() -> None:
    """A workflow that ends because nobody read it tells which steps had finished."""
    large = event('{"type":"progress","text":"' + "x" * 100_000 + '"}')
    async with (
        gateway_to(two_steps_and(large), stall_seconds=0.5) as gateway,
        own_channel(gateway.address) as channel,
    ):
        call = v1.FalServiceStub(channel).StreamWorkflow(workflow("workflows/a/b"), timeout=LONG)
        await call.read()
        await gateway.finished()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while (await call.read()) is not grpc.aio.EOF:
                pass
        told_of_both(unpacked(caught.value), "READER_STALLED")

"""What scenarios do to the body of an answer: each a function from pieces to pieces.

The pieces of an event stream are whole events and comments, as models make them.
"""

import asyncio
from collections.abc import AsyncIterator

from falrpc_server.emulator import scenarios
from falrpc_server.emulator.answers import Answer, CutHere
from falrpc_server.emulator.failures import FAILURES, edge_page

__all__ = ["huge_body", "instead", "spoil"]

Pieces = AsyncIterator[bytes]

PIECE_BYTES = 64 * 1024


def instead(scenario: scenarios.Scenario | None) -> Answer | None:
    """The answer that a scenario puts in the place of the real one, None when there is none."""
    match scenario:
        case scenarios.Instead():
            given = {name.lower(): value for name, value in scenario.headers.items()}
            headers = {"content-type": "application/json", **given}
            return Answer(scenario.status, scenario.whole_body(), headers)
        case scenarios.Fail():
            failure = FAILURES[scenario.kind]
            wait = {} if scenario.retry_after is None else {"retry-after": scenario.retry_after}
            return Answer(failure.status, failure.body, {**failure.headers, **wait})
        case scenarios.EdgePage():
            return edge_page(scenario.status)
    return None


def spoil(pieces: Pieces, scenario: scenarios.Scenario | None) -> Pieces:
    """The pieces as the scenario wants them."""
    match scenario:
        case scenarios.CutBody():
            return _cut(pieces, scenario.after_bytes, scenario.resets)
        case scenarios.SlowBody():
            return _slow(pieces, scenario.chunk_bytes, scenario.seconds)
        case scenarios.CutEvent():
            return _cut_event(pieces, scenario.after_events, scenario.resets)
        case scenarios.TruncateLastEvent():
            return _without_last_blank_line(pieces)
        case scenarios.RepeatEvents():
            return _repeated(pieces, scenario.copies)
        case scenarios.Stall():
            return _stalling(pieces, scenario.after_events)
        case scenarios.NoKeepalives():
            return _without_comments(pieces)
    return pieces


async def huge_body(size: int) -> Pieces:
    """A JSON object of so many bytes."""
    head, tail = b'{"blob":"', b'"}'
    yield head
    for start in range(0, left := size - len(head) - len(tail), PIECE_BYTES):
        yield b"x" * min(PIECE_BYTES, left - start)
        await asyncio.sleep(0)  # to others, and to the news that the client has left
    yield tail


async def _cut(pieces: Pieces, after_bytes: int, resets: bool) -> Pieces:
    async for piece in pieces:
        if len(piece) >= after_bytes:
            yield piece[:after_bytes]
            raise CutHere(resets=resets)
        after_bytes -= len(piece)
        yield piece
    raise CutHere(resets=resets)


async def _slow(pieces: Pieces, chunk_bytes: int, seconds: float) -> Pieces:
    is_first = True
    async for piece in pieces:
        for start in range(0, len(piece), chunk_bytes):
            if not is_first:
                await asyncio.sleep(seconds)
            is_first = False
            yield piece[start : start + chunk_bytes]


async def _cut_event(pieces: Pieces, after_events: int, resets: bool) -> Pieces:
    async for piece in pieces:
        if not _is_comment(piece):
            if after_events == 0:
                yield piece[: len(piece) // 2]
                raise CutHere(resets=resets)
            after_events -= 1
        yield piece
    raise CutHere(resets=resets)


async def _without_last_blank_line(pieces: Pieces) -> Pieces:
    held = None
    async for piece in pieces:
        if held is not None:
            yield held
        held = piece
    if held is not None:
        yield held.removesuffix(b"\n")


async def _repeated(pieces: Pieces, copies: int) -> Pieces:
    async for piece in pieces:
        for _ in range(1 if _is_comment(piece) else copies):
            yield piece


async def _stalling(pieces: Pieces, after_events: int) -> Pieces:
    if after_events > 0:
        async for piece in pieces:
            yield piece
            after_events -= not _is_comment(piece)
            if after_events == 0:
                break
    await asyncio.Event().wait()


async def _without_comments(pieces: Pieces) -> Pieces:
    async for piece in pieces:
        if not _is_comment(piece):
            yield piece


def _is_comment(piece: bytes) -> bool:
    return piece.startswith(b":")

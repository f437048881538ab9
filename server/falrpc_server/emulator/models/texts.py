"""A model that writes text, as a whole or a few words at a time."""

from collections.abc import AsyncIterator
from typing import Any

from falrpc_server.emulator.answers import dump, sse
from falrpc_server.emulator.models.inputs import Field
from falrpc_server.emulator.models.work import Work

__all__ = ["PROMPT", "talk", "talk_in_pieces"]

PROMPT = (Field("prompt", "string", required=True),)
WORDS_PER_EVENT = 3


async def talk(work: Work) -> dict[str, Any]:
    """The whole text: the output as a value."""
    await work.sleep(work.seconds)
    return {"output": _reply(work), "partial": False, "error": None}


async def talk_in_pieces(work: Work) -> AsyncIterator[bytes]:
    """Cumulative text, as fal's text models stream (§8.2)."""
    words = _reply(work).split(" ")
    pause = work.seconds * WORDS_PER_EVENT / len(words)
    for end in range(WORDS_PER_EVENT, len(words), WORDS_PER_EVENT):
        yield sse(dump({"output": " ".join(words[:end]), "partial": True, "error": None}))
        await work.sleep(pause)
    yield sse(dump({"output": " ".join(words), "partial": False, "error": None}))


def _reply(work: Work) -> str:
    return f"You asked: {work.input.get('prompt')} — here is an answer that comes a few words at a time."

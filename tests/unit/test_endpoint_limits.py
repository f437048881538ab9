"""How many requests may be in flight for an endpoint."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from falrpc_server.fal_http.endpoint_limits import EndpointLimits, LimitReached
from falrpc_server.fal_http.endpoint_patterns import matching

PATTERNS = {"fal-ai": 9, "fal-ai/flux": 2, "fal-ai/flux/dev": 1, "workflows/me/one": 1}


@pytest.mark.parametrize(
    ("endpoint_id", "pattern"),
    [
        ("fal-ai/flux", "fal-ai/flux"),
        ("fal-ai/flux/schnell", "fal-ai/flux"),
        ("fal-ai/flux/dev", "fal-ai/flux/dev"),
        ("fal-ai/flux/dev/image-to-image", "fal-ai/flux/dev"),
        ("fal-ai/flux-pro", "fal-ai"),
        ("fal-aix/flux", None),
        ("workflows/me/one", "workflows/me/one"),
        ("workflows/me", None),
        ("someone/model", None),
    ],
)
def test_the_pattern_of_an_endpoint(endpoint_id: str, pattern: str | None) -> None:
    """The longest pattern that is a beginning in whole parts counts."""
    assert matching(endpoint_id, PATTERNS) == pattern


async def test_places_are_shared_and_given_back() -> None:
    """The endpoints under a pattern share its places; one that ends makes room, also when it fails."""
    limits = EndpointLimits(PATTERNS, wait_seconds=0.01)
    async with AsyncExitStack() as held:
        await held.enter_async_context(limits.place("fal-ai/flux"))
        await held.enter_async_context(limits.place("fal-ai/flux/schnell"))
        with pytest.raises(LimitReached, match="fal-ai/flux"):
            await held.enter_async_context(limits.place("fal-ai/flux"))
        async with limits.place("fal-ai/flux/dev"), limits.place("someone/model"):
            pass
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            async with limits.place("fal-ai/flux"), limits.place("fal-ai/flux"):
                raise ZeroDivisionError


async def test_waiting_for_a_place() -> None:
    """Who waits gets the place that becomes free; who leaves while waiting takes none along."""
    limits = EndpointLimits({"a/b": 1}, wait_seconds=30.0)

    async def use() -> None:
        async with limits.place("a/b"):
            pass

    async with limits.place("a/b"):
        patient, gone = asyncio.create_task(use()), asyncio.create_task(use())
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.wait({gone})
        assert not patient.done()
    await patient
    await use()

"""An answer without end is read no further than the largest one that is allowed."""

import asyncio

import pytest
from tests.conftest import Fal, running_gateway
from tests.failures import failure_of
from tests.service.test_run import WAIT_SECONDS_MAX, run

LIMIT = 1_000_000  # bytes
ENDLESS = 100_000_000_000


@pytest.mark.parametrize("status", [200, 500])
async def test_an_endless_body(emulator_url: str, fal: Fal, status: int) -> None:
    """A body without end is cut at the limit, and fal sees that nobody listens."""
    async with running_gateway(emulator_url=emulator_url, output_bytes_max=LIMIT) as gateway:
        fal.will("huge_answer", operation="run", bytes=ENDLESS, status=status)
        failed = await failure_of(gateway.stub.Run(run("emulator/echo"), timeout=60))
        if status == 200:
            assert (failed.code, failed.info.reason, failed.delivery) == (
                "UNKNOWN",
                "OUTPUT_TOO_LARGE",
                "ACCEPTED",
            )
        else:
            assert failed.info.metadata["http_status"] == "500"
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while (await fal.seen(operation="run"))[0]["outcome"] != "client_closed":
            await asyncio.sleep(0.01)

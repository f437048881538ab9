"""Inputs and outputs that are allowed by their sizes: how deep they may be, and that they arrive."""

import pytest
from tests.conftest import Fal, Running
from tests.faults.each_call import failure_of_any
from tests.security.each_method import nothing_came
from tests.security.guarded import guarded_gateway
from tests.service.test_run import run

from falrpc_server.config import ConfigError, Settings


@pytest.mark.parametrize("beginning", ["[", '{"a":', '[{"a":'])
async def test_depths(gateway: Running, fal: Fal, beginning: str) -> None:
    """An input that is nested without end is refused; the server lives, and one of some depth passes."""

    def nested(levels: int) -> str:
        ending = "".join({"[": "]", "{": "}"}[one] for one in reversed(beginning) if one in "[{")
        return '{"a":' + beginning * levels + "1" + ending * levels + "}"

    for levels in (4_000, 1_000_000):
        failed = await failure_of_any(gateway.stub.Run(run("emulator/echo", nested(levels)), timeout=60))
        assert (failed.code, failed.fields) == ("INVALID_ARGUMENT", ["input.json"])
    nothing_came(fal)
    for levels in (64, 200):
        answer = await gateway.stub.Run(run("emulator/echo", nested(levels)), timeout=60)
        assert answer.output.json == nested(levels)


@pytest.mark.parametrize("headers", [{}, {"x-fal-served-from": "x" * 16_000}], ids=["usual", "long headers"])
async def test_the_largest_output_fits_its_message(
    emulator_url: str, fal: Fal, headers: dict[str, str]
) -> None:
    """An output that is allowed reaches its caller: what is paid for is not lost to the limit of messages."""
    limits = {"output_bytes_max": 100_000, "send_bytes_max": 100_000 + 65_536}
    async with guarded_gateway(emulator_url, **limits) as gateway:
        for size in (99_999, 100_000):
            body = '"' + "x" * (size - 2) + '"'
            fal.will("answer", operation="run", status=200, body=body, headers=headers)
            response = await gateway.stub.Run(run("emulator/echo"), timeout=60)
            assert len(response.output.json) == size
    for more in (-1, -65_536, 1 - 65_536):
        with pytest.raises(ConfigError, match="FALRPC_OUTPUT_BYTES_MAX: must be less than"):
            Settings(**{**limits, "send_bytes_max": limits["send_bytes_max"] + more}, fal_key="a:b")

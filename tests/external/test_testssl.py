"""testssl.sh: which protocols, ciphers and old holes a TLS listener has."""

import asyncio
import json
from asyncio.subprocess import DEVNULL
from pathlib import Path

import pytest
from tests.external.frozen import assert_frozen
from tests.external.tools import find_testssl
from tests.processes.gateway import served
from tests.security.guarded import Files

PARTS = (
    ("-p", "-s", "-f", "-P"),  # protocols, ciphers
    # Old holes that are not a matter of ciphers that the first part would name, nor of HTTP.
    ("-H", "-I", "-C", "-O", "-Z", "-W", "-F", "-J", "-D", "-A"),
    ("-BB", "-R"),
)
"""What is looked for, side by side."""
ABOUT_ITSELF = ("engine_problem", "service", "pre_128cipher", "scanTime")
BAD = ("LOW", "MEDIUM", "HIGH", "CRITICAL")
SECONDS_MAX = 400  # fetching it included


@pytest.mark.timeout(SECONDS_MAX)
async def test_testssl(emulator_url: str, tmp_path: Path) -> None:
    """TLS 1.2 and 1.3 with forward secrecy and authenticated ciphers only, and none of the holes that have a name.

    What it minds, that clients choose among these ciphers, is how grpc is made: they are all good.
    """
    program, environment = await asyncio.to_thread(find_testssl)
    with served(emulator_url, **Files(tmp_path).tls()) as gateway:

        async def checked(number: int, part: tuple[str, ...]) -> list[str]:
            report = tmp_path / f"{number}.json"
            fixed = ("--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", "--jsonfile", report)
            command = ("nice", "-n", "10", program, *fixed, *part, gateway.address)
            process = await asyncio.create_subprocess_exec(
                *command, env=environment, cwd=tmp_path, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL
            )
            await process.wait()
            return [
                f"{one['id']} {one['severity']}: {' '.join(one['finding'].split())}"
                for one in json.loads(report.read_text())
                if one["id"] not in ABOUT_ITSELF and one["id"] != "cipher_order_"
            ]

        told = await asyncio.gather(*(checked(number, part) for number, part in enumerate(PARTS)))
    findings = [finding for part in told for finding in part]
    assert [one.split()[0] for one in findings if one.split()[1].strip(":") in BAD] == ["cipher_order"]
    assert_frozen("testssl.txt", findings)

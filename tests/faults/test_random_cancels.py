"""Calls of all kinds that their clients cancel at random moments, over real sockets."""

import json
import os
import secrets
import subprocess
import sys

import pytest
from tests.conftest import Fal

CANCELS = 2_500
SECONDS_MAX = 110


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_cancelled_at_random_moments(emulator_url: str, fal: Fal, loop: str) -> None:
    """2,500 cancels leave no task, connection or file behind, no paid body is sent twice, all ids are logged."""
    seed = secrets.randbelow(1_000_000)
    command = [
        sys.executable,
        "-m",
        "tests.faults.random_cancels",
        loop,
        str(CANCELS),
        str(seed),
        emulator_url,
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS_MAX
    )
    assert ran.returncode == 0, f"seed {seed}:\n{ran.stderr}"
    report = json.loads(ran.stdout.splitlines()[-1])
    assert report["cancels"] == CANCELS
    assert report["codes"]["CANCELLED"] >= CANCELS / 4, f"seed {seed}: few met a call at work: {report}"
    print(seed, report)

"""The search for secrets finds what it is for: tests of a suite of its own, in which some get out."""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.canary import MARK, SECRETS
from tests.conftest import KEY
from tests.security.guarded import OWNERSHIP_KEY

SUITE = """
import asyncio, logging, pytest, sys
from tests import canary
from tests.conftest import KEY, Fal, Running
from tests.failures import failure_of
from tests.service.test_run import run

async def test_log(gateway: Running) -> None:
    gateway.gateway._log.info("x", value=f"before {KEY} behind")

async def test_status(gateway: Running, fal: Fal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("falrpc_server.interceptors.ending.interruptions.of_internal_error", telling)
    monkeypatch.setattr("falrpc_server.fal_http.client.FalClient.run", None)
    await failure_of(gateway.stub.Run(run("emulator/echo")))

def telling(*_):
    from falrpc_server.translate.verdicts import Verdict
    return Verdict(13, f"a {canary.MARK} token", "INTERNAL_ERROR")

def test_output() -> None:
    print(f"a {canary.MARK} token")

def test_error_output() -> None:
    sys.stderr.write(KEY)

def test_logging() -> None:
    logging.getLogger("x").warning("an %s", "an-ownership-key-of-forty-characters-000")

def test_planted() -> None:
    print("so", canary.plant("another-secret"))

async def test_nothing(gateway: Running, fal: Fal, tmp_path) -> None:
    (tmp_path / "server.key").write_text(KEY)
    print("nothing", "test-id")

@pytest.mark.spills
def test_on_purpose() -> None:
    print(KEY)

def test_file(tmp_path) -> None:
    (tmp_path / "out.log").write_bytes(b"\\\\xff" + KEY.encode())

def test_last() -> None:
    pass
"""
LEAKING = {"log", "status", "output", "error_output", "logging", "planted", "last"}


CONFTEST = """
from tests.conftest import Fal, emulator_url, fal, gateway, no_settings_from_outside, pytest_configure
"""


def test_what_it_finds() -> None:
    """In each of pytest's processes whatever has a secret fails: a log, a status, what is printed, and, with the
    last test, a file. What has none passes, and so do the settings that tests write."""
    root = Path(__file__).parents[2]
    with tempfile.TemporaryDirectory() as directory:  # not one that is itself searched
        suite = Path(directory) / "suite"
        suite.mkdir()
        (suite / "conftest.py").write_text(CONFTEST)
        (suite / "test_suite.py").write_text(SUITE)
        command = [sys.executable, "-m", "pytest", "-q", "-rA", "-c", str(root / "pyproject.toml")]
        command += [
            f"--rootdir={root}",
            "--numprocesses=1",
            f"--basetemp={directory}/base",
            str(suite),
        ]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=100)
    told = [line for line in done.stdout.splitlines() if line.startswith(("ERROR", "FAILED"))]
    assert {line.partition("::test_")[2].split(" ")[0] for line in told} == LEAKING, done.stdout[-5_000:]
    assert "out.log has 'test-secret-1f0c'" in done.stdout
    assert "server.key has" not in done.stdout


def test_what_is_searched_for() -> None:
    """The secret half of the key that all gateways have is among the canaries, and so are the others' marks."""
    assert {KEY.partition(":")[2], MARK} <= SECRETS
    assert any(OWNERSHIP_KEY.startswith(secret) for secret in SECRETS)

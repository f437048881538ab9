"""fal's JavaScript client on Node.js: each file of tests in node/ is one test here."""

import os
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
from tests.emulator.running import Emulator

FOLDER = Path(__file__).parent / "node"
FILES = sorted(path.name for path in FOLDER.glob("*.test.mjs"))
NODE_MAJOR_MIN = 20
NODE_TEST_SECONDS_MAX = 60
FILE_SECONDS_MAX = 120
INSTALL_SECONDS_MAX = 120


@pytest.fixture(scope="session")
def node() -> str:
    """The command for Node.js, with the pinned packages in place."""
    command, npm = shutil.which("node"), shutil.which("npm")
    if command is None or npm is None or _major(command) < NODE_MAJOR_MIN:
        pytest.skip(f"node {NODE_MAJOR_MIN} or newer is needed, with npm")
    _install(npm)
    return command


@pytest.mark.timeout(FILE_SECONDS_MAX + INSTALL_SECONDS_MAX)
@pytest.mark.parametrize("name", FILES)
def test_node_file(name: str, node: str, emulator: Emulator, ca_certificate: Path) -> None:
    """The released JavaScript client does with the emulator what it does with fal."""
    command = [node, "--import", "./redirect.mjs", "--test", "--test-reporter=spec"]
    command += [f"--test-timeout={NODE_TEST_SECONDS_MAX * 1000}", name]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FAL", "NODE_"))}
    environment |= {
        "EMULATOR_URL": emulator.url,
        "TLS_PORT": str(httpx.URL(emulator.https_url).port),
        "NODE_EXTRA_CA_CERTS": str(ca_certificate),
    }
    ended = subprocess.run(
        command, cwd=FOLDER, env=environment, capture_output=True, text=True, timeout=FILE_SECONDS_MAX
    )
    if ended.returncode != 0:
        pytest.fail(f"{ended.stdout}\n{ended.stderr}", pytrace=False)
    # Node takes a file without tests for one test that passes, and names it like the file.
    assert f"{name} (" not in ended.stdout, ended.stdout


def test_every_area_has_a_file() -> None:
    """No file of tests was lost: without it its area would pass unseen."""
    areas = ["abort", "errors", "queue", "redirect", "retries", "run", "storage", "stream", "subscribe"]
    assert [f"{area}.test.mjs" for area in areas] == FILES


def _major(node: str) -> int:
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True, timeout=30)
    return int(version.stdout.strip().removeprefix("v").partition(".")[0])


def _install(npm: str) -> None:
    """Installs the locked packages, unless that was done since the lock changed. Fails with npm's words."""
    lock, installed = FOLDER / "package-lock.json", FOLDER / "node_modules" / ".package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return
    ended = subprocess.run(
        [npm, "ci", "--prefer-offline"],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS_MAX,
    )
    if ended.returncode != 0:
        pytest.fail(
            f"npm ci in {FOLDER} failed. It needs npm's registry, or its cache, once after the lock changed:\n"
            f"{ended.stdout}\n{ended.stderr}",
            pytrace=False,
        )

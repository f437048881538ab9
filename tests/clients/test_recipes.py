"""The command lines of docs/clients.md do what the document shows."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.clients.recipes import Recipe, learned, pattern_of, recipes
from tests.conftest import Fal, running_gateway

ROOT = Path(__file__).parents[2]
GRPCURL = "github.com/fullstorydev/grpcurl/cmd/grpcurl"
VERSION = "v1.9.4"
TOOLS = ROOT / f"build/client-tools/grpcurl-{VERSION}"
BUILD_SECONDS_MAX = 600
COMMAND_SECONDS_MAX = 60
PLACE = "localhost:50051"
RECIPES = recipes()


@pytest.fixture(scope="session")
def path() -> str:
    """A search path with grpcurl, which is built once, and buf."""
    if not (TOOLS / "grpcurl").exists():
        if shutil.which("go") is None:
            pytest.skip("go is missing: grpcurl can't be built")
        command = ["go", "install", f"{GRPCURL}@{VERSION}"]
        environment = {**os.environ, "GOBIN": str(TOOLS)}
        built = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=BUILD_SECONDS_MAX, check=False
        )
        if built.returncode:
            pytest.skip(f"grpcurl can't be built: {built.stderr[-1_000:]}")
    beside = Path(sys.executable).parent
    if not (beside / "buf").exists():
        pytest.skip("buf is missing: buf-bin has no wheel for this platform")
    return os.pathsep.join([str(TOOLS), str(beside), os.environ["PATH"]])


@pytest.fixture
async def addresses(emulator_url: str, fal: Fal) -> AsyncIterator[dict[bool, str]]:
    """Two gateways: with reflection, as on loopback by default, and without."""
    async with (
        running_gateway(emulator_url=emulator_url) as one,
        running_gateway(emulator_url=emulator_url, reflection="off") as other,
    ):
        yield {True: one.address, False: other.address}


def test_what_the_document_has() -> None:
    """Both tools, each kind of call, and both ways to know the contract are there."""
    commands = "\n".join(recipe.command for recipe in RECIPES)
    for part in ("grpcurl ", "buf curl ", "/Run", "/Submit", "/Status", "/Result", "/StreamWorkflow"):
        assert part in commands
    for part in (" list", " describe", "-proto ", "-protoset ", "--schema "):
        assert part in commands
    assert all(recipe.shown.strip() for recipe in RECIPES)
    assert {recipe.has_reflection for recipe in RECIPES} == {True, False}


@pytest.mark.timeout(BUILD_SECONDS_MAX + len(RECIPES) * COMMAND_SECONDS_MAX)
async def test_each_command(addresses: dict[bool, str], path: str) -> None:
    """Each command prints what the document shows; ids that it shows twice are the same twice."""
    known: dict[str, str] = {}
    for recipe in RECIPES:
        output = await run(recipe, known, addresses[recipe.has_reflection], path)
        found = pattern_of(recipe.shown, known).fullmatch(output.strip())
        assert found, f"{recipe.command}\nprinted\n{output}\ninstead of\n{recipe.shown}"
        known |= learned(recipe.shown, found)
    assert known


@pytest.mark.parametrize("change", ["left out", "changed", "added"])
def test_what_differs_is_seen(change: str) -> None:
    """The comparison knows an output that is not the one shown."""
    shown = '{\n  "id": "0cf46ab3-2c21-44a3-a3a6-a21905913cf7",\n  "a": [1, …],\n  "b": 2\n}\n'
    real = '{ "id": "11111111-2c21-44a3-a3a6-a21905913cf7", "a": [1, 5, 6], "b":  2 }'
    found = pattern_of(shown, {}).fullmatch(real)
    assert found
    known = learned(shown, found)
    assert known == {"0cf46ab3-2c21-44a3-a3a6-a21905913cf7": "11111111-2c21-44a3-a3a6-a21905913cf7"}
    assert pattern_of(shown, known).fullmatch(real)
    other = {
        "left out": real.replace(', "b":  2', ""),
        "changed": real.replace("11111111", "22222222"),
        "added": real + " more",
    }[change]
    assert pattern_of(shown, known).fullmatch(other) is None


async def run(recipe: Recipe, known: dict[str, str], address: str, path: str) -> str:
    """Runs a command with the addresses and ids of now. Returns all that it printed."""
    command = recipe.command.replace(PLACE, address)
    for shown, real in known.items():
        command = command.replace(shown, real)
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        command,
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(COMMAND_SECONDS_MAX):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return output.decode()

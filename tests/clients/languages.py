"""How the programs of each language are built and started."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["GO", "JAVA", "NODE", "PYTHON", "Language", "run"]

ROOT = Path(__file__).parents[2]
GENERATED, EXAMPLES, CLIENTS = ROOT / "generated", ROOT / "examples", ROOT / "tests/clients"
BUILT = ROOT / "build/clients"
COMMAND_SECONDS_MAX = 300
"""For a build that has to fetch everything."""
SECONDS_MAX = 4 * COMMAND_SECONDS_MAX
"""For a test that waits for the builds of its language."""


@dataclass(frozen=True)
class Language:
    """A language of callers: its toolchain, its programs."""

    name: str
    tools: Sequence[str]
    build: Callable[[], None]
    caller: Sequence[str | Path]
    example: Sequence[str | Path]
    snippet: Callable[[str, Path], Sequence[str | Path]]
    """Puts the lines of the README into a program that ends by printing the first image's URL. Takes the lines and
    a folder to write to; returns the command, to be run in the example's folder."""

    @property
    def caller_folder(self) -> Path:
        return CLIENTS / self.name / ("caller" if self.name == "java" else "")

    @property
    def example_folder(self) -> Path:
        return EXAMPLES / self.name

    def build_or_skip(self) -> None:
        """Builds the programs; skips the tests when a tool is missing."""
        missing = [tool for tool in self.tools if shutil.which(tool) is None]
        if missing:
            pytest.skip(f"{', '.join(missing)} is needed for the clients in {self.name}")
        self.build()


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    """Runs a command to its end. Returns what it printed; when it fails the test does, with its words."""
    ended = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS_MAX,
    )
    if ended.returncode != 0:
        words = " ".join(map(str, command))
        pytest.fail(f"{words} failed in {folder}:\n{ended.stdout}\n{ended.stderr}", pytrace=False)
    return ended.stdout


def _build_go() -> None:
    BUILT.mkdir(parents=True, exist_ok=True)
    run("go", "build", "-race", "-o", BUILT / "go-caller", ".", folder=CLIENTS / "go")
    run("go", "build", "-race", "-o", BUILT / "go-example", ".", folder=EXAMPLES / "go")


def _build_java() -> None:
    for path in (GENERATED / "java/target").glob("*.jar"):
        path.unlink()  # else those of an earlier build would count
    shutil.rmtree(GENERATED / "java/target/surefire-reports", ignore_errors=True)
    run("mvn", "-B", "-q", "verify", folder=CLIENTS / "java")


def _build_node() -> None:
    # npm copies the helper into the folders that depend on it, so they are installed anew when it changes.
    helper = [path for path in (GENERATED / "node").rglob("*") if "node_modules" not in path.parts]
    for folder in (GENERATED / "node", CLIENTS / "node", EXAMPLES / "node"):
        sources = [folder / "package-lock.json", *helper]
        installed = folder / "node_modules/.package-lock.json"
        if not installed.exists() or installed.stat().st_mtime < max(map(_changed, sources)):
            run("npm", "ci", "--prefer-offline", folder=folder)


def _changed(path: Path) -> float:
    return path.stat().st_mtime


def _build_nothing() -> None:
    pass


def _go_snippet(lines: str, folder: Path) -> Sequence[str | Path]:
    program = folder / "main.go"
    program.write_text(
        'package main\n\nimport (\n"context"\n"fmt"\n"time"\n'
        '"github.com/falrpc/falrpc/generated/go/falrpc"\n'
        'falrpcv1 "github.com/falrpc/falrpc/generated/go/falrpc/v1"\n)\n\nfunc main() {\n'
        "ctx, cancel := context.WithTimeout(context.Background(), time.Minute)\ndefer cancel()\n"
        f"{lines}\nif err != nil {{ panic(err) }}\nfmt.Println(output.Images[0].URL)\n}}\n"
    )
    return ["go", "run", "-race", program]  # what was built with it is in the cache


def _java_snippet(lines: str, folder: Path) -> Sequence[str | Path]:
    program = folder / "Snippet.java"
    program.write_text(
        "import io.github.falrpc.*;\nimport io.github.falrpc.v1.*;\nimport io.grpc.*;\n"
        "import io.github.falrpc.v1.FalServiceGrpc.FalServiceBlockingStub;\nimport java.math.BigInteger;\n"
        "import java.util.*;\nimport java.util.concurrent.TimeUnit;\n"
        "class Snippet {\npublic static void main(String[] arguments) {\n"
        f"{lines}\nSystem.out.println(output.images().get(0).url());\nchannel.shutdownNow();\n}}\n}}\n"
    )
    return ["java", "-cp", "target/classes:target/lib/*", program]


def _node_snippet(lines: str, folder: Path) -> Sequence[str | Path]:
    program = f"{lines}\nconsole.log(output.images[0].url);\nfal.close();"
    return ["node", "--input-type=module", "--eval", program]


def _python_snippet(lines: str, folder: Path) -> Sequence[str | Path]:
    return [sys.executable, "-c", f'{lines}\nprint(output["images"][0]["url"])']


GO = Language("go", ("go", "gcc"), _build_go, [BUILT / "go-caller"], [BUILT / "go-example"], _go_snippet)
_JAVA = ["java", "-cp", "target/classes:target/lib/*", "Main"]
JAVA = Language("java", ("java", "mvn"), _build_java, _JAVA, _JAVA, _java_snippet)
_NODE = ["node", "main.mjs"]
NODE = Language("node", ("node", "npm"), _build_node, _NODE, _NODE, _node_snippet)
_PYTHON = [sys.executable, "caller.py"], [sys.executable, "main.py"]
PYTHON = Language("python", (), _build_nothing, *_PYTHON, _python_snippet)

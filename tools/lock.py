"""Pins the dependencies of pyproject.toml: versions and hashes, no index addresses. Run it as `make lock`.

Four files: the service, the tools of tests and checks on top of it, what builds the wheel, and the
generators of the stubs, which are older than the service on purpose.
"""

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
HEADER = "# Pinned by `make lock`. Install with pip's --require-hashes.\n"


def main() -> None:
    """Writes all lock files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    runtime = project["project"]["dependencies"]
    build = project["build-system"]["requires"]  # for `pip install --no-deps --editable .`, offline too
    lock(runtime, ROOT / "requirements.lock")
    lock([*runtime, *groups["dev"], *build], ROOT / "tests/requirements.lock", within="requirements.lock")
    lock([*build, "build"], ROOT / ".ci/build-requirements.lock", within="tests/requirements.lock")
    lock(groups["gen"], ROOT / "protos/requirements.lock")


def lock(requirements: list[str], output: Path, within: str = "") -> None:
    """Resolves requirements and writes them to a file, keeping to what another file has pinned."""
    with tempfile.TemporaryDirectory() as directory:
        source, result = Path(directory, "requirements.in"), Path(directory, "requirements.txt")
        constraint = [f"-c {ROOT / within}"] if within else []
        source.write_text("\n".join([*requirements, *constraint]))
        options = ["--generate-hashes", "--allow-unsafe", "--strip-extras", "--quiet"]
        hidden = ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-trusted-host"]
        command = [sys.executable, "-m", "piptools", "compile", *options, *hidden, "--no-emit-find-links"]
        subprocess.run([*command, "--output-file", str(result), str(source)], check=True, cwd=directory)
        output.write_text(HEADER + result.read_text())


if __name__ == "__main__":
    main()

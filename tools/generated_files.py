"""Generated files: writes them, or says which are not current. Used by `make gen` and `make check`.

Stubs and what goes with them come from protos/ by the pinned generators in build/, docs/configuration.md from
Settings, docs/errors.md from the contract and the status table.
"""

import argparse
import filecmp
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from protos.generate import STUBS
from tools import errors_reference

from falrpc_server.config import reference

ROOT = Path(__file__).parent.parent
GENERATOR = ROOT / "build/gen-venv/bin/python"


@dataclass(frozen=True)
class Comparison:
    """What is present beside what would be generated now."""

    stale: list[str]
    """Files that differ, are missing, or that nothing generates any more."""
    unchecked: list[str]
    """Folders that were not generated, for want of a tool."""


def generate(root: Path) -> None:
    """Writes all generated files below a directory, laid out as in this repository."""
    subprocess.run([GENERATOR, ROOT / "protos/generate.py", root / "generated"], check=True)
    (root / "docs").mkdir(exist_ok=True)
    (root / "docs/configuration.md").write_text(reference.render())
    (root / "docs/errors.md").write_text(errors_reference.render())


def compare(tree: Path = ROOT) -> Comparison:
    """Generates anew into a temporary directory, and compares with what is in a tree like this one."""
    with tempfile.TemporaryDirectory() as directory:
        fresh = Path(directory)
        generate(fresh)
        folders = [Path("generated", stubs) for stubs in STUBS]
        unchecked = [folder for folder in folders if not (fresh / folder).exists()]
        wanted = _files(fresh, Path())
        present = {file for folder in folders if folder not in unchecked for file in _files(tree, folder)}
        differing = {
            path
            for path in wanted
            if not (tree / path).exists() or not filecmp.cmp(fresh / path, tree / path, shallow=False)
        }
        return Comparison(sorted(map(str, differing | (present - wanted))), sorted(map(str, unchecked)))


def _files(root: Path, folder: Path) -> set[Path]:
    return {
        path.relative_to(root)
        for path in (root / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--check", action="store_true")
    mode.add_argument("--write", action="store_true")
    parser.add_argument("--strict", action="store_true", help="what can't be checked fails, too")
    arguments = parser.parse_args()
    if arguments.write:
        generate(ROOT)
        return 0
    found = compare()
    for path in found.stale:
        print(f"{path} is not current: run make gen", file=sys.stderr)
    for path in found.unchecked:
        print(f"{path} was not checked: a tool is missing (see above)", file=sys.stderr)
    return 1 if found.stale or (arguments.strict and found.unchecked) else 0


if __name__ == "__main__":
    sys.exit(main())

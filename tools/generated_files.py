"""Generated files: writes them, or says which are not current. Used by `make gen` and `make check`.

Stubs come from protos/ by the pinned generators in build/gen-venv, docs/configuration.md from Settings,
docs/errors.md from the contract and the status table.
"""

import argparse
import filecmp
import subprocess
import sys
import tempfile
from pathlib import Path

from tools import errors_reference

from falrpc_server import config_reference

ROOT = Path(__file__).parent.parent
GENERATOR = ROOT / "build/gen-venv/bin/python"


def generate(root: Path) -> None:
    """Writes all generated files below a directory, laid out as in this repository."""
    subprocess.run([GENERATOR, ROOT / "protos/generate.py", root / "generated"], check=True)
    (root / "docs").mkdir(exist_ok=True)
    (root / "docs/configuration.md").write_text(config_reference.render())
    (root / "docs/errors.md").write_text(errors_reference.render())


def stale_files() -> list[str]:
    """Returns the generated files that differ from what would be generated now."""
    with tempfile.TemporaryDirectory() as directory:
        fresh = Path(directory)
        generate(fresh)
        wanted = {path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file()}
        present = {
            path.relative_to(ROOT)
            for path in (ROOT / "generated/python").rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        differing = [
            path
            for path in wanted
            if not (ROOT / path).exists() or not filecmp.cmp(fresh / path, ROOT / path, shallow=False)
        ]
        return sorted(str(path) for path in {*differing, *(present - wanted)})


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--check", action="store_true")
    mode.add_argument("--write", action="store_true")
    if parser.parse_args().write:
        generate(ROOT)
        return 0
    stale = stale_files()
    for path in stale:
        print(f"{path} is not current: run make gen", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())

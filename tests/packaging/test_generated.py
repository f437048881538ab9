"""Generated files are those that the contract and the settings give now."""

import subprocess
import sys
from pathlib import Path

import pytest
from tools import generated_files

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(
    not generated_files.GENERATOR.exists(), reason="build/gen-venv is missing: run it as `make test`"
)
def test_generated_files_are_current() -> None:
    """Generating anew leaves no difference, in the stubs as in the documentation."""
    assert generated_files.stale_files() == []


def test_the_stubs_import_without_warnings() -> None:
    """The stubs work under the pinned runtime, newer than the tool that made them, without a warning."""
    code = "from falrpc import v1; assert v1.FalServiceStub and len(v1.__all__) > 40"
    subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        check=True,
        env={"PYTHONPATH": str(ROOT / "generated/python")},
    )

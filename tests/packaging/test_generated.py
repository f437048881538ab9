"""Generated files are those that the contract and the settings give now."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from protos import generate
from tools import generated_files

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.timeout(600),  # the generators may have to be fetched
    pytest.mark.skipif(
        not generated_files.GENERATOR.exists(), reason="build/gen-venv is missing: run it as `make test`"
    ),
]


@pytest.fixture(scope="module")
def comparison() -> generated_files.Comparison:
    return generated_files.compare()


def test_generated_files_are_current(comparison: generated_files.Comparison) -> None:
    """Generating anew leaves no difference: in stubs, descriptors, service configs and documentation."""
    assert comparison.stale == []


def test_all_stubs_were_generated(comparison: generated_files.Comparison) -> None:
    """Nothing was left out for want of a tool."""
    if comparison.unchecked:
        pytest.skip(f"go and npm are needed to generate {', '.join(comparison.unchecked)}")


def test_a_change_is_noticed(comparison: generated_files.Comparison, tmp_path: Path) -> None:
    """A copy of the service config that differs, a stub that was edited, removed or left over is not current."""
    left_out = shutil.ignore_patterns("node_modules", "target")
    for folder in ("generated", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=left_out)
    configs = [f"generated/{helper}/service_config.json" for helper in generate.HELPERS]
    edited = ["generated/falrpc.binpb", "generated/python/falrpc/v1/queue_pb2.py", "docs/errors.md"]
    for path in (*configs, *edited):
        changed = tmp_path / path
        changed.write_bytes(changed.read_bytes() + b"\n")
    removed, left = "generated/python/falrpc/v1/payload_pb2.py", "generated/python/falrpc/v1/old_pb2.py"
    (tmp_path / removed).unlink()
    (tmp_path / left).write_text("")
    assert generated_files.compare(tmp_path).stale == sorted([*configs, *edited, removed, left])


def test_the_stubs_import_without_warnings() -> None:
    """The stubs work under the pinned runtime, newer than the tool that made them, without a warning."""
    code = "from falrpc import v1; assert v1.FalServiceStub and len(v1.__all__) > 40"
    subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        check=True,
        env={"PYTHONPATH": str(ROOT / "generated/python")},
    )

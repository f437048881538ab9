"""How much memory a process has and may have, read from the system's files."""

import mmap
from pathlib import Path

import pytest

from falrpc_server.memory import allowed_bytes, resident_bytes

GIB = 1024**3


def system(root: Path, groups: str, **limits: str) -> Path:
    """A file system of which a control group's files are a part."""
    files = {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{path}": text for path, text in limits.items()}}
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "limits", "allowed"),
    [
        pytest.param("0::/\n", {"memory.max": f"{GIB}\n"}, GIB * 9 // 10, id="v2, a container"),
        pytest.param("0::/\n", {"memory.max": "max\n"}, None, id="v2, unlimited"),
        pytest.param("0::/\n", {}, None, id="v2, the root has no file"),
        pytest.param(
            "0::/a/b\n",
            {"a/b/memory.max": "max\n", "a/memory.max": f"{GIB}\n"},
            GIB * 9 // 10,
            id="v2, a group above",
        ),
        pytest.param(
            "0::/a/b\n",
            {"a/b/memory.max": f"{GIB}", "a/memory.max": f"{4 * GIB}"},
            GIB * 9 // 10,
            id="v2, both",
        ),
        pytest.param(
            "5:cpu,memory:/docker/1f\n0::/\n",
            {"memory/memory.limit_in_bytes": f"{2 * GIB}\n"},
            2 * GIB * 9 // 10,
            id="v1, a path of the host's",
        ),
        pytest.param(
            "5:memory:/a\n",
            {"memory/a/memory.limit_in_bytes": "9223372036854771712\n"},
            None,
            id="v1, unlimited",
        ),
        pytest.param("5:cpuset:/a\n", {}, None, id="v1, no memory"),
    ],
)
def test_the_limit(tmp_path: Path, groups: str, limits: dict[str, str], allowed: int | None) -> None:
    """Nine tenths of the least limit of the group and those above it."""
    assert allowed_bytes(1, system(tmp_path, groups, **limits)) == allowed


def test_workers_share_it(tmp_path: Path) -> None:
    """Each of four workers may have a quarter."""
    assert allowed_bytes(4, system(tmp_path, "0::/\n", **{"memory.max": f"{4 * GIB}"})) == GIB * 9 // 10


def test_no_control_groups(tmp_path: Path) -> None:
    """Where there are none, there is no limit."""
    assert allowed_bytes(1, tmp_path) is None


def test_this_process() -> None:
    """The resident set grows with what is held."""
    before = resident_bytes()
    with mmap.mmap(-1, 64 * 1024 * 1024) as held:  # what Python has freed would not be asked for anew
        held.write(b"x" * len(held))
        assert resident_bytes() - before >= 0.9 * len(held)


def test_a_system_that_does_not_tell(tmp_path: Path) -> None:
    """Without the file nothing is known, and nothing refused."""
    assert resident_bytes(tmp_path / "statm") == 0

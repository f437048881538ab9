"""How much memory this process has, and how much it may have. Linux; elsewhere nothing is known."""

import contextlib
import os
from pathlib import Path, PurePosixPath

__all__ = ["allowed_bytes", "resident_bytes"]

SHARE = 0.9  # of a control group's limit
UNLIMITED_BYTES = 2**60  # cgroup v1 tells "no limit" as a number of pages that no machine has

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4_096


def resident_bytes(statm: Path = Path("/proc/self/statm")) -> int:
    """The resident set of this process; 0 where the system does not tell."""
    try:
        return int(statm.read_bytes().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return 0


def allowed_bytes(workers: int, root: Path = Path("/")) -> int | None:
    """Nine tenths of what the control group may have, for each of so many processes; None for no limit."""
    limit = _group_limit(root)
    return None if limit is None else int(limit * SHARE / workers)


def _group_limit(root: Path) -> int | None:
    """The least limit of the process's control group and those above it."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:
            limits += _limits(root / "sys/fs/cgroup", group, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _limits(root / "sys/fs/cgroup/memory", group, "memory.limit_in_bytes")
    return min(limits, default=None)


def _limits(mount: Path, group: str, name: str) -> list[int]:
    """Those of the group and of all above. Inside a container the group's path may be the host's: then only
    the mount itself, which is the container's group, has a file."""
    path = PurePosixPath(group.lstrip("/"))
    found = []
    for folder in (path, *path.parents):
        with contextlib.suppress(OSError, ValueError):  # the file says `max`, or there is none
            found.append(int((mount / folder / name).read_text()))
    return [limit for limit in found if limit < UNLIMITED_BYTES]

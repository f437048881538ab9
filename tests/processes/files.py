"""As many open files as a test needs."""

import resource

import pytest

__all__ = ["allow_open_files"]


def allow_open_files(count: int) -> None:
    """Allows this process, and those that it starts, so many open files. Skips the test where that can't be."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"{count} open files are needed, {hard} allowed (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

"""What the tests of this directory share."""

from pathlib import Path

import pytest
from tests.security.guarded import Files
from tests.security.permitting import guarded
from tests.security.two_tenants import shared

__all__ = ["files", "guarded", "shared"]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """The files that settings name."""
    return Files(tmp_path)

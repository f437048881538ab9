"""The load generator, built once."""

import pytest
from tests.overload.load import built


@pytest.fixture(scope="session")
def generator() -> None:
    """The generator is there."""
    built()

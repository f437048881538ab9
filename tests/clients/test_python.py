"""The client in Python. Its helper's own tests are in test_python_helper.py."""

import pytest
from tests.clients.conformance import ClientTests, RepeatTests
from tests.clients.examples import ExampleTests
from tests.clients.languages import PYTHON, SECONDS_MAX

LANGUAGE = PYTHON
pytestmark = pytest.mark.timeout(SECONDS_MAX)


class TestClient(ClientTests):
    """The scenarios and error cases."""


class TestRepeats(RepeatTests):
    """What is repeated."""


class TestExample(ExampleTests):
    """The example."""

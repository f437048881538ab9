"""The client in Node.js, and its helper's own tests."""

import re

import pytest
from tests.clients.conformance import ClientTests, RepeatTests
from tests.clients.examples import ExampleTests
from tests.clients.languages import GENERATED, NODE, SECONDS_MAX, Language, run

LANGUAGE = NODE
pytestmark = pytest.mark.timeout(SECONDS_MAX)


def test_the_helper(language: Language) -> None:
    """Its own tests pass, types included."""
    tested = run("node", "--test", "--test-reporter=tap", folder=GENERATED / "node")
    assert int(re.findall(r"^# pass (\d+)$", tested, re.MULTILINE)[0]) > 10, tested


class TestClient(ClientTests):
    """The scenarios and error cases."""


class TestRepeats(RepeatTests):
    """What is repeated."""


class TestExample(ExampleTests):
    """The example."""

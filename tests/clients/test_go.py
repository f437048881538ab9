"""The client in Go, and its helper's own tests."""

import pytest
from tests.clients.conformance import ClientTests, RepeatTests
from tests.clients.examples import ExampleTests
from tests.clients.languages import GENERATED, GO, SECONDS_MAX, Language, run

LANGUAGE = GO
pytestmark = pytest.mark.timeout(SECONDS_MAX)


def test_the_helper(language: Language) -> None:
    """Its own tests pass with the race detector, and vet finds nothing in any module."""
    tested = run("go", "test", "-race", "./...", folder=GENERATED / "go")
    assert "ok  \tgithub.com/falrpc/falrpc/generated/go/falrpc\t" in tested, tested
    for folder in (GENERATED / "go", language.caller_folder, language.example_folder):
        run("go", "vet", "./...", folder=folder)
        assert run("gofmt", "-l", ".", folder=folder) == ""


class TestClient(ClientTests):
    """The scenarios and error cases."""


class TestRepeats(RepeatTests):
    """What is repeated."""


class TestExample(ExampleTests):
    """The example."""

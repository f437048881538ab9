"""The client in Java, and its helper's own tests."""

import pytest
from tests.clients.conformance import ClientTests, RepeatTests
from tests.clients.examples import ExampleTests
from tests.clients.languages import GENERATED, JAVA, SECONDS_MAX, Language

LANGUAGE = JAVA
pytestmark = pytest.mark.timeout(SECONDS_MAX)


def test_the_helper(language: Language) -> None:
    """The build ran its tests, and made the jars that are published."""
    reports = (GENERATED / "java/target/surefire-reports").glob("*.txt")
    assert any("Tests run: " in report.read_text() for report in reports)
    jars = {jar.name for jar in (GENERATED / "java/target").glob("*.jar")}
    for kind in ("", "-sources", "-javadoc"):
        assert any(name.endswith(f"SNAPSHOT{kind}.jar") for name in jars), jars


class TestClient(ClientTests):
    """The scenarios and error cases."""


class TestRepeats(RepeatTests):
    """What is repeated."""


class TestExample(ExampleTests):
    """The example."""

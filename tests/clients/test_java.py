"""The client in Java, and its helper's own tests."""

import zipfile
from xml.etree import ElementTree

import pytest
from tests.clients.conformance import ClientTests, RepeatTests
from tests.clients.examples import ExampleTests
from tests.clients.languages import GENERATED, JAVA, ROOT, SECONDS_MAX, Language

LANGUAGE = JAVA
pytestmark = pytest.mark.timeout(SECONDS_MAX)


def test_the_helper(language: Language) -> None:
    """The build ran its tests, and made the jars that are published, with the licence in them."""
    built = GENERATED / "java/target"
    reports = [ElementTree.parse(path).getroot() for path in (built / "surefire-reports").glob("*.xml")]
    assert sum(int(report.attrib["tests"]) for report in reports) > 50
    assert all(report.attrib[kind] == "0" for report in reports for kind in ("failures", "errors", "skipped"))
    for kind in ("", "-sources", "-javadoc"):
        [jar] = built.glob(f"falrpc-grpc-*-SNAPSHOT{kind}.jar")
        if kind != "-javadoc":
            assert zipfile.ZipFile(jar).read("META-INF/LICENSE") == (ROOT / "LICENSE").read_bytes()


class TestClient(ClientTests):
    """The scenarios and error cases."""


class TestRepeats(RepeatTests):
    """What is repeated."""


class TestExample(ExampleTests):
    """The example."""

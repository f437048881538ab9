"""How often fal's Python client calls (§6.5), and where to when a host can't be reached (§1)."""

import fal_client
import httpx
import pytest
from tests.conformance.clients import Calling
from tests.conformance.redirect import Redirect
from tests.emulator.running import Emulator

ATTEMPTS = 10

pytestmark = pytest.mark.usefixtures("short_sleeps")


@pytest.mark.parametrize("act", ["close_after_body", "reset_after_body", "reset_before_body"])
def test_submits_without_an_answer(client: Calling, emulator: Emulator, act: str) -> None:
    """A submit that gets no answer arrives exactly ten times: the client replays what may have been accepted."""
    emulator.will(act, operation="submit", times=None)
    with pytest.raises(httpx.TransportError):
        client.submit("emulator/echo", {"a": 1})
    submits = emulator.ended(operation="submit")
    assert len(submits) == ATTEMPTS
    assert {record["outcome"] for record in submits} == {"cut"}
    assert {record["status"] for record in submits} == {None}
    if act != "reset_before_body":
        assert len({record["body_sha256"] for record in submits}) == 1


def test_a_submit_answered_at_last(client: Calling, emulator: Emulator) -> None:
    """The attempt that is answered ends the client's patience."""
    emulator.will("close_after_body", operation="submit", times=3)
    assert client.submit("emulator/echo", {"a": 1}).get(interval=0.01) == {"a": 1}
    outcomes = [record["outcome"] for record in emulator.ended(operation="submit")]
    assert outcomes == ["cut", "cut", "cut", "answered"]


@pytest.mark.parametrize("status", [502, 503, 504])
def test_edge_pages(client: Calling, emulator: Emulator, status: int) -> None:
    """A page of the edge is tried again ten times and then told as its text: it has no request id (§6.5)."""
    emulator.will("edge_page", operation="run", status=status, times=None)
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        client.run("emulator/echo", {})
    error = caught.value
    assert (error.status_code, error.error_type) == (status, None)
    assert error.message == error.response.text
    assert "nginx" in error.message
    assert error.response_headers["content-type"] == "text/html"
    assert "x-fal-request-id" not in error.response_headers
    assert len(emulator.ended(operation="run")) == ATTEMPTS


@pytest.mark.parametrize("kind", ["queue_too_long", "retry_after_in_body"])
def test_too_many_requests(client: Calling, emulator: Emulator, kind: str) -> None:
    """429 is tried again ten times (§6.5)."""
    emulator.will("fail", operation="submit", kind=kind, times=None)
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        client.submit("emulator/echo", {})
    assert caught.value.status_code == 429
    assert len(emulator.ended(operation="submit")) == ATTEMPTS


@pytest.mark.parametrize("kind", ["runner_disconnected", "runner_incomplete_response", "internal_error"])
def test_own_errors_of_fal(client: Calling, emulator: Emulator, kind: str) -> None:
    """An error of fal's own has a request id, by which the client knows not to try again (§6.5)."""
    emulator.will("fail", operation="run", kind=kind, times=None)
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        client.run("emulator/echo", {})
    assert "x-fal-request-id" in caught.value.response_headers
    assert len(emulator.ended(operation="run")) == 1


def test_backup_domains(client: Calling, emulator: Emulator, redirect: Redirect) -> None:
    """When fal's hosts can't be reached the client goes to the backup domains, which serve everything."""
    redirect.refuse(["fal.run", "queue.fal.run"])
    assert client.run("emulator/echo", {"a": 1}) == {"a": 1}
    assert list(client.stream("emulator/events", {"events": [{"a": 2}]})) == [{"a": 2}]
    handle = client.submit("emulator/echo", {"a": 3})
    assert handle.target == client.get_handle("emulator/echo", handle.request_id).target
    assert handle.get(interval=0.01) == {"a": 3}
    hosts = {record["operation"]: record["headers"]["host"] for record in emulator.ended()}
    assert hosts["run"] == hosts["stream"] == "falrun.com"
    assert hosts["submit"] == hosts["status"] == hosts["result"] == "queue.falrun.com"


def test_nothing_can_be_reached(client: Calling, emulator: Emulator, redirect: Redirect) -> None:
    """When the backup domain can't be reached either, the error is the first host's, and nothing arrived."""
    redirect.refuse(["fal.run", "falrun.com"])
    with pytest.raises(httpx.ConnectError):
        client.run("emulator/echo", {})
    assert emulator.ended() == []

"""The emulator's own endpoints: what they list, what they do, and what they refuse."""

import subprocess
import sys
import time

import msgspec
import pytest
from tests.emulator.running import Emulator, eventually, running_emulator

from falrpc_server.emulator.admin import ENDPOINTS
from falrpc_server.emulator.failures import FAILURES
from falrpc_server.emulator.models.registry import MODELS
from falrpc_server.emulator.routes import HOSTS, OPERATIONS
from falrpc_server.emulator.scenarios import ACTS

BODIES = {
    "POST /_emulator/scenarios": '[{"act":"hang","endpoint":"nobody/nothing"}]',
    "POST /_emulator/clock": '{"advance_seconds":0}',
}
PATHS = sorted({endpoint.split()[1] for endpoint in ENDPOINTS})
NO_TLS = "GET /_emulator/ca.pem"


def test_the_catalogue(emulator: Emulator) -> None:
    """The list has every model with its inputs, every act with its fields, all failures, operations, endpoints."""
    listed = emulator.http.get("/_emulator").json()
    assert listed["models"].keys() == MODELS.keys()
    for name, model in MODELS.items():
        assert listed["models"][name]["summary"] == model.summary
        assert list(listed["models"][name]["input"]) == [field.name for field in model.fields]
    assert listed["scenarios"].keys() == ACTS.keys()
    for act, cls in ACTS.items():
        shown = [*listed["scenarios"][act]["fields"], *listed["scenario fields"]]
        assert sorted(shown) == sorted(field.name for field in msgspec.structs.fields(cls))
        assert listed["scenarios"][act]["summary"].endswith(".")
    assert listed["failures"] == {name: failure.status for name, failure in FAILURES.items()}
    assert listed["operations"].keys() == {*OPERATIONS, "work"}
    assert listed["endpoints"] == ENDPOINTS


def test_the_list_on_the_command_line() -> None:
    """`--list` prints all names, and exits without serving."""
    command = [sys.executable, "-m", "falrpc_server", "emulator", "--list"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    lines = [line.split() for line in ran.stdout.splitlines()]
    names = {" ".join(line[:words]) for line in lines for words in (1, 2)}
    assert {*ACTS, *FAILURES, *MODELS, *ENDPOINTS, *OPERATIONS, "work"} - names == set()
    for cls in ACTS.values():
        assert [field.name for field in msgspec.structs.fields(cls) if field.name not in ran.stdout] == []
    for shown in ("string clean | cut | reset", "integer 200..599", "any, required"):
        assert shown in ran.stdout
    assert ran.stderr == ""


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("slash", ["", "/"])
def test_every_endpoint_answers(emulator: Emulator, endpoint: str, slash: str) -> None:
    """Each listed endpoint does something, with a trailing slash as well: GETs answer 200, others 204."""
    method, path = endpoint.split()
    answer = emulator.http.request(method, path + slash, content=BODIES.get(endpoint, ""))
    if endpoint == NO_TLS:
        assert (answer.status_code, answer.json()) == (404, {"detail": "There is no TLS without --tls-port"})
    elif method == "GET":
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert isinstance(answer.json(), dict | list)
    else:
        assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods(emulator: Emulator, method: str, path: str) -> None:
    """A method that an endpoint isn't listed with is 405."""
    if f"{method} {path}" not in ENDPOINTS:
        answer = emulator.http.request(method, path)
        assert (answer.status_code, answer.json()) == (405, {"detail": "Method Not Allowed"})


@pytest.mark.parametrize(
    "path", ["/_emulator/nothing", "/_emulator/health/x", "/_emulator//x", "/_emulator/%00"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_what_is_no_endpoint(emulator: Emulator, method: str, path: str) -> None:
    """An unknown path is 404 with all that there are."""
    answer = emulator.http.request(method, path)
    assert answer.status_code == 404
    assert [name for name in ENDPOINTS if name not in answer.json()["detail"]] == []


@pytest.mark.parametrize("host", [*HOSTS, "x"])
def test_nothing_stands_in_the_way(emulator: Emulator, host: str) -> None:
    """Its own endpoints need no key, are at every host, and neither meet scenarios nor leave records."""
    emulator.will("answer", times=None)
    headers = {"host": host, "authorization": "nonsense", "x-emulator-scenario": "nonsense"}
    assert emulator.http.get("/_emulator/health", headers=headers).status_code == 200
    assert emulator.evidence()["requests"] == []


def test_a_path_that_only_begins_alike(emulator: Emulator) -> None:
    """Only the path itself and what is below it are the emulator's."""
    assert emulator.http.get("/_emulatorx").json() == {"detail": "Not Found"}
    assert [record["path"] for record in emulator.ended()] == ["/_emulatorx"]


def test_health(emulator: Emulator) -> None:
    """Health tells what is open now, and that the emulator made no mistake."""

    def health() -> dict[str, int]:
        return dict(emulator.http.get("/_emulator/health").json())

    before = eventually(health, lambda seen: seen["open_requests"] == 0)
    assert before.keys() == {"status", "open_tasks", "open_requests", "open_connections", "internal_errors"}
    assert (before["status"], before["internal_errors"]) == ("ok", 0)
    with emulator.send("POST", "/run/emulator/sleep", b'{"seconds":60}'):
        during = eventually(health, lambda seen: seen["open_requests"] == 1)
        assert during["open_connections"] == before["open_connections"] + 1
        assert during["open_tasks"] > before["open_tasks"]
    eventually(health, lambda seen: seen["open_tasks"] <= before["open_tasks"])


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "1", "[]", "null", "{}", "\xff", "[" * 100_000),
        *(
            f'{{"advance_seconds":{value}}}'
            for value in ("-1", "-0.001", "1e10", "1" + "0" * 400, "NaN", "Infinity", "1e999", "true")
        ),
        *(f'{{"advance_seconds":{value}}}' for value in ('"1"', "null", "[1]", "{}")),
    ],
)
def test_a_bad_time(emulator: Emulator, text: str) -> None:
    """Time moves by a number of seconds from 0 to a thousand million, and by nothing else."""
    answer = emulator.http.post("/_emulator/clock", content=text.encode("latin-1"))
    assert answer.status_code == 400
    assert answer.json()["detail"] == '{"advance_seconds": N} is needed, N from 0 to 1000000000'


@pytest.mark.parametrize("value", ["0", "0.5", "1e9", "3600"])
def test_a_good_time(value: str, slow_emulator: Emulator) -> None:
    """Whole numbers and others move time."""
    answer = slow_emulator.http.post("/_emulator/clock", content=f'{{"advance_seconds":{value},"x":1}}')
    assert (answer.status_code, answer.content) == (204, b"")


def test_the_clock_moves_models(slow_emulator: Emulator) -> None:
    """A model that would take long here has ended once as much time was skipped."""
    # 0.1 s of fal's time are 10 s here.
    with slow_emulator.send("POST", "/run/emulator/fail", b"{}") as connection:
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(5)
        slow_emulator.http.post("/_emulator/clock", json={"advance_seconds": 3_600})
        assert connection.recv(65_536).startswith(b"HTTP/1.1 500 ")


def test_seconds_of_a_failure(slow_emulator: Emulator, emulator: Emulator) -> None:
    """Seconds that the input asks for are real ones, however fast or slow fal's time passes."""
    for one in (slow_emulator, emulator):
        began = time.monotonic()
        assert one.run("emulator/fail", {"seconds": 0.3}).status_code == 500
        assert 0.3 <= time.monotonic() - began < 5


def test_reports(emulator: Emulator) -> None:
    """What the queue and the webhooks report of a request: its state and outcome, its deliveries."""
    submitted = emulator.submit("emulator/echo", params={"fal_webhook": "http://127.0.0.1:9/"})
    emulator.until_completed(submitted)
    request_id = submitted.json()["request_id"]
    [request] = [r for r in emulator.http.get("/_emulator/requests").json() if r["request_id"] == request_id]
    assert request == {
        "request_id": request_id,
        "gateway_request_id": request_id,
        "endpoint": "emulator/echo",
        "state": "COMPLETED",
        "attempts": 1,
        "cancelled": False,
        "status": 200,
    }
    assert request_id in emulator.http.get("/_emulator/webhooks").text


def test_the_certificate() -> None:
    """With TLS the certificate to trust is there, as PEM."""
    with running_emulator("--tls-port", "0") as (emulator, _):
        answer = emulator.http.get("/_emulator/ca.pem")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-pem-file")
        assert answer.text.startswith("-----BEGIN CERTIFICATE-----\n")
        assert answer.text.count("BEGIN") == 1
        assert emulator.http.post("/_emulator/ca.pem").status_code == 405

"""The client commands against a scripted service on a real socket."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from tests.cli.scripted_service import HANDLE, ScriptedService, running
from typer.testing import CliRunner

from falrpc import v1
from falrpc_server.cli import app

Falrpc = Callable[..., Any]

CLIENT_COMMANDS = [
    "run",
    "submit",
    "status",
    "result",
    "cancel",
    "subscribe",
    "stream",
    "stream-workflow",
    "upload",
]
COMMANDS = ["serve", "emulator", "demo", "check-config", "healthcheck", "make-token", *CLIENT_COMMANDS]


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str) -> None:
    """Every command explains itself."""
    shown = CliRunner().invoke(app, [command, "--help"], prog_name="falrpc")
    assert shown.exit_code == 0
    assert f"Usage: falrpc {command}" in shown.stdout


@pytest.mark.parametrize("command", ["", *CLIENT_COMMANDS])
def test_help_names_the_exit_codes(command: str) -> None:
    """The help of the program and of each client command ends with the exit codes."""
    shown = CliRunner().invoke(app, [*command.split(), "--help"])
    assert "4 DEADLINE_EXCEEDED; 130 interrupted" in " ".join(shown.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        pytest.param(["--help"], ["grpc", "httpx", "google.protobuf"], id="help"),
        pytest.param(
            ["status", "a/b", "r", "--address", "127.0.0.1:1"],
            ["falrpc_server.app", "falrpc_server.config", "aiohttp", "starlette"],
            id="client command",
        ),
    ],
)
def test_only_what_is_needed_is_loaded(arguments: list[str], absent: list[str]) -> None:
    """--help is quick because it loads no library of the network, and a client command no server."""
    code = (
        "import atexit, sys\nfrom falrpc_server.cli import app\n"
        f"atexit.register(lambda: print('loaded:', [m for m in {absent} if m in sys.modules]))\n"
        f"app({arguments})"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment()
    )
    assert "loaded: []" in ran.stdout


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("INVALID_ARGUMENT", 2),
        ("UNAVAILABLE", 3),
        ("DEADLINE_EXCEEDED", 4),
        ("NOT_FOUND", 1),
        ("UNKNOWN", 1),
        ("INTERNAL", 1),
    ],
)
def test_failed_call(falrpc: Falrpc, code: str, exit_code: int) -> None:
    """A failed call is told on standard error, as JSON on standard output, and gives its exit code."""
    plain = falrpc("run", f"fail/{code}")
    assert (plain.exit_code, plain.stdout) == (exit_code, "")
    assert plain.stderr.startswith(f"error: {code}: why\n  reason: A_REASON (falrpc)\n  delivery: REJECTED\n")
    as_json = falrpc("run", f"fail/{code}", "--json")
    assert (as_json.exit_code, as_json.stderr) == (exit_code, "")
    error = json.loads(as_json.stdout)["error"]
    assert (error["code"], error["reason"], error["delivery"]) == (code, "A_REASON", "REJECTED")


def test_no_service() -> None:
    """Without a service the command says where it looked and how to start one, and exits 3."""
    ran = CliRunner().invoke(app, ["run", "a/b", "--address", "127.0.0.1:1"])
    assert ran.exit_code == 3
    assert "no falrpc service answers at 127.0.0.1:1: start one with `falrpc serve`" in ran.stderr


def test_deadline(falrpc: Falrpc) -> None:
    """--timeout is the call's deadline, and a call that exceeds it exits 4."""
    assert falrpc("run", "sleep/forever", "--timeout", "0.2").exit_code == 4


@pytest.mark.parametrize(
    ("command", "attempts"),
    [("run", 1), ("submit", 1), ("subscribe", 1), ("status", 3), ("result", 3), ("cancel", 3)],
)
def test_only_reads_are_repeated(
    falrpc: Falrpc, service: ScriptedService, command: str, attempts: int
) -> None:
    """UNAVAILABLE is tried three times by calls that read or may be repeated, once by paid ones."""
    paid = attempts == 1
    assert falrpc(command, "fail/UNAVAILABLE", *([] if paid else ["r1"])).exit_code == 3
    assert service.calls[command.capitalize()] == attempts


def test_numbers_arrive_verbatim(falrpc: Falrpc, service: ScriptedService) -> None:
    """Numbers reach the service, and come back from it, as they were written."""
    service.output = v1.Output(json='{"seed":15860307465884635512,"x":1e3}')
    ran = falrpc(
        "run", "a/b", "-i", "seed=15860307465884635512", "-i", "x=1e3", "-i", "prompt=a cat", "--json"
    )
    assert service.received[0].input.json == '{"seed":15860307465884635512,"x":1e3,"prompt":"a cat"}'
    assert ran.stdout == (
        '{"output":{"seed":15860307465884635512,"x":1e3},"call":{"request_id":"r1","billable_units":"2.5"}}\n'
    )


def test_input_from_a_pipe_and_a_file(falrpc: Falrpc, service: ScriptedService, tmp_path: Path) -> None:
    """--input-json takes text, a file and standard input, unchanged."""
    text = '{ "a" : 1e3 }'
    (tmp_path / "in.json").write_text(text)
    falrpc("run", "a/b", "--input-json", text)
    falrpc("run", "a/b", "--input-json", f"@{tmp_path / 'in.json'}")
    falrpc("run", "a/b", "--input-json", "-", stdin=text)
    assert [request.input.json for request in service.received] == [text] * 3


def test_file_in_the_input_is_uploaded(falrpc: Falrpc, service: ScriptedService, tmp_path: Path) -> None:
    """-i key=@FILE uploads the file and puts its URL into the input."""
    (tmp_path / "cat.png").write_bytes(b"12345")
    ran = falrpc("run", "a/b", "-i", f"image_url=@{tmp_path / 'cat.png'}", "-i", "n=1")
    assert ran.exit_code == 0
    assert service.received[0].header.file_name == "cat.png"
    assert service.received[-1].input.json == '{"image_url":"https://cdn/x","n":1}'


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["-i", "no equals sign"], id="no pair"),
        pytest.param(["--input-json", "[1]"], id="no object"),
        pytest.param(["--input-json", "@/does/not/exist"], id="no input file"),
        pytest.param(["-i", "x=@/does/not/exist"], id="no file to upload"),
        pytest.param(["--tag", "x"], id="no tag"),
        pytest.param(["--start-timeout", "0.5"], id="start timeout too short"),
        pytest.param(["--unknown"], id="no such option"),
    ],
)
def test_wrong_usage(falrpc: Falrpc, service: ScriptedService, arguments: list[str]) -> None:
    """Wrong usage exits 2 and sends nothing."""
    ran = falrpc("run", "a/b", *arguments)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert not service.received


def test_options_of_submit(falrpc: Falrpc, service: ScriptedService) -> None:
    """Every option of submit reaches the service, and its handle can be used as arguments."""
    options = "--priority low --webhook https://me/hook --max-queue-length 0 --no-retry --start-timeout 1.5"
    options += " --tag team=red --tag n=1 --runner-hint h --token secret"
    ran = falrpc("submit", "a/b", *options.split())
    assert ran.stdout == "a/b r1 --ownership-token=t1\n"
    assert service.received == [
        v1.SubmitRequest(
            endpoint_id="a/b",
            input=v1.Input(json="{}"),
            options=v1.CallOptions(
                start_timeout=Duration(seconds=1, nanos=500_000_000),
                tags={"team": "red", "n": "1"},
                runner_hint="h",
            ),
            queue=v1.QueueOptions(
                priority=v1.Priority.PRIORITY_LOW,
                webhook_url="https://me/hook",
                max_queue_length=0,
                no_retry=True,
            ),
        )
    ]
    assert service.metadata["authorization"] == "Bearer secret"
    assert falrpc("cancel", *ran.stdout.split()).stdout == "OK\n"
    assert service.received[-1] == v1.CancelRequest(handle=HANDLE)


def test_options_that_are_not_given_are_not_set(falrpc: Falrpc, service: ScriptedService) -> None:
    """What the user does not say is left to the service."""
    falrpc("submit", "a/b")
    assert not service.received[0].queue.HasField("max_queue_length")
    assert not service.received[0].options.HasField("start_timeout")
    assert "authorization" not in service.metadata


def test_result_waits(falrpc: Falrpc, service: ScriptedService) -> None:
    """--wait is sent as it is, also 0; without it the field is absent."""
    falrpc("result", "a/b", "r1")
    falrpc("result", "a/b", "r1", "--wait", "0")
    falrpc("result", "a/b", "r1", "--wait", "2.5")
    waits = [request.wait.ToTimedelta().total_seconds() for request in service.received]
    assert waits == [0, 0, 2.5]
    assert [request.HasField("wait") for request in service.received] == [False, True, True]


def test_large_output(falrpc: Falrpc, service: ScriptedService) -> None:
    """An output far above grpc's default limit of 4 MiB arrives."""
    service.output = v1.Output(json=json.dumps("x" * 40_000_000))
    assert len(falrpc("run", "a/b", "--json").stdout) > 40_000_000


def test_files_of_an_output(falrpc: Falrpc, service: ScriptedService, tmp_path: Path) -> None:
    """-o saves the files and names them; a file that can't be had makes the command fail, output or not."""
    good, bad = {"url": "data:text/plain,hi"}, {"url": "http://127.0.0.1:1/x"}
    service.output = v1.Output(json=json.dumps([good]))
    ran = falrpc("run", "a/b", "-o", str(tmp_path), "--json")
    assert ran.exit_code == 0
    assert Path(json.loads(ran.stdout)["files"][0]).read_text() == "hi"
    service.output = v1.Output(json=json.dumps([bad]))
    for extra in ([], ["--json"]):
        ran = falrpc("run", "a/b", "-o", str(tmp_path), *extra)
        assert ran.exit_code == 1
        assert "http://127.0.0.1:1/x" in ran.stdout
        assert "can't be fetched" in ran.stdout + ran.stderr


def test_subscribe_lines(falrpc: Falrpc, service: ScriptedService) -> None:
    """subscribe --json prints one object a line, without heartbeats; without it only the output."""
    lines = falrpc("subscribe", "a/b", "--json").stdout.splitlines()
    assert [list(json.loads(line)) for line in lines] == [["accepted"], ["result"]]
    plain = falrpc("subscribe", "a/b")
    assert plain.stdout == "{}\n"
    assert plain.stderr == "accepted: a/b r1 --ownership-token=t1\n"
    assert "\x1b" not in plain.stderr


def test_subscribe_says_what_becomes_of_the_request(falrpc: Falrpc, service: ScriptedService) -> None:
    """An interrupted subscribe cancels the request, unless --detach is given."""
    falrpc("subscribe", "a/b")
    falrpc("subscribe", "a/b", "--detach")
    policies = [request.on_abandon for request in service.received]
    assert policies == [v1.AbandonPolicy.ABANDON_POLICY_CANCEL, v1.AbandonPolicy.ABANDON_POLICY_DETACH]


def test_upload_sends_size_digest_and_chunks(
    falrpc: Falrpc, service: ScriptedService, tmp_path: Path
) -> None:
    """A file goes in chunks of 256 KiB after a header with its name, size and SHA-256."""
    content = os.urandom(600_000)
    (tmp_path / "a b.bin").write_bytes(content)
    ran = falrpc("upload", str(tmp_path / "a b.bin"), "--json", "--content-type", "x/y")
    assert json.loads(ran.stdout) == {"source": str(tmp_path / "a b.bin"), "url": "https://cdn/x", "size": 5}
    header, *chunks = service.received
    assert header.header == v1.UploadHeader(
        file_name="a b.bin", size=600_000, sha256=hashlib.sha256(content).digest(), content_type="x/y"
    )
    assert [len(part.chunk) for part in chunks] == [262_144, 262_144, 75_712]
    assert b"".join(part.chunk for part in chunks) == content


def test_upload_of_an_unreachable_url(falrpc: Falrpc, service: ScriptedService) -> None:
    """A URL that can't be fetched fails with a sentence and uploads nothing."""
    ran = falrpc("upload", "http://127.0.0.1:1/cat.png")
    assert ran.exit_code == 1
    assert ran.stderr.startswith("error: http://127.0.0.1:1/cat.png can't be fetched: ")
    assert not service.received


HEARING = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("falrpc_server", run_name="__main__")
"""
"""Runs falrpc so that it hears Ctrl-C, whoever started it. A preexec_fn would fork beside grpc's threads."""


@pytest.mark.parametrize("command", ["run", "subscribe"])
def test_interrupt(service: ScriptedService, command: str) -> None:
    """Ctrl-C ends a call at once with exit code 130 and without a traceback."""
    with running(service) as address:
        process = subprocess.Popen(
            [sys.executable, "-c", HEARING, command, "sleep/forever", "--address", address],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while not service.received and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in told
    assert "Traceback" not in told


def environment() -> dict[str, str]:
    """Of a subprocess that imports what this process imports."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

"""Each client command through a real gateway to a real emulator, all of them processes of their own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from falrpc_server.cli.demo import picture, processes

Falrpc = Callable[..., "subprocess.CompletedProcess[str]"]

SEED = "15860307465884635512"
SDXL = "fal-ai/fast-sdxl"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway in front of an emulator."""
    logs = tmp_path_factory.mktemp("logs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        with processes.emulator(logs / "emulator.log") as url:
            settings = {"FALRPC_EMULATOR_URL": url, "FAL_KEY": processes.DEMO_KEY}
            with processes.gateway(logs / "gateway.log", settings) as address:
                yield address


@pytest.fixture
def falrpc(address: str) -> Falrpc:
    """Runs `falrpc ARGUMENTS` against the gateway."""
    imports = {"PYTHONPATH": os.pathsep.join(sys.path)}

    def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "falrpc_server", *arguments],
            env={**os.environ, **imports, "FALRPC_ADDRESS": address, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def test_run_downloads_the_pictures(falrpc: Falrpc, tmp_path: Path) -> None:
    """run prints the model's output, names the request and saves the pictures."""
    ran = falrpc("run", SDXL, "-i", "prompt=a cat", "-o", str(tmp_path / "out"))
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["images"]
    assert "request " in ran.stderr
    [saved] = (tmp_path / "out").iterdir()
    assert f"saved {saved}" in ran.stderr
    assert picture.describe_picture(saved)


def test_numbers_go_to_the_model_and_back(falrpc: Falrpc) -> None:
    """A large seed and a number in scientific notation are the same characters at the other end."""
    ran = falrpc("run", "emulator/echo", "-i", f"seed={SEED}", "-i", "x=1e3", "--json")
    assert ran.returncode == 0, ran.stdout
    assert SEED in ran.stdout
    assert "1e3" in ran.stdout


def test_submit_status_result(falrpc: Falrpc) -> None:
    """What submit prints is what status, result and cancel take."""
    handle = falrpc("submit", SDXL, "-i", "prompt=a cat").stdout.split()
    assert handle[0] == SDXL
    followed = falrpc("status", *handle, "--follow", "--logs").stdout.splitlines()
    assert followed[-1].startswith("COMPLETED, SUCCEEDED")
    assert falrpc("status", *handle).stdout.startswith("COMPLETED")
    result = falrpc("result", *handle, "--wait", "10", "--json")
    assert json.loads(result.stdout)["output"]["images"]
    assert falrpc("cancel", *handle).stdout == "ALREADY_COMPLETED\n"


def test_result_too_early(falrpc: Falrpc) -> None:
    """A result that is not there yet is a failure with a retry hint."""
    submitted = json.loads(falrpc("submit", SDXL, "-i", "prompt=a cat", "--json").stdout)["handle"]
    early = falrpc("result", submitted["endpoint_id"], submitted["request_id"])
    assert early.returncode == 1
    assert "FAILED_PRECONDITION" in early.stderr
    assert "REQUEST_NOT_COMPLETED (falrpc)" in early.stderr
    assert "retry: after" in early.stderr


def test_cancel(falrpc: Falrpc) -> None:
    """A request that waits or runs can be cancelled; its result tells that."""
    handle = falrpc("submit", "emulator/cancellable", "-i", "seconds=600").stdout.split()
    assert falrpc("cancel", *handle).stdout in ("OK\n", "CANCELLATION_REQUESTED\n")
    result = falrpc("result", *handle, "--wait", "10")
    assert result.returncode == 1
    assert "REQUEST_CANCELLED" in result.stderr


def test_subscribe(falrpc: Falrpc) -> None:
    """subscribe shows the queue position and the log on standard error, the output on standard output."""
    ran = falrpc("subscribe", SDXL, "-i", "prompt=a cat")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["images"]
    assert "IN_QUEUE, position" in ran.stderr
    assert "COMPLETED, SUCCEEDED" in ran.stderr
    assert "INFO: " in ran.stderr


def test_subscribe_json(falrpc: Falrpc) -> None:
    """subscribe --json is one object a line: the handle first, the result last."""
    ran = falrpc("subscribe", SDXL, "-i", "prompt=a cat", "--json")
    kinds = [next(iter(json.loads(line))) for line in ran.stdout.splitlines()]
    assert kinds[0] == "accepted"
    assert kinds[-1] == "result"
    assert {"status", "logs"} <= set(kinds)
    assert ran.stderr == ""


@pytest.mark.parametrize("detach", [False, True])
def test_interrupted_subscribe(falrpc: Falrpc, address: str, detach: bool) -> None:
    """An interrupted subscribe cancels the request at fal; with --detach it goes on."""
    command = ["subscribe", SDXL, "-i", "prompt=a cat", "--json", "--address", address]
    process = subprocess.Popen(
        [sys.executable, "-m", "falrpc_server", *command, *(["--detach"] if detach else [])],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    handle = json.loads(process.stdout.readline())["accepted"]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    result = falrpc("result", handle["endpoint_id"], handle["request_id"], "--wait", "20")
    assert ("REQUEST_CANCELLED" in result.stderr) is not detach
    assert result.returncode == (0 if detach else 1)


def test_stream(falrpc: Falrpc) -> None:
    """stream prints each event of a model as one line."""
    ran = falrpc("stream", "fal-ai/any-llm", "-i", "prompt=hello")
    assert ran.returncode == 0, ran.stderr
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(events) > 1


def test_stream_of_a_model_that_does_not(falrpc: Falrpc) -> None:
    """A model that does not stream says so."""
    ran = falrpc("stream", SDXL, "-i", "prompt=a cat")
    assert ran.returncode == 1
    assert "STREAMING_NOT_SUPPORTED" in ran.stderr


def test_stream_workflow(falrpc: Falrpc, tmp_path: Path) -> None:
    """stream-workflow prints its typed events in order and saves a sticker that is partly transparent."""
    arguments = ["workflows/fal-ai/sdxl-sticker", "-i", "prompt=a happy robot", "-i", f"seed={SEED}"]
    ran = falrpc("stream-workflow", *arguments, "-o", str(tmp_path))
    assert ran.returncode == 0, ran.stderr
    kinds = [line.split()[0] for line in ran.stdout.splitlines()]
    assert kinds[0] == "started"
    assert kinds[-1] == "output"
    assert {"submit", "completion"} <= set(kinds)
    assert any(picture.transparent_share(path) > 0 for path in tmp_path.iterdir())
    lines = falrpc("stream-workflow", *arguments, "--json").stdout.splitlines()
    assert [next(iter(json.loads(line))) for line in lines] == kinds


def test_upload(falrpc: Falrpc, tmp_path: Path) -> None:
    """upload prints the URL of a file, of several, and of one fetched from a URL; run takes a file too."""
    (tmp_path / "photo.png").write_bytes(picture.photo_png())
    (tmp_path / "b.txt").write_text("b")
    ran = falrpc("upload", str(tmp_path / "photo.png"), str(tmp_path / "b.txt"))
    assert ran.returncode == 0, ran.stderr
    photo, _ = urls = ran.stdout.splitlines()
    assert all(url.startswith("http") for url in urls)
    again = json.loads(falrpc("upload", photo, "--json").stdout)
    assert again["source"] == photo
    assert again["size"] == (tmp_path / "photo.png").stat().st_size
    assert again["content_type"] == "image/png"
    small = falrpc("upload", photo, "--fetched-bytes-max", "1000")
    assert small.returncode == 1
    assert "larger than 1000 bytes" in small.stderr
    file = f"image_url=@{tmp_path / 'photo.png'}"
    used = falrpc("run", "fal-ai/imageutils/rembg", "-i", file, "-o", str(tmp_path / "out"))
    assert used.returncode == 0, used.stderr


def test_wrong_input(falrpc: Falrpc) -> None:
    """Each wrong field is named, and the exit code is that of wrong usage."""
    ran = falrpc("run", SDXL, "-i", "num_images=99")
    assert ran.returncode == 2
    assert "field input.prompt: " in ran.stderr
    assert "field input.num_images: " in ran.stderr
    error = json.loads(falrpc("run", SDXL, "-i", "num_images=99", "--json").stdout)["error"]
    assert error["code"] == "INVALID_ARGUMENT"
    assert error["domain"] == "fal.ai"
    assert {violation["field"] for violation in error["violations"]} == {"input.prompt", "input.num_images"}


def test_unknown_endpoint(falrpc: Falrpc) -> None:
    """An endpoint that fal does not know is named."""
    ran = falrpc("run", "nobody/nothing")
    assert ran.returncode == 1
    assert "ENDPOINT_NOT_FOUND" in ran.stderr


def test_healthcheck(falrpc: Falrpc, address: str) -> None:
    """healthcheck exits 0 for a service that serves, 1 for one that is not known or not there."""
    serving = falrpc("healthcheck")
    assert (serving.returncode, serving.stdout) == (0, f"{address}: SERVING\n")
    assert falrpc("healthcheck", "--service", "falrpc.v1.FalService").returncode == 0
    assert falrpc("healthcheck", "--service", "nothing").returncode == 1
    assert falrpc("healthcheck", "--address", "127.0.0.1:1").returncode == 1


def test_healthcheck_where_the_server_listens(falrpc: Falrpc, address: str) -> None:
    """Without an address healthcheck asks on loopback at the port of FALRPC_LISTEN."""
    port = address.rpartition(":")[2]
    checked = falrpc("healthcheck", FALRPC_LISTEN=f"0.0.0.0:{port}", FALRPC_ADDRESS="")
    assert (checked.returncode, checked.stdout) == (0, f"{address}: SERVING\n")


def test_check_config(falrpc: Falrpc, tmp_path: Path) -> None:
    """check-config prints the effective values without secrets, or every problem, and exits 2."""
    file = tmp_path / "falrpc.toml"
    file.write_text("drain_seconds = 7\n")
    good = falrpc("check-config", "--config", str(file), FAL_KEY="id:secret")
    assert good.returncode == 0, good.stderr
    assert "FALRPC_DRAIN_SECONDS=7" in good.stdout
    assert "secret" not in good.stdout.replace("FAL_KEY_SECRET", "")
    for command in ("check-config", "serve"):
        bad = falrpc(command, FALRPC_DRAIN_SECONDS="long", FALRPC_LOG_LEVEL="loud", FAL_KEY="id:secret")
        assert (bad.returncode, bad.stdout) == (2, "")
        assert "FALRPC_DRAIN_SECONDS: " in bad.stderr
        assert "FALRPC_LOG_LEVEL: " in bad.stderr

"""The demo as a user runs it, and the checks that it makes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from falrpc_server.cli.demo import picture

DEMO_SECONDS_MAX = 60


def hears_interrupts() -> None:
    """In the new process: a shell that runs the tests in the background has it ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def demo(*arguments: str, directory: Path, **environment: str) -> "subprocess.Popen[str]":
    """Starts `falrpc demo` with its own environment and pipes."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FAL_", "FALRPC_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "falrpc_server", "demo", "--output", str(directory), *arguments],
        env={**kept, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        preexec_fn=hears_interrupts,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def children(process: "subprocess.Popen[str]") -> list[int]:
    """The process ids that a process started (Linux)."""
    try:
        return [
            int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        ]
    except FileNotFoundError:
        return []


def test_demo(tmp_path: Path) -> None:
    """The demo needs no key, does everything, leaves a sticker with a transparent part, and exits 0."""
    process = demo(directory=tmp_path, FALRPC_LISTEN="nonsense", FALRPC_AUTH="nonsense")
    told, errors = process.communicate(timeout=DEMO_SECONDS_MAX)
    assert process.returncode == 0, told + errors
    assert errors == ""
    assert "\x1b" not in told
    assert told.count("✓") == 8
    assert "input.prompt" in told
    with Image.open(tmp_path / "sticker.png") as sticker:
        assert sticker.format == "PNG"
        assert sticker.getchannel("A").getextrema()[0] == 0
    assert (tmp_path / "emulator.log").exists()
    assert "server.started" in (tmp_path / "gateway.log").read_text()


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_demo_leaves_no_process(tmp_path: Path, signal_number: signal.Signals) -> None:
    """A demo that is interrupted stops its emulator and its gateway and exits 130."""
    process = demo(directory=tmp_path)
    started: list[int] = []
    deadline = time.monotonic() + 30
    while len(started) < 2 and time.monotonic() < deadline and process.poll() is None:
        started = children(process)
        time.sleep(0.02)
    assert len(started) == 2
    process.send_signal(signal_number)
    told, errors = process.communicate(timeout=20)
    assert process.returncode == 130, told + errors
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]


def test_live_needs_a_key(tmp_path: Path) -> None:
    """--live without a key says so, exits 2 and starts nothing."""
    process = demo("--live", directory=tmp_path / "out")
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "set FAL_KEY" in errors
    assert not (tmp_path / "out").exists()


def test_failed_step_is_named_with_the_log(tmp_path: Path) -> None:
    """A demo that fails names the step, shows the end of the log and exits 1."""
    (tmp_path / "sticker.png").write_text("of an earlier run")
    process = demo("--live", directory=tmp_path, FAL_KEY="a key with spaces")
    told, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "✗ step 1 Start the gateway failed" in told
    assert "FAL_KEY: must be" in told
    assert not (tmp_path / "sticker.png").exists()


def test_output_that_is_no_directory(tmp_path: Path) -> None:
    """A directory that can't be made is told in a sentence."""
    (tmp_path / "file").write_text("")
    process = demo(directory=tmp_path / "file" / "out")
    told, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "Traceback" not in told + errors


def test_photo(tmp_path: Path) -> None:
    """The picture that is uploaded is a PNG, the same bytes each time."""
    (tmp_path / "photo.png").write_bytes(picture.photo_png())
    assert picture.describe_picture(tmp_path / "photo.png") == "PNG 512x512"
    assert picture.photo_png() == picture.photo_png()


def test_transparent_share(tmp_path: Path) -> None:
    """The share of transparent pixels is counted; opaque pixels and half-transparent ones don't count."""
    image = Image.new("RGBA", (2, 2), (1, 2, 3, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 128))
    image.save(tmp_path / "a.png")
    assert picture.transparent_share(tmp_path / "a.png") == 0.25


@pytest.mark.parametrize(
    ("mode", "file_format", "why"),
    [("RGB", "PNG", "no alpha channel"), ("RGB", "JPEG", "not PNG"), ("RGBA", "WEBP", "not PNG")],
)
def test_no_sticker(tmp_path: Path, mode: str, file_format: str, why: str) -> None:
    """A picture without an alpha channel, or of another format, is no sticker."""
    Image.new(mode, (2, 2)).save(tmp_path / "a", file_format)
    with pytest.raises(ValueError, match=why):
        picture.transparent_share(tmp_path / "a")


def test_no_picture(tmp_path: Path) -> None:
    """Bytes that are no picture, or half of one, are refused."""
    photo = picture.photo_png()
    for name, content in (("html", b"<html>"), ("half", photo[: len(photo) // 2])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="is no picture"):
            picture.describe_picture(tmp_path / name)

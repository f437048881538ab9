"""Where outside checks come from: Go's module proxy and Debian's archive, into build/, without root."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["find_testssl", "go_tool"]

ROOT = Path(__file__).parents[2]
BUILT = ROOT / "build/external"
GO_MODULE = ROOT / "tests/external/go"
GO_TOOLS = ("github.com/summerwind/h2spec/cmd/h2spec", "google.golang.org/grpc/interop/client")
TESTSSL = "testssl.sh"
COMMAND_SECONDS_MAX = 300  # fetching included


def go_tool(name: str) -> Path:
    """A program of GO_TOOLS, in the versions of go.mod and go.sum. Skips the test where there is no Go."""
    if shutil.which("go") is None:
        pytest.skip(f"go is needed for {name}")
    with _one_at_a_time():
        environment = {**os.environ, "GOFLAGS": "-mod=readonly"}
        _run("go", "build", "-o", f"{BUILT / 'bin'}/", *GO_TOOLS, folder=GO_MODULE, **environment)
    return BUILT / "bin" / name


def find_testssl() -> tuple[str, dict[str, str]]:
    """The command of testssl.sh, and the environment that it needs. Skips the test where it can't be had.

    The installed one, or Debian's package, unpacked: it is a program for bash with tables beside it.
    """
    missing = [tool for tool in ("bash", "openssl", "hexdump", "ps") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is needed for {TESTSSL}")
    environment = {**os.environ, "TERM": "dumb"}
    if installed := shutil.which("testssl") or shutil.which("testssl.sh"):
        return installed, environment
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        pytest.skip(f"{TESTSSL} is neither installed, nor is this a system with Debian's packages")
    unpacked = BUILT / "testssl"
    with _one_at_a_time():
        if not (unpacked / "usr/bin/testssl").exists():
            _unpack_testssl(unpacked)
    # It insists on a program for name look-ups, and has nothing to look up here.
    if not any(shutil.which(tool) for tool in ("dig", "host", "drill", "nslookup")):
        idle = BUILT / "idle"
        idle.mkdir(exist_ok=True)
        (idle / "host").write_text("#!/bin/sh\n")
        (idle / "host").chmod(0o755)
        environment["PATH"] = f"{environment['PATH']}{os.pathsep}{idle}"
    environment["TESTSSL_INSTALL_DIR"] = str(unpacked / "etc/testssl")
    return str(unpacked / "usr/bin/testssl"), environment


def _unpack_testssl(folder: Path) -> None:
    parcel = BUILT / "parcel"
    shutil.rmtree(parcel, ignore_errors=True)
    parcel.mkdir(parents=True)
    fetched = subprocess.run(
        ["apt-get", "download", TESTSSL],
        cwd=parcel,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS_MAX,
    )
    packages = list(parcel.glob("*.deb"))
    if fetched.returncode or not packages:
        pytest.skip(f"{TESTSSL} can't be fetched: {fetched.stderr.strip()[-200:]}")
    _run("dpkg", "-x", str(packages[0]), str(parcel / "unpacked"), folder=parcel, **os.environ)
    shutil.rmtree(folder, ignore_errors=True)
    (parcel / "unpacked").rename(folder)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Tests run in several processes."""
    BUILT.mkdir(parents=True, exist_ok=True)
    with (BUILT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(*command: str, folder: Path, **environment: str) -> None:
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX
    )
    if ended.returncode != 0:
        pytest.fail(f"{' '.join(command)} failed:\n{ended.stdout}\n{ended.stderr}", pytrace=False)

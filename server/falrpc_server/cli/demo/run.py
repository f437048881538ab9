"""The demo from its first line to its last: starting, the steps, stopping, and what is said in the end."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import cast

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.console import Console

from falrpc import v1
from falrpc_server.cli import errors
from falrpc_server.cli.channels import open_channel
from falrpc_server.cli.demo import processes, steps
from falrpc_server.cli.demo.account import Account, StepFailed
from falrpc_server.cli.options import Security
from falrpc_server.cli.session import CommandFailed

__all__ = ["run_demo"]

_KEY_VARIABLES = ("FAL_KEY", "FAL_KEY_FILE", "FAL_KEY_ID")
_HEALTH_SECONDS_MAX = 10.0


def run_demo(*, live: bool, directory: Path) -> int:
    """Runs the demo and returns the exit code: 0 only if every step happened and was verified."""
    if live and not any(os.environ.get(name) for name in _KEY_VARIABLES):
        print(
            "falrpc demo --live calls fal.ai and needs a key: set FAL_KEY (https://fal.ai/dashboard/keys). "
            "Without --live the demo needs none.",
            file=sys.stderr,
        )
        return 2
    account = Account(Console(highlight=False))
    logs = (directory / "emulator.log", directory / "gateway.log")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for stale in (*logs, directory / "sticker.png"):
            stale.unlink(missing_ok=True)
        with _ended_by_sigterm():
            sticker = _take_steps(account, directory, logs, live=live)
    except grpc.RpcError as error:
        failure = errors.read_failure(cast(grpc.Call, error), "the gateway")
        return _report(account, "\n".join(errors.failure_lines(failure)), logs)
    except (StepFailed, CommandFailed, processes.StartError, OSError, ValueError) as error:
        return _report(account, str(error), logs)
    except KeyboardInterrupt:
        account.say("interrupted; emulator and gateway are stopped", "yellow")
        return 130
    account.say(f"\nThe sticker is {sticker}.", "bold green")
    account.say(_NEXT_LIVE if live else _NEXT)
    return 0


_NEXT = """Next:
  falrpc emulator &  FALRPC_EMULATOR_URL=http://127.0.0.1:8088 FAL_KEY=demo:key falrpc serve
  falrpc run fal-ai/fast-sdxl -i prompt="a cat" -o out/        # in another terminal
  grpcurl -plaintext 127.0.0.1:50051 describe falrpc.v1.FalService
  FAL_KEY=... falrpc demo --live                               # the same against fal.ai"""

_NEXT_LIVE = """Next:
  FAL_KEY=... falrpc serve
  falrpc run fal-ai/fast-sdxl -i prompt="a cat" -o out/        # in another terminal
  grpcurl -plaintext 127.0.0.1:50051 describe falrpc.v1.FalService"""


def _take_steps(account: Account, directory: Path, logs: tuple[Path, Path], *, live: bool) -> Path:
    with contextlib.ExitStack() as running:
        with account.step("Start the gateway" if live else "Start the emulator and the gateway"):
            settings: Mapping[str, str] = {}
            if not live:
                url = running.enter_context(processes.emulator(logs[0]))
                account.tell("emulator", f"{url}  log {logs[0]}")
                settings = {"FALRPC_EMULATOR_URL": url, "FAL_KEY": processes.DEMO_KEY}
            address = running.enter_context(processes.gateway(logs[1], settings))
            account.tell("gateway", f"{address}  log {logs[1]}")
            channel = running.enter_context(open_channel(address, Security()))
            _check_health(channel)
        demo = steps.Demo(v1.FalServiceStub(channel), account, directory, live)
        with account.step("Upload: a picture"):
            photo_url = steps.upload_photo(demo)
        with account.step("Run: fal-ai/imageutils/rembg on it"):
            steps.remove_background(demo, photo_url)
        with account.step("Submit and Subscribe: fal-ai/fast-sdxl through the queue"):
            handle, output_json = steps.follow_the_queue(demo)
        with account.step("Status and Result: the same request by its handle"):
            steps.read_by_handle(demo, handle, output_json)
        with account.step("StreamWorkflow: workflows/fal-ai/sdxl-sticker"):
            output = steps.stream_the_workflow(demo)
        with account.step("A failure: fal-ai/fast-sdxl without a prompt, with 99 images"):
            steps.explain_a_failure(demo)
        with account.step("Download the sticker"):
            return steps.download_sticker(demo, output)


def _check_health(channel: grpc.Channel) -> None:
    check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]  # missing in the stubs
    answer = check(health_pb2.HealthCheckRequest(), timeout=_HEALTH_SECONDS_MAX)
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise StepFailed("the gateway's health is not SERVING")


def _report(account: Account, why: str, logs: tuple[Path, Path]) -> int:
    account.say(f"✗ step {account.step_title or '0 prepare'} failed", "bold red")
    account.say(why)
    for log in logs:
        if lines := processes.log_tail(log):
            account.say(f"--- the end of {log}", "dim")
            account.say("\n".join(lines))
    return 1


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Makes SIGTERM end the demo as Ctrl-C does, so that its subprocesses never outlive it."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

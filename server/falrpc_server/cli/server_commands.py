"""Commands that run or look at a server: serve, its workers, demo, check-config, healthcheck."""

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from falrpc_server.cli.options import Security, take_groups

if TYPE_CHECKING:
    from falrpc_server.access.policy import Policy
    from falrpc_server.config import Settings

__all__ = ["register"]

_DEFAULT_ADDRESS = "127.0.0.1:50051"
WORKERS_MAX = 256  # as the setting says

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", exists=True, dir_okay=False, help="Settings as TOML."),
]


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    app.command()(serve)
    app.command(hidden=True)(worker)
    app.command()(demo)
    app.command(
        epilog="Exit codes: 0 the settings are good, and what --explain asks for is allowed; 1 it is not; "
        "2 the settings, the policy file or the arguments are not good."
    )(check_config)
    app.command(epilog="Exit codes: 0 it is SERVING; 1 it is not.")(take_groups(healthcheck))


def serve(
    config_file: ConfigFile = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=WORKERS_MAX,
            metavar="N",
            help="Processes that serve the port. Without it: FALRPC_WORKERS.",
        ),
    ] = None,
) -> None:
    """Run the gRPC service until SIGTERM.

    Settings come from the environment (FALRPC_*, FAL_KEY) and --config; see check-config.
    """
    settings = _load(config_file)
    if (workers or settings.workers) > 1:
        from falrpc_server.workers.supervisor import supervise

        raise typer.Exit(supervise(settings.model_copy(update={"workers": workers or settings.workers})))
    from falrpc_server import app

    raise typer.Exit(app.serve(settings))


def worker(number: Annotated[int, typer.Option(min=1, help="Which of the workers.")]) -> None:
    """Be one of the processes of `serve --workers`, which starts them: standard input leads to it."""
    from falrpc_server.workers import control

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # without a handler it would end the process
    try:
        one, settings = control.attach(number)
    except control.NotSupervised:
        print("a worker is started by: falrpc serve --workers N", file=sys.stderr)
        raise typer.Exit(2) from None
    from falrpc_server import app

    raise typer.Exit(app.serve(settings, one))


def demo(
    live: Annotated[
        bool, typer.Option("--live", help="Use fal itself, with FAL_KEY, and pay for it.")
    ] = False,
    output: Annotated[
        Path, typer.Option(metavar="DIR", file_okay=False, help="Where pictures and logs go.")
    ] = Path("demo-output"),
) -> None:
    """Start everything on loopback and do real work through it. Needs no key."""
    from falrpc_server.cli.demo import run_demo

    raise typer.Exit(run_demo(live=live, directory=output))


def check_config(
    config_file: ConfigFile = None,
    explain: Annotated[
        tuple[str, str, str] | None,
        typer.Option(
            metavar="IDENTITY RPC ENDPOINT",
            help="Say whether a caller may call a method for an endpoint, and why: "
            "spiffe://prod.example/web Run fal-ai/flux/dev. Upload has no endpoint: -",
        ),
    ] = None,
) -> None:
    """Print the effective settings, secrets hidden, or everything that is wrong with them.

    The policy file is checked with them.
    """
    from falrpc_server import config

    settings, policy = _load_all(config_file)
    if explain:
        from falrpc_server.cli import explaining

        raise typer.Exit(explaining.run(settings, policy, *explain))
    for name, value in config.effective(settings):
        print(f"{name}={value}")


def healthcheck(
    security: Security,
    address: Annotated[
        str | None,
        typer.Option(
            envvar="FALRPC_ADDRESS",
            metavar="HOST:PORT",
            help=f"Without it: where FALRPC_LISTEN says, else {_DEFAULT_ADDRESS}.",
        ),
    ] = None,
    service: Annotated[
        str, typer.Option(help="For instance falrpc.v1.FalService; empty means the whole server.")
    ] = "",
    timeout: Annotated[float, typer.Option(min=0.001, metavar="SECONDS")] = 3.0,
) -> None:
    """Ask a server whether it serves, as a container's health check does."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from falrpc_server.cli import channels

    where = address or channels.loopback_address(os.environ.get("FALRPC_LISTEN") or _DEFAULT_ADDRESS)
    with channels.open_channel(where, security) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]  # missing in the stubs
            answer = check(request, timeout=timeout, metadata=channels.call_metadata(security))
        except grpc.RpcError as error:
            print(f"{where}: {error.code().name}: {error.details()}")
            raise typer.Exit(1) from None
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    print(f"{where}: {name}")
    raise typer.Exit(0 if name == "SERVING" else 1)


def _load(config_file: Path | None) -> "Settings":
    return _load_all(config_file)[0]


def _load_all(config_file: Path | None) -> "tuple[Settings, Policy]":
    """Settings and the policy that they name, all files read; else all problems, and exit code 2."""
    from falrpc_server.access_files import AccessFiles, problems_of
    from falrpc_server.config import ConfigError, sources

    try:
        settings = sources.load(config_file)
    except ConfigError as error:
        problems = [*error.problems, *problems_of(sources.given_files(config_file))]
    else:
        try:
            return settings, AccessFiles(settings).gate.policy
        except ConfigError as error:
            problems = error.problems
    for problem in problems:
        print(problem, file=sys.stderr)
    raise typer.Exit(2)

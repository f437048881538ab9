"""Commands that run or look at a server: serve, demo, check-config, healthcheck."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from falrpc_server.cli.options import Security, take_groups

if TYPE_CHECKING:
    from falrpc_server.config import Settings

__all__ = ["register"]

_DEFAULT_ADDRESS = "127.0.0.1:50051"

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", exists=True, dir_okay=False, help="Settings as TOML."),
]


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    app.command()(serve)
    app.command()(demo)
    app.command(epilog="Exit codes: 0 the settings are good; 2 they are not.")(check_config)
    app.command(epilog="Exit codes: 0 it is SERVING; 1 it is not.")(take_groups(healthcheck))


def serve(config_file: ConfigFile = None) -> None:
    """Run the gRPC service until SIGTERM.

    Settings come from the environment (FALRPC_*, FAL_KEY) and --config; see check-config.
    """
    from falrpc_server import app

    raise typer.Exit(app.serve(_load(config_file)))


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


def check_config(config_file: ConfigFile = None) -> None:
    """Print the effective settings, secrets hidden, or everything that is wrong with them."""
    from falrpc_server import config

    for name, value in config.effective(_load(config_file)):
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
    from falrpc_server.config import ConfigError
    from falrpc_server.config.sources import load

    try:
        return load(config_file)
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        raise typer.Exit(2) from None

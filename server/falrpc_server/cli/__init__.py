"""The command line `falrpc`: the service, its emulator, the demo, and a client for every RPC.

Modules here import grpc, httpx and the service inside functions, so that `falrpc --help` is quick
and a client command does not load the server.
"""

import io
import sys
from importlib import metadata
from typing import Annotated

import typer

from falrpc_server.cli import (
    call_commands,
    emulator_command,
    server_commands,
    stream_commands,
    token_command,
    upload_command,
)
from falrpc_server.cli.options import EXIT_CODES

__all__ = ["app", "main"]

_DESCRIPTION = "fal.ai behind generated gRPC stubs: the service, its emulator, a demo and a client."

app = typer.Typer(
    name="falrpc",
    help=_DESCRIPTION,
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a traceback with local variables would print keys and prompts
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _commands in (
    server_commands,
    token_command,
    emulator_command,
    call_commands,
    stream_commands,
    upload_command,
):
    _commands.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            print(f"falrpc {metadata.version('falrpc')}")
        except metadata.PackageNotFoundError:
            print("falrpc (not installed: run from a checkout)")
        raise typer.Exit


@app.callback()
def _falrpc(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Runs the command line. Output is UTF-8 whatever the locale: JSON is."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    app(prog_name="falrpc")

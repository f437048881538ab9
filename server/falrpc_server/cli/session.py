"""What happens around every client command: the channel before it, the account of a failure after it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, cast

import typer

from falrpc_server.cli.options import Connection, Security

if TYPE_CHECKING:
    from falrpc import v1

__all__ = ["CommandFailed", "Session", "open_session"]


class CommandFailed(Exception):
    """The command can't go on, for a reason that is no RPC's status. The text is for the user."""


class CallArguments(TypedDict):
    """The keyword arguments of every call of the stub."""

    timeout: float | None
    metadata: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Session:
    """A stub for the service, and how this command calls and prints."""

    stub: "v1.FalServiceStub"
    call: CallArguments
    as_json: bool = False

    def note(self, text: str) -> None:
        """Tells a person something beside the output. Who reads JSON is not told."""
        if not self.as_json:
            print(text, file=sys.stderr, flush=True)


@contextmanager
def open_session(connection: Connection, security: Security) -> Iterator[Session]:
    """Opens a session; a failure inside is reported and becomes the exit code.

    Raises:
        typer.Exit: the call failed, the command could not go on, or it was interrupted.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its core logs to standard error beside our account
    import grpc

    from falrpc import v1
    from falrpc_server.cli import channels, errors

    with channels.open_channel(connection.address, security) as channel:
        try:
            yield Session(
                v1.FalServiceStub(channel),
                {"timeout": connection.timeout, "metadata": channels.call_metadata(security)},
                connection.as_json,
            )
        except grpc.RpcError as error:
            failure = errors.read_failure(cast(grpc.Call, error), connection.address)
            errors.print_failure(failure, as_json=connection.as_json)
            raise typer.Exit(errors.exit_code(failure)) from None
        except CommandFailed as error:
            failure = errors.Failure(message=str(error))
            errors.print_failure(failure, as_json=connection.as_json)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise typer.Exit(130) from None

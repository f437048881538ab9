"""The options that several commands share, as groups, and how a command takes a group.

A group is a dataclass whose fields are typer options. A command that has a parameter of such a
type gets one option for each field instead; `take_groups` does the replacing.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

__all__ = [
    "EXIT_CODES",
    "CallChoices",
    "Connection",
    "Endpoint",
    "Handle",
    "InputChoices",
    "OutputDirectory",
    "QueueChoices",
    "Security",
    "take_groups",
]

EXIT_CODES = (
    "Exit codes: 0 it worked; 1 the call failed; 2 wrong usage, or the call ended INVALID_ARGUMENT; "
    "3 UNAVAILABLE; 4 DEADLINE_EXCEEDED; 130 interrupted."
)

Endpoint = Annotated[str, typer.Argument(help="For instance fal-ai/flux/dev or workflows/owner/name.")]
OutputDirectory = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="DIR",
        file_okay=False,
        help="Download every file that the output names into this directory.",
    ),
]

_CONNECTION = "Connection"
_INPUT = "Input"
_CALL = "What fal is told"


@dataclass(frozen=True)
class Security:
    """How the service is trusted and told who calls."""

    token: Annotated[
        str | None,
        typer.Option(envvar="FALRPC_TOKEN", help="Sent as a bearer token.", rich_help_panel=_CONNECTION),
    ] = None
    tls: Annotated[
        bool,
        typer.Option("--tls", help="Use TLS; implied by the three below.", rich_help_panel=_CONNECTION),
    ] = False
    ca_file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Authorities to trust.", rich_help_panel=_CONNECTION),
    ] = None
    cert_file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Own certificate.", rich_help_panel=_CONNECTION),
    ] = None
    key_file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Its private key.", rich_help_panel=_CONNECTION),
    ] = None


@dataclass(frozen=True)
class Connection:
    """Where the service is and how to talk to it."""

    address: Annotated[
        str,
        typer.Option(
            envvar="FALRPC_ADDRESS", metavar="HOST:PORT", help="The service.", rich_help_panel=_CONNECTION
        ),
    ] = "127.0.0.1:50051"
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            metavar="SECONDS",
            help="The call's deadline. Without it the service applies its own.",
            rich_help_panel=_CONNECTION,
        ),
    ] = None
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print JSON: one object, or one a line for streams, and errors too."),
    ] = False


@dataclass(frozen=True)
class Handle:
    """A queue request that was submitted before."""

    endpoint: Endpoint
    request_id: Annotated[str, typer.Argument(help="The id that `falrpc submit` printed.")]
    ownership_token: Annotated[
        str, typer.Option(help="The handle's ownership token, on a server with several tenants.")
    ] = ""


@dataclass(frozen=True)
class InputChoices:
    """The model's input."""

    pairs: Annotated[
        list[str],
        typer.Option(
            "--input",
            "-i",
            metavar="KEY=VALUE",
            help="One field, repeatable. VALUE is taken as JSON if it is JSON, else as text; @FILE is "
            "uploaded first and replaced by its URL.",
            rich_help_panel=_INPUT,
        ),
    ] = field(default_factory=list)
    input_json: Annotated[
        str | None,
        typer.Option(metavar="TEXT|@FILE|-", help="The whole input, a JSON object.", rich_help_panel=_INPUT),
    ] = None


@dataclass(frozen=True)
class CallChoices:
    """Options of every paid call."""

    start_timeout: Annotated[
        float | None,
        typer.Option(min=1, metavar="SECONDS", help="How long fal may take to start.", rich_help_panel=_CALL),
    ] = None
    tags: Annotated[
        list[str],
        typer.Option(
            "--tag",
            metavar="KEY=VALUE",
            help="A tag for fal's usage reports, repeatable.",
            rich_help_panel=_CALL,
        ),
    ] = field(default_factory=list)
    runner_hint: Annotated[
        str, typer.Option(help="Prefer a runner with this hint.", rich_help_panel=_CALL)
    ] = ""


class PriorityName(StrEnum):
    """How the command line writes v1.Priority."""

    NORMAL = "normal"
    LOW = "low"


@dataclass(frozen=True)
class QueueChoices:
    """Options of queue requests."""

    priority: Annotated[
        PriorityName | None, typer.Option(help="low waits behind all others.", rich_help_panel=_CALL)
    ] = None
    webhook: Annotated[
        str, typer.Option(metavar="URL", help="Where fal posts the outcome.", rich_help_panel=_CALL)
    ] = ""
    max_queue_length: Annotated[
        int | None,
        typer.Option(min=0, help="Refuse when more than this many wait.", rich_help_panel=_CALL),
    ] = None
    no_retry: Annotated[
        bool,
        typer.Option("--no-retry", help="Do not retry on another runner.", rich_help_panel=_CALL),
    ] = False


def take_groups(command: Callable[..., None]) -> Callable[..., None]:
    """`command` as typer should see it: every option group replaced by its fields."""
    groups: dict[str, type[Any]] = {}
    parameters: list[inspect.Parameter] = []
    hints = get_type_hints(command, include_extras=True)
    for parameter in inspect.signature(command).parameters.values():
        hint = hints[parameter.name]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            groups[parameter.name] = hint
            parameters += _group_parameters(hint)
        else:
            parameters.append(parameter.replace(annotation=hint, kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        taken = {
            name: group(**{f.name: arguments.pop(f.name) for f in dataclasses.fields(group)})
            for name, group in groups.items()
        }
        command(**taken, **arguments)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del run.__wrapped__  # or typer would look through to `command`
    return run


def _group_parameters(group: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    parameters = []
    for member in dataclasses.fields(group):
        default: Any = inspect.Parameter.empty
        if member.default is not dataclasses.MISSING:
            default = member.default
        elif member.default_factory is not dataclasses.MISSING:
            default = member.default_factory()
        parameters.append(
            inspect.Parameter(
                member.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[member.name]
            )
        )
    return parameters

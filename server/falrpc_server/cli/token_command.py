"""The command that makes a caller's static token."""

import datetime
import re
import secrets
import sys
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]

TOKEN_BYTES = 32


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command(epilog="Example: falrpc make-token team/backend --append tokens.toml >token")(make_token)


def make_token(
    identity: Annotated[
        str, typer.Argument(help="Whose it is, as a policy names them, for instance team/backend.")
    ],
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="DATE",
            help="When it ends: 2027-01-31 (its first moment in UTC), or 2027-01-31T12:00:00Z.",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--append", metavar="FILE", dir_okay=False, help="The tokens file that gets its entry."),
    ] = None,
) -> None:
    """Make a static token for a caller (FALRPC_AUTH=tokens).

    The token goes to standard output, this once, and is kept nowhere. Its entry for FALRPC_TOKENS_FILE, which
    has only a hash of it, is appended to a file, or goes to standard error.
    """
    from falrpc_server.access import tokens

    ends = None if expires is None else _date(expires)
    token = secrets.token_urlsafe(TOKEN_BYTES)
    try:
        entry = tokens.entry(token, identity, ends)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if file:
        _append(file, entry)
    else:
        if sys.stderr.isatty():
            print("# For FALRPC_TOKENS_FILE:", file=sys.stderr)
        print(entry, file=sys.stderr)
    if sys.stderr.isatty() and sys.stdout.isatty():
        print("# The token, shown this once:", file=sys.stderr)
    sys.stderr.flush()
    print(token, flush=True)


def _append(file: Path, entry: str) -> None:
    try:
        with file.open("a") as tokens_file:
            tokens_file.write(entry + "\n")
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="--append") from None


def _date(text: str) -> datetime.date:
    """A day or a moment to come. Raises typer.BadParameter."""
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            day = datetime.date.fromisoformat(text)
            ends = datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC)
            given: datetime.date = day
        else:
            given = ends = datetime.datetime.fromisoformat(text)
    except ValueError:
        ends = None
    if ends is None or ends.utcoffset() is None:
        raise typer.BadParameter(
            "must be a date such as 2027-01-31, or a time with its zone such as 2027-01-31T12:00:00Z",
            param_hint="--expires",
        )
    if ends <= datetime.datetime.now(datetime.UTC):
        raise typer.BadParameter("is over already", param_hint="--expires")
    return given

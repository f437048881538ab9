"""The command upload."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from falrpc_server.cli.options import EXIT_CODES, Connection, Security, take_groups
from falrpc_server.cli.session import open_session

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command(epilog=EXIT_CODES)(take_groups(upload))


def upload(
    sources: Annotated[list[str], typer.Argument(metavar="FILE|URL...", help="What to upload.")],
    connection: Connection,
    security: Security,
    content_type: Annotated[
        str, typer.Option(help="Its media type. Without it: by the name's extension or the first bytes.")
    ] = "",
    fetched_bytes_max: Annotated[
        int, typer.Option(min=1, help="The largest file that is fetched from a URL.")
    ] = 10 * 1024**3,
) -> None:
    """Store files at fal and print their URLs, to be used in inputs.

    A URL is fetched from here, not by the service. --timeout holds for each file.
    """
    with open_session(connection, security) as session:
        from falrpc_server.cli import printing, progress, uploads

        missing = [name for name in sources if not uploads.is_url(name) and not Path(name).is_file()]
        if missing:
            raise typer.BadParameter(f"no such file: {', '.join(missing)}")
        for name in sources:
            with (
                progress.transfer_progress(name, quiet=session.as_json) as moved,
                uploads.opened(name, fetched_bytes_max=fetched_bytes_max, progress=moved) as source,
            ):
                source = replace(source, content_type=content_type or source.content_type)
                answer = uploads.send(session, source, moved)
            if session.as_json:
                print(printing.json_line({"source": name} | printing.to_value(answer)), flush=True)
            else:
                print(printing.plain(answer.url), flush=True)

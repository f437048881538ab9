"""Showing what a call returned, and saving the files that it names.

The output is printed whatever becomes of its files: it is paid for.
"""

import sys
from pathlib import Path
from typing import Any

import typer
from google.protobuf.message import Message

from falrpc import v1
from falrpc_server.cli import outputs, printing
from falrpc_server.cli.session import Session

__all__ = ["save", "show_line", "show_result"]


def show_line(message: Message) -> None:
    """Prints a message as one line of JSON."""
    print(printing.json_line(printing.to_value(message)), flush=True)


def show_result(session: Session, answer: v1.RunResponse | v1.ResultResponse, directory: Path | None) -> None:
    """Prints an output with what fal said about the call, and saves its files.

    Raises:
        typer.Exit: a file could not be saved.
    """
    if session.as_json:
        saved = _save(answer.output, directory)
        print(printing.json_line(printing.to_value(answer) | _files_value(saved)), flush=True)
    else:
        print(printing.pretty(answer.output), flush=True)
        if sentence := printing.call_sentence(answer.call):
            session.note(sentence)
        saved = _save(answer.output, directory)
        _note_files(session, saved)
    _fail_for(saved)


def save(session: Session, output: v1.Output, directory: Path | None) -> None:
    """Saves the files of an output that a stream has shown; as JSON, the account is a line of its own.

    Raises:
        typer.Exit: a file could not be saved.
    """
    saved = _save(output, directory)
    if saved and session.as_json:
        print(printing.json_line(_files_value(saved)), flush=True)
    _note_files(session, saved)
    _fail_for(saved)


def _save(output: v1.Output, directory: Path | None) -> outputs.SavedFiles | None:
    return outputs.save_files(output, directory) if directory else None


def _files_value(saved: outputs.SavedFiles | None) -> dict[str, Any]:
    if saved is None:
        return {}
    problems = {"error": {"message": "; ".join(saved.problems)}} if saved.problems else {}
    return {"files": [str(path) for path in saved.paths]} | problems


def _note_files(session: Session, saved: outputs.SavedFiles | None) -> None:
    if saved is None or session.as_json:
        return
    for path in saved.paths:
        session.note(f"saved {path}")
    for problem in saved.problems:
        print(f"error: {problem}", file=sys.stderr)
    if not saved.paths and not saved.problems:
        session.note("the output names no files")


def _fail_for(saved: outputs.SavedFiles | None) -> None:
    if saved and saved.problems:
        raise typer.Exit(1)

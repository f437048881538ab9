"""make-token."""

import datetime
import hashlib
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from falrpc_server.access.tokens import Tokens
from falrpc_server.cli import app

TOMORROW = datetime.date.today() + datetime.timedelta(days=2)


def make_token(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["make-token", *arguments], env={"COLUMNS": "200", "NO_COLOR": "1"})


def test_a_token_and_its_entry() -> None:
    """Standard output is the token alone, standard error its entry alone, which a tokens file takes."""
    made = make_token("team/backend")
    assert made.exit_code == 0
    token = made.stdout.removesuffix("\n")
    assert len(token) == 43
    assert made.stderr == (
        f'[[tokens]]\nidentity = "team/backend"\nsha256 = "{hashlib.sha256(token.encode()).hexdigest()}"\n\n'
    )
    assert Tokens.read(made.stderr, "tokens.toml", 0).identity(token, 0) == "team/backend"


def test_entries_add_up_to_a_file() -> None:
    """Two calls give two tokens, and what they say on standard error together is a file."""
    one, two = make_token("team/a"), make_token('team/"b"', "--expires", str(TOMORROW))
    tokens = Tokens.read(one.stderr + two.stderr, "tokens.toml", 0)
    assert tokens.identity(one.stdout.strip(), 0) == "team/a"
    assert tokens.identity(two.stdout.strip(), 0) == 'team/"b"'
    assert one.stdout != two.stdout


def test_an_entry_in_a_file(tmp_path: Path) -> None:
    """With --append the entry stands in the file, behind what was there, and nowhere else; a mistake leaves the
    file as it was."""
    file = tmp_path / "tokens.toml"
    one, two = (make_token(name, "--append", str(file)) for name in ("team/a", "team/b"))
    before = file.read_text()
    tokens = Tokens.read(before, "tokens.toml", 0)
    assert tokens.identity(one.stdout.strip(), 0) == "team/a"
    assert tokens.identity(two.stdout.strip(), 0) == "team/b"
    assert one.stderr == two.stderr == ""
    assert make_token(" bad", "--append", str(file)).exit_code == 2
    assert file.read_text() == before
    assert make_token("team/c", "--append", str(tmp_path / "no" / "tokens.toml")).exit_code == 2


@pytest.mark.parametrize(
    ("given", "written"),
    [
        (f"{TOMORROW}", TOMORROW),
        (f"{TOMORROW}T12:00:00Z", datetime.datetime.fromisoformat(f"{TOMORROW}T12:00:00Z")),
        (f"{TOMORROW}T12:00:00+02:00", datetime.datetime.fromisoformat(f"{TOMORROW}T12:00:00+02:00")),
    ],
    ids=["day", "UTC", "zone"],
)
def test_the_end_of_a_token(given: str, written: datetime.date) -> None:
    """--expires takes a day, or a time with its zone."""
    made = make_token("team/a", "--expires", given)
    assert made.exit_code == 0, made.stderr
    assert tomllib.loads(made.stderr)["tokens"][0]["expires"] == written


@pytest.mark.parametrize(
    "arguments",
    [
        ["a\nb"],
        [""],
        ["é"],
        ["a" * 201],
        ["a", "--expires", "soon"],
        ["a", "--expires", "2020-01-01"],
        ["a", "--expires", f"{TOMORROW}T12:00:00"],
        ["a", "--expires", "2026-13-01"],
        ["a", "--expires", ""],
        [],
    ],
    ids=str,
)
def test_what_no_token_is_made_for(arguments: list[str]) -> None:
    """What is wrong is told with exit code 2, and no token is shown."""
    made = make_token(*arguments)
    assert (made.exit_code, made.stdout) == (2, "")
    assert "Error" in made.stderr
    assert "[[tokens]]" not in made.stderr

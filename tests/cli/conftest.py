"""The command line in this process, and the scripted service that it calls."""

from collections.abc import Callable, Iterator

import pytest
from tests.cli.scripted_service import ScriptedService, running
from typer.testing import CliRunner

from falrpc_server.cli import app


@pytest.fixture
def service() -> ScriptedService:
    """What the command line talks to."""
    return ScriptedService()


@pytest.fixture
def falrpc(service: ScriptedService) -> Iterator[Callable[..., object]]:
    """Runs `falrpc ARGUMENTS` against `service`; returns exit_code, stdout and stderr."""
    with running(service) as address:
        environment = {"FALRPC_ADDRESS": address, "COLUMNS": "200", "NO_COLOR": "1"}

        def run(*arguments: str, stdin: str | None = None) -> object:
            return CliRunner().invoke(app, list(arguments), input=stdin, env=environment)

        yield run

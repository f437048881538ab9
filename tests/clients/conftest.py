"""A language's programs, built, and one of them running with a gateway for all scenarios and cases."""

from collections.abc import AsyncIterator

import pytest
from tests.clients.calling import Caller, calling
from tests.clients.languages import Language
from tests.conftest import Running, running_gateway


@pytest.fixture(scope="module")
def language(request: pytest.FixtureRequest) -> Language:
    """The language that the module of tests names, with its programs built."""
    one: Language = request.module.LANGUAGE
    one.build_or_skip()
    return one


@pytest.fixture(scope="module")
async def shared_gateway(emulator_url: str) -> AsyncIterator[Running]:
    """One gateway for all scenarios and cases."""
    async with running_gateway(emulator_url=emulator_url) as one:
        yield one


@pytest.fixture(scope="module")
async def caller(
    language: Language, shared_gateway: Running, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Caller]:
    """The program that makes calls."""
    errors = tmp_path_factory.mktemp(language.name) / "stderr"
    async with calling(language, shared_gateway.address, errors) as one:
        yield one

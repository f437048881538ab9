"""The import rules of docs/architecture.md, read from the sources."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "server"
PACKAGE = "falrpc_server"
PATHS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in sorted((ROOT / PACKAGE).rglob("*.py"))
}
MODULES = {name.removesuffix(".__init__"): path for name, path in PATHS.items()}
LINES_MAX = 350
SEPARATE = (f"{PACKAGE}.cli", f"{PACKAGE}.emulator")  # programs of their own
PURE = [
    *sorted(name for name in MODULES if name.startswith(f"{PACKAGE}.translate.")),
    *(
        f"{PACKAGE}.access.{name}"
        for name in (
            "authentication",
            "certificates",
            "explanation",
            "identities",
            "identity_patterns",
            "json_objects",
            "jwk_sets",
            "jwts",
            "metadata",
            "option_rules",
            "ownership",
            "policy",
            "policy_file",
            "refusals",
            "rules",
            "tables",
            "tokens",
            "webhook_hosts",
        )
    ),
    *(
        f"{PACKAGE}.fal_http.{name}"
        for name in (
            "answers",
            "breaker",
            "encodings",
            "endpoint_patterns",
            "error_bodies",
            "events",
            "json_syntax",
            "model_events",
            "models",
            "retry",
            "wire",
        )
    ),
]


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@cache
def imports(module: str) -> frozenset[str]:
    """Everything that a module imports, wherever in it, by full name."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module or "" for name in names}
    return frozenset(found)


def importers(*packages: str, among: str = PACKAGE) -> set[str]:
    """The modules that import one of the packages."""
    return {
        module
        for module in MODULES
        if within(module, among) and any(within(name, *packages) for name in imports(module))
    }


def reached(module: str) -> dict[str, str]:
    """Everything that importing a module imports, and for each thing the module that does so."""
    found = dict.fromkeys(imports(module), module)
    left = [name for name in found if name in MODULES]
    while left:
        inner = left.pop()
        for name in imports(inner) - found.keys():
            found[name] = inner
            if name in MODULES:
                left.append(name)
    return found


def server(modules: set[str]) -> set[str]:
    return {module for module in modules if not within(module, *SEPARATE)}


def test_there_is_something_to_check() -> None:
    """The sources are found, all of them under one package."""
    assert f"{PACKAGE}.fal_http.transport" in MODULES
    assert "httpx" in imports(f"{PACKAGE}.fal_http.transport")


def test_one_way_to_fal() -> None:
    """Only the funnel, and the transport below it with its resolver, import an HTTP engine; and what
    fetches the keys of callers' tokens, through the same transport."""
    funnel = {f"{PACKAGE}.fal_http.{n}" for n in ("transport", "exchange", "incoming")}
    assert server(importers("httpx")) == funnel | {f"{PACKAGE}.access.jwks"}
    assert server(importers("aiohttp", "yarl")) == {
        f"{PACKAGE}.fal_http.{n}" for n in ("transport", "connector", "resolver")
    }


def test_only_the_outside_knows_grpc() -> None:
    """Only the gateway with its listener, the servicer and the interceptors import grpc."""
    allowed = (
        f"{PACKAGE}.gateway",
        f"{PACKAGE}.accepting",
        f"{PACKAGE}.listening",
        f"{PACKAGE}.servicer",
        f"{PACKAGE}.interceptors",
    )
    assert [
        m for m in server(importers("grpc", "grpc_health", "grpc_reflection")) if not within(m, *allowed)
    ] == []


def test_the_supervisor_knows_no_engine() -> None:
    """What starts workers reaches neither grpc nor an HTTP engine nor an event loop's library."""
    engines = ("grpc", "aiohttp", "httpx", "uvloop", "yarl")
    reaches = reached(f"{PACKAGE}.workers.supervisor")
    assert {name: by for name, by in reaches.items() if within(name, *engines)} == {}


def test_translation_is_pure() -> None:
    """translate does no IO and asks neither the clock nor chance nor the environment."""
    forbidden = ("os", "time", "random", "structlog")
    assert importers(*forbidden, among=f"{PACKAGE}.translate") == set()


@pytest.mark.parametrize("module", PURE)
def test_the_pure_core_waits_for_nothing(module: str) -> None:
    """No pure module imports an event loop, a socket, grpc or an HTTP engine, nor reaches one by others."""
    forbidden = ("asyncio", "socket", "grpc", "httpx", "aiohttp", "yarl", "anyio", "threading")
    reaches = {name: by for name, by in reached(module).items() if within(name, *forbidden)}
    assert reaches == {}


def test_access_knows_neither_grpc_nor_http() -> None:
    """access takes plain values: it knows neither grpc, nor the contract, nor a log, and sends nothing itself."""
    access = f"{PACKAGE}.access"
    assert importers("grpc", "google", "falrpc", "structlog", "aiohttp", "yarl", "os", among=access) == set()
    assert importers("httpx", "asyncio", among=access) <= {f"{access}.jwks"}


def test_fals_client_knows_no_grpc() -> None:
    """fal_http could be its own library: neither protobuf, nor grpc, nor the contract."""
    assert importers("grpc", "google", "falrpc", "structlog", among=f"{PACKAGE}.fal_http") == set()


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        (
            "fal_http",
            (
                "translate",
                "watchers",
                "servicer",
                "interceptors",
                "app",
                "config",
                "background",
                "observability",
            ),
        ),
        (
            "translate",
            ("watchers", "servicer", "interceptors", "app", "config", "background", "observability"),
        ),
        ("watchers", ("translate", "servicer", "interceptors", "app", "config", "observability")),
        ("interceptors", ("watchers", "servicer", "app", "config")),
        ("access", ("translate", "watchers", "servicer", "interceptors", "app", "config", "observability")),
        ("servicer", ("app", "config")),
        ("workers", ("app", "servicer", "interceptors", "translate", "watchers", "fal_http", "access")),
        ("config", ("app", "servicer", "interceptors", "translate", "fal_http")),
    ],
)
def test_dependencies_point_one_way(lower: str, higher: tuple[str, ...]) -> None:
    """What is below never imports what is above it."""
    above = [f"{PACKAGE}.{name}" for name in higher]
    assert importers(*above, among=f"{PACKAGE}.{lower}") == set()


def test_the_emulator_shares_nothing() -> None:
    """The emulator imports no sibling, and of its siblings only the command line imports it."""
    emulator, cli = SEPARATE[1], SEPARATE[0]
    for module in MODULES:
        if within(module, emulator):
            assert [m for m in imports(module) if within(m, PACKAGE) and not within(m, emulator)] == []
    users = {module for module in importers(emulator) if not within(module, emulator)}
    assert [module for module in users if not within(module, cli)] == []


def test_the_service_does_not_know_its_command_line() -> None:
    """Nothing but the command line and __main__ imports the command line."""
    cli = SEPARATE[0]
    users = {module for module in importers(cli) if not within(module, cli)}
    assert users <= {f"{PACKAGE}.__main__"}


@pytest.mark.parametrize("module", MODULES)
def test_no_file_is_long(module: str) -> None:
    """A file is short enough to be read in one go."""
    assert len(MODULES[module].read_text().splitlines()) <= LINES_MAX


def test_no_wait_for() -> None:
    """asyncio.wait_for has swallowed cancellations: asyncio.timeout is used instead."""
    users = [module for module, path in MODULES.items() if "wait_for(" in path.read_text()]
    assert users == []


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is(module: str) -> None:
    """Each module begins with a docstring."""
    assert ast.get_docstring(ast.parse(MODULES[module].read_text()))


def test_serving_loads_no_other_program() -> None:
    """Importing the service loads neither the emulator's libraries nor the command line's."""
    unwanted = ("starlette", "uvicorn", "PIL", "typer", "falrpc_server.cli", "falrpc_server.emulator")
    program = f"import sys, falrpc_server.app; print([name for name in {unwanted} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=_env()
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def _env() -> dict[str, str]:
    paths = [str(ROOT), str(ROOT.parent / "generated" / "python")]
    return {"PYTHONPATH": ":".join(paths), "PATH": "/usr/bin:/bin"}

"""check-config --explain: what the policy makes of a call, told to an operator."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from falrpc_server.cli import app

Explain = Callable[..., Any]

POLICY = """
[tenants.media]
fal_key_file = "KEY"
weight = 2
calls_in_flight_max = 50
streams_in_flight_max = 20
calls_per_second = 10
burst = 20
uploads_in_flight_max = 3
upload_bytes_max = 1000

[[rules]]
identities = ["web", "spiffe://prod.example/web/*"]
tenant = "media"
rpcs = ["Run", "Submit", "Status", "Subscribe", "Upload"]
endpoints = ["fal-ai/flux", "workflows/me"]
priority_max = "low"
store_io = false
webhook_hosts = ["hooks.example.com"]
lifecycle_seconds_max = 60
access_control = "forbidden"
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """The policy file."""
    path = tmp_path / "policy.toml"
    path.write_text(POLICY.replace("KEY", str(tmp_path / "media.key")))
    (tmp_path / "media.key").write_text("id:secret-of-media")
    (tmp_path / "handles.keys").write_text("k" * 32)
    return path


@pytest.fixture
def explain(policy: Path, monkeypatch: pytest.MonkeyPatch) -> Explain:
    """Runs check-config --explain with the policy file, and with settings on top."""

    def run(*arguments: str, **settings: str) -> Any:
        environment = {"FAL_KEY": "id:hidden-half", "FALRPC_POLICY_FILE": str(policy)} | settings
        environment |= {"COLUMNS": "200", "NO_COLOR": "1"}
        return CliRunner().invoke(app, ["check-config", "--explain", *arguments], env=environment)

    monkeypatch.setenv("FALRPC_AUTH", "none")
    return run


def without_note(output: str) -> str:
    return "".join(line + "\n" for line in output.splitlines() if not line.startswith("  note "))


def test_an_allowed_call(explain: Explain, policy: Path) -> None:
    """Verdict, identity, rule, tenant, key, method, endpoint, what is forced and the limits, in this order."""
    explained = explain("spiffe://prod.example/web/shop", "Submit", "fal-ai/flux/dev")
    assert explained.exit_code == 0, explained.stderr
    assert (
        without_note(explained.stdout)
        == f"""\
ALLOWED
  identity  spiffe://prod.example/web/shop
  rule      {policy}:12: rules[0]
            by spiffe://prod.example/web/*, and another
  tenant    media
  fal key   in {policy.parent}/media.key
  rpc       Submit: allowed
            the rule allows Run, Submit, Status, Subscribe, Upload
  endpoint  fal-ai/flux/dev: allowed by fal-ai/flux
  options   store_io is false (forced)
            priority is low (forced)
            webhooks go to hooks.example.com
            files are kept for 60 s at most (forced)
            callers do not say who may read files
  limits    50 calls at once
            10 calls a second, 20 at once
            weight 2
"""
    )


def test_a_refused_call(explain: Explain, policy: Path) -> None:
    """The verdict says the status and its reason; all that is refused is shown, with what would be allowed."""
    explained = explain("web", "Cancel", "fal-ai/flux-pro")
    assert explained.exit_code == 1
    assert (
        without_note(explained.stdout)
        == f"""\
REFUSED: PERMISSION_DENIED, RPC_NOT_ALLOWED
  identity  web
  rule      {policy}:12: rules[0]
            by web, and another
  tenant    media
  fal key   in {policy.parent}/media.key
  rpc       Cancel: NOT ALLOWED
            the rule allows Run, Submit, Status, Subscribe, Upload
  endpoint  fal-ai/flux-pro: NOT ALLOWED
            the rule allows fal-ai/flux, workflows/me
"""
    )


def test_a_refused_endpoint(explain: Explain) -> None:
    """An allowed method at an endpoint that is not allowed is refused for the endpoint."""
    explained = explain("web", "Run", "fal-ai/flux-pro")
    assert (explained.exit_code, explained.stdout.splitlines()[0]) == (
        1,
        "REFUSED: PERMISSION_DENIED, ENDPOINT_NOT_ALLOWED",
    )


def test_an_unknown_identity(explain: Explain) -> None:
    """Whom no rule names is refused, with nothing else to say; control characters do not steer the terminal."""
    explained = explain("web2\x1b[2J", "Run", "fal-ai/flux")
    assert explained.exit_code == 1
    assert without_note(explained.stdout) == (
        "REFUSED: PERMISSION_DENIED, CALLER_NOT_ALLOWED\n"
        "  identity  web2\ufffd[2J\n"
        "  rule      the only one does not match\n"
    )


@pytest.mark.parametrize(
    ("rpc", "shown", "hidden"),
    [
        ("Run", ["store_io", "files", "50 calls"], ["priority", "webhooks", "20 streams", "uploads"]),
        ("Status", ["as the caller says", "50 calls"], ["store_io", "priority", "files", "streams"]),
        ("Subscribe", ["store_io", "priority", "webhooks", "20 streams"], ["50 calls", "uploads"]),
        ("Upload", ["files", "3 uploads", "1000 bytes", "has none"], ["store_io", "priority", "streams"]),
    ],
)
def test_only_what_applies(explain: Explain, rpc: str, shown: list[str], hidden: list[str]) -> None:
    """Options and limits of other methods are left out."""
    explained = explain("web", rpc, "-" if rpc == "Upload" else "fal-ai/flux")
    assert explained.exit_code == 0, explained.stderr
    assert [text for text in shown if text not in explained.stdout] == []
    assert [text for text in hidden if text in explained.stdout] == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("web", "run", "fal-ai/flux"), ["'run' is no method of FalService; Run?"]),
        (("web", "Foo", "fal-ai/flux"), ["'Foo' is no method of FalService: it has Run, Submit,"]),
        (("web", "Run", "fal-ai"), ["ENDPOINT: 'fal-ai' must have at least 2 parts"]),
        (("web", "Run", "-"), ["ENDPOINT: '-' must be owner/alias"]),
        (("web", "run", "a//b"), ["'run' is no method", "ENDPOINT: 'a//b' must be"]),
        (("web", "Run"), ["requires 3 arguments"]),
    ],
)
def test_bad_arguments(explain: Explain, arguments: tuple[str, ...], told: list[str]) -> None:
    """A method or an endpoint that can't be is told apart from a refusal: exit code 2, nothing on stdout."""
    explained = explain(*arguments)
    assert (explained.exit_code, explained.stdout) == (2, "")
    assert [text for text in told if text not in explained.stderr] == []


def test_without_a_policy_file(explain: Explain) -> None:
    """Without a file everyone may do everything, and the explanation says so."""
    explained = explain("web", "StreamWorkflow", "workflows/a/b", FALRPC_POLICY_FILE="")
    assert explained.exit_code == 0
    for line in ("rule      no policy file", "tenant    default", "the rule allows every method"):
        assert line in explained.stdout
    assert "fal key   the server's, FAL_KEY" in explained.stdout
    assert "hidden-half" not in explained.stdout


def test_identities_that_nobody_has(explain: Explain) -> None:
    """Without authentication every caller is anonymous, and an explanation for another one says so."""
    assert "every caller is anonymous" in explain("web", "Run", "fal-ai/flux").stdout
    assert "every caller is anonymous" not in explain("anonymous", "Run", "fal-ai/flux").stdout
    tokens = {"FALRPC_AUTH": "tokens", "FALRPC_TOKENS_FILE": "/etc/tokens"}
    assert "every caller is anonymous" not in explain("web", "Run", "fal-ai/flux", **tokens).stdout


@pytest.mark.parametrize(
    "command", [["serve"], ["check-config"], ["check-config", "--explain", "web", "Run", "a/b"]]
)
def test_a_bad_policy_file(command: list[str], policy: Path) -> None:
    """serve, check-config and --explain tell all mistakes of settings and policy together, and exit 2."""
    policy.write_text(POLICY.replace('"Run"', '"run"').replace("weight = 2", "weight = 0"))
    environment = {"FAL_KEY": "id:secret", "FALRPC_POLICY_FILE": str(policy)}
    bad = CliRunner().invoke(app, command, env=environment)
    assert (bad.exit_code, bad.stdout) == (2, "")
    both = CliRunner().invoke(app, command, env=environment | {"FALRPC_DRAIN_SECONDS": "long"})
    assert (both.exit_code, both.stdout) == (2, "")
    assert "FALRPC_DRAIN_SECONDS: " in both.stderr
    for told in (bad.stderr, both.stderr):
        assert f"{policy}:2: tenants.media.weight: must be" in told
        assert f"{policy}:12: rules[0].rpcs[0]: 'run' is no method of FalService; Run?" in told


def test_a_bad_policy_file_that_a_settings_file_names(policy: Path, tmp_path: Path) -> None:
    """The policy file of a settings file with a mistake is looked at, too."""
    policy.write_text("")
    settings = tmp_path / "falrpc.toml"
    settings.write_text(f'policy_file = "{policy}"\ndrain_seconds = "long"\n')
    bad = CliRunner().invoke(app, ["check-config", "--config", str(settings)], env={"FAL_KEY": "id:secret"})
    assert bad.exit_code == 2
    assert "FALRPC_DRAIN_SECONDS: " in bad.stderr
    assert f"{policy}: tenants: is required" in bad.stderr


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "No such file"),
        (b"\xff", "is no UTF-8 text"),
        (b"#" * (16 * 1024 * 1024 + 1), "is larger than 16777216 bytes"),
    ],
)
def test_a_policy_file_that_is_none(explain: Explain, policy: Path, content: bytes | None, told: str) -> None:
    """A file that is missing, no text or endless is named with its setting, and nothing is allowed."""
    policy.unlink()
    if content is not None:
        policy.write_bytes(content)
    bad = explain("web", "Run", "fal-ai/flux")
    assert (bad.exit_code, bad.stdout) == (2, "")
    assert f"FALRPC_POLICY_FILE: {policy}: " in bad.stderr
    assert told in bad.stderr


def test_what_settings_and_policy_do_not_agree_on(explain: Explain, policy: Path) -> None:
    """Several tenants need keys for handles, and a tenant with the server's key needs that key."""
    policy.write_text(policy.read_text() + '[tenants.other]\nfal_key_from = "server"\n')
    bad = explain("web", "Run", "fal-ai/flux", FAL_KEY="", FALRPC_FAL_KEY_FROM="caller")
    assert bad.exit_code == 2
    assert "FAL_KEY: is required for tenants.other" in bad.stderr
    assert "FALRPC_OWNERSHIP_KEYS_FILE: is required for the 2 tenants" in bad.stderr
    assert (
        explain(
            "web",
            "Run",
            "fal-ai/flux",
            FALRPC_OWNERSHIP_KEYS_FILE=str(policy.with_name("handles.keys")),
            FAL_KEY="id:x",
        ).exit_code
        == 0
    )


def test_a_tenant_that_says_nothing_has_the_key_of_the_settings(explain: Explain, policy: Path) -> None:
    """FALRPC_FAL_KEY_FROM=caller holds for tenants, too: none of them falls back to the server's key."""
    policy.write_text(POLICY.replace('fal_key_file = "KEY"', ""))
    told = explain("web", "Run", "fal-ai/flux", FAL_KEY="", FALRPC_FAL_KEY_FROM="caller").stdout
    assert "fal key   the caller's, x-fal-key" in told

"""Settings: sources, checks, secrets (docs/configuration.md)."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from falrpc_server import config
from falrpc_server.config import ConfigError, Settings
from falrpc_server.config.sources import load

Set = Callable[..., None]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Set:
    """An environment with a key and no other setting; calling it adds variables, None removes one."""
    for name in list(os.environ):
        if name.upper().startswith(("FALRPC_", "FAL_")):
            monkeypatch.delenv(name)

    def set_all(**variables: str | None) -> None:
        for name, value in variables.items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)

    set_all(FAL_KEY="id:s3cret")
    return set_all


def problems(file: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(file)
    return caught.value.problems


def test_a_key_is_all_that_is_needed(environment: Set) -> None:
    """With a key alone the service starts on loopback with fal's own hosts and reflection."""
    settings = load()
    assert (settings.key, settings.listen, settings.fal_run_url) == (
        "id:s3cret",
        "127.0.0.1:50051",
        "https://fal.run",
    )
    assert settings.is_loopback
    assert settings.offers_reflection


def test_every_problem_is_listed_at_once(environment: Set) -> None:
    """One start tells all that is wrong, each sentence naming its variable."""
    environment(
        FAL_KEY=None,
        FALRPC_LISTEN="nowhere",
        FALRPC_FAL_RUN_URL="http://fal.run",
        FALRPC_CONNECT_SECONDS="-1",
        FALRPC_LOOP="turbo",
        FALRPC_LISSEN="x",
        FALRPC_INPUT_BYTES_MAX="99999999",
    )
    named = sorted(problem.split(":")[0] for problem in problems())
    assert named == [
        "FALRPC_CONNECT_SECONDS",
        "FALRPC_FAL_RUN_URL",
        "FALRPC_INPUT_BYTES_MAX",
        "FALRPC_LISSEN",
        "FALRPC_LISTEN",
        "FALRPC_LOOP",
        "FAL_KEY",
    ]


def test_a_mistyped_variable_is_told_its_neighbour(environment: Set) -> None:
    """A variable that is no setting is a problem, with the one that was probably meant."""
    environment(FALRPC_LISSEN="127.0.0.1:1")
    assert problems() == ["FALRPC_LISSEN: there is no such setting; FALRPC_LISTEN?"]


# The key


def test_two_halves_make_a_key(environment: Set) -> None:
    """FAL_KEY_ID and FAL_KEY_SECRET are joined with a colon; FAL_KEY wins over them."""
    environment(FAL_KEY=None, FAL_KEY_ID="id", FAL_KEY_SECRET="half")
    assert load().key == "id:half"
    environment(FAL_KEY="whole:key")
    assert load().key == "whole:key"


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        pytest.param({}, "FAL_KEY", id="none"),
        pytest.param({"FAL_KEY": ""}, "FAL_KEY", id="empty"),
        pytest.param({"FAL_KEY_ID": "id"}, "FAL_KEY_SECRET", id="no-secret"),
        pytest.param({"FAL_KEY_SECRET": "s"}, "FAL_KEY_ID", id="no-id"),
        pytest.param({"FAL_KEY": "id:a b"}, "FAL_KEY", id="space"),
        pytest.param({"FAL_KEY": "id:a\nX-Evil: 1"}, "FAL_KEY", id="newline"),
        pytest.param({"FAL_KEY": "id:ü"}, "FAL_KEY", id="not-ascii"),
        pytest.param({"FAL_KEY_FILE": "/does/not/exist"}, "FAL_KEY_FILE", id="no-file"),
    ],
)
def test_bad_keys(environment: Set, variables: dict[str, str], named: str) -> None:
    """A key that is missing, halved or unfit for a header is a problem that names it and not its value."""
    environment(FAL_KEY=None)
    environment(**variables)
    found = problems()
    assert named in [problem.split(":")[0] for problem in found]
    assert "Evil" not in str(found)


def test_keys_from_files(environment: Set, tmp_path: Path) -> None:
    """A file gives the key without its line end, and the variable itself wins over the file."""
    file = tmp_path / "key"
    file.write_text("file:key\n")
    environment(FAL_KEY=None, FAL_KEY_FILE=str(file))
    assert load().key == "file:key"
    environment(FAL_KEY="env:key")
    assert load().key == "env:key"
    environment(FAL_KEY=None, FAL_KEY_FILE=None, FAL_KEY_ID="id", FAL_KEY_SECRET_FILE=str(file))
    assert load().key == "id:file:key"


def test_an_empty_variable_does_not_hide_a_file(environment: Set, tmp_path: Path) -> None:
    """`FAL_KEY=` as compose files write it does not shadow the file that has the key."""
    (tmp_path / "key").write_text("file:key")
    environment(FAL_KEY="", FAL_KEY_FILE=str(tmp_path / "key"))
    assert load().key == "file:key"


def test_secrets_are_never_shown(environment: Set) -> None:
    """No text form of the settings contains a secret, and check-config's table does not either."""
    environment(FAL_KEY_ID="other-id", FAL_KEY_SECRET="other-s3cret")
    settings = load()
    for text in (repr(settings), str(settings), settings.model_dump_json(), str(config.effective(settings))):
        assert "s3cret" not in text
        assert "other-id" not in text
    assert dict(config.effective(settings))["FAL_KEY"] == "(set)"


def test_a_bad_secret_is_not_shown_either(environment: Set, tmp_path: Path) -> None:
    """A problem with a secret from a TOML file does not quote it."""
    file = tmp_path / "c.toml"
    file.write_text('fal_key = ["s3cret"]\n')
    environment(FAL_KEY=None)
    assert "s3cret" not in str(problems(file))


# Sources


def test_environment_before_file_before_default(environment: Set, tmp_path: Path) -> None:
    """A variable wins over the TOML file, and the file over the default."""
    file = tmp_path / "falrpc.toml"
    file.write_text('drain_seconds = 7\nheartbeat_seconds = 3\nupload_hosts = ["a.example", "b.example"]\n')
    environment(FALRPC_DRAIN_SECONDS="9")
    settings = load(file)
    assert (settings.drain_seconds, settings.heartbeat_seconds, settings.connect_seconds) == (9.0, 3.0, 5.0)
    assert settings.upload_hosts == ("a.example", "b.example")


def test_the_file_may_be_named_by_a_variable(environment: Set, tmp_path: Path) -> None:
    """FALRPC_CONFIG names the file unless an argument does."""
    for name, seconds in (("one", 1), ("two", 2)):
        (tmp_path / name).write_text(f"drain_seconds = {seconds}\n")
    environment(FALRPC_CONFIG=str(tmp_path / "one"))
    assert load().drain_seconds == 1
    assert load(tmp_path / "two").drain_seconds == 2


def test_a_file_may_hold_the_key(environment: Set, tmp_path: Path) -> None:
    """The TOML file may give the key, and a secret file wins over it."""
    (tmp_path / "c.toml").write_text('fal_key = "toml:key"\n')
    (tmp_path / "key").write_text("file:key")
    environment(FAL_KEY=None)
    assert load(tmp_path / "c.toml").key == "toml:key"
    environment(FAL_KEY_FILE=str(tmp_path / "key"))
    assert load(tmp_path / "c.toml").key == "file:key"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("lissten = 1\n", "lissten", id="unknown-name"),
        pytest.param("drain_seconds = \n", "line 1", id="bad-toml"),
        pytest.param(None, "No such file", id="no-file"),
        pytest.param("drain_seconds = 'soon'\n", "FALRPC_DRAIN_SECONDS", id="bad-value"),
    ],
)
def test_bad_files(environment: Set, tmp_path: Path, text: str | None, told: str) -> None:
    """A file that is missing, broken or names what is no setting is a problem that says so."""
    file = tmp_path / "c.toml"
    if text is not None:
        file.write_text(text)
    found = problems(file)
    assert len(found) == 1
    assert told in found[0]


# Rules


@pytest.mark.parametrize(
    ("listen", "is_loopback"),
    [
        ("127.0.0.1:0", True),
        ("127.9.9.9:1", True),
        ("localhost:50051", True),
        ("[::1]:50051", True),
        ("0.0.0.0:50051", False),
        ("[::]:50051", False),
        ("10.0.0.1:1", False),
        ("localhost.evil.com:1", False),
    ],
)
def test_only_loopback_is_open_without_saying_so(environment: Set, listen: str, is_loopback: bool) -> None:
    """A listener that others reach needs FALRPC_AUTH=none, and offers no reflection by itself."""
    environment(FALRPC_LISTEN=listen)
    if is_loopback:
        assert load().offers_reflection
    else:
        assert [problem.split(":")[0] for problem in problems()] == ["FALRPC_AUTH"]
        environment(FALRPC_AUTH="none")
        assert not load().offers_reflection


@pytest.mark.parametrize("listen", ["50051", ":50051", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "h:65536"])
def test_bad_listeners(environment: Set, listen: str) -> None:
    """A listener is host and port, both given."""
    environment(FALRPC_LISTEN=listen)
    assert [problem.split(":")[0] for problem in problems()] == ["FALRPC_LISTEN"]


@pytest.mark.parametrize("name", ["FAL_RUN_URL", "FAL_QUEUE_URL", "FAL_REST_URL", "EMULATOR_URL"])
@pytest.mark.parametrize(
    "url",
    [
        "http://fal.run",
        "http://localhost.evil.com",
        "ftp://127.0.0.1",
        "fal.run",
        "https://",
        "https://u:p@fal.run",
        "https://fal.run?x=1",
        "https://fal.run#x",
        "https://fal.run:x",
    ],
)
def test_the_key_goes_over_tls_or_nowhere(environment: Set, name: str, url: str) -> None:
    """A host for the key is https, or http on this machine, and a bare base URL."""
    environment(**{f"FALRPC_{name}": url})
    assert [problem.split(":")[0] for problem in problems()] == [f"FALRPC_{name}"]


def test_urls_that_are_fine(environment: Set) -> None:
    """Plain http to loopback is fine for an emulator, and a trailing slash is dropped."""
    environment(FALRPC_EMULATOR_URL="http://127.0.0.1:8080/", FALRPC_FAL_RUN_URL="https://proxy.example/fal/")
    settings = load()
    assert (settings.emulator_url, settings.fal_run_url) == (
        "http://127.0.0.1:8080",
        "https://proxy.example/fal",
    )


def test_upload_hosts_are_a_list(environment: Set) -> None:
    """Hosts are given comma-separated, in any case and with spaces."""
    environment(FALRPC_UPLOAD_HOSTS=" fal.media, S3.Example ,")
    assert load().upload_hosts == ("fal.media", "s3.example")


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"FALRPC_INPUT_BYTES_MAX": "100", "FALRPC_RECEIVE_BYTES_MAX": "99"}, "FALRPC_INPUT_BYTES_MAX"),
        ({"FALRPC_OUTPUT_BYTES_MAX": "100", "FALRPC_SEND_BYTES_MAX": "100"}, "FALRPC_OUTPUT_BYTES_MAX"),
        ({"FALRPC_POLL_FIRST_SECONDS": "6"}, "FALRPC_POLL_FIRST_SECONDS"),
        ({"FALRPC_CONNECT_SECONDS": "0"}, "FALRPC_CONNECT_SECONDS"),
        ({"FALRPC_CONNECT_SECONDS": "nan"}, "FALRPC_CONNECT_SECONDS"),
        ({"FALRPC_CONNECT_SECONDS": "inf"}, "FALRPC_CONNECT_SECONDS"),
        ({"FALRPC_HEARTBEAT_SECONDS": "nan"}, "FALRPC_HEARTBEAT_SECONDS"),
        ({"FALRPC_DRAIN_SECONDS": "-1"}, "FALRPC_DRAIN_SECONDS"),
        ({"FALRPC_CONNECTIONS_MAX": "0"}, "FALRPC_CONNECTIONS_MAX"),
        ({"FALRPC_SEND_BYTES_MAX": "2147483648"}, "FALRPC_SEND_BYTES_MAX"),
        ({"FALRPC_AUTH": "kerberos"}, "FALRPC_AUTH"),
        ({"FALRPC_AUTH": "none,tokens", "FALRPC_TOKENS_FILE": "t"}, "FALRPC_AUTH"),
        ({"FALRPC_TOKENS_FILE": "t"}, "FALRPC_TOKENS_FILE"),
        ({"FALRPC_AUTH": "tokens"}, "FALRPC_TOKENS_FILE"),
        ({"FALRPC_TLS_KEY_FILE": "k"}, "FALRPC_TLS_CERTIFICATE_FILE"),
        ({"FALRPC_FORWARDED_CERTIFICATE_FROM": "here"}, "FALRPC_FORWARDED_CERTIFICATE_FROM"),
        ({"FALRPC_JWT_ALGORITHMS": "HS256"}, "FALRPC_JWT_ALGORITHMS"),
        ({"FALRPC_JWT_ALGORITHMS": "none"}, "FALRPC_JWT_ALGORITHMS"),
        ({"FALRPC_WORKERS": "0"}, "FALRPC_WORKERS"),
    ],
)
def test_limits_must_make_sense(environment: Set, variables: dict[str, str], named: str) -> None:
    """A limit outside its range, or at odds with another, is a problem of that setting."""
    environment(**variables)
    assert [problem.split(":")[0] for problem in problems()] == [named]


def test_settings_are_frozen(environment: Set) -> None:
    """Once read, nothing changes."""
    settings = load()
    with pytest.raises(ValidationError):
        settings.listen = "0.0.0.0:1"


def test_every_setting_is_documented() -> None:
    """Each setting has a sentence that ends as one."""
    for name, field in Settings.model_fields.items():
        assert (field.description or "").endswith("."), name


@pytest.mark.parametrize(
    "location",
    [
        "/etc/falrpc/jwks.json",
        "https://issuer.example/keys?p=b2c",
        "http://127.0.0.1:1/keys",
        "http://[::1]/keys",
    ],
)
def test_where_keys_of_jwts_may_be(environment: Set, location: str) -> None:
    """A file, an https URL, or http on loopback."""
    environment(FALRPC_AUTH="jwt", FALRPC_JWT_ISSUER="i", FALRPC_JWT_AUDIENCE="a", FALRPC_JWT_JWKS=location)
    assert load().jwt_jwks == location


@pytest.mark.parametrize(
    "location",
    [
        "http://issuer.example/keys",
        "http://127.0.0.1@evil.example/keys",
        "https://user:secret@issuer.example/keys",
        "https://issuer.example/keys#a",
        "https://issuer.example/keys?a#b",
        "https:///keys",
        "file:///etc/keys",
    ],
)
def test_where_keys_of_jwts_may_not_be(environment: Set, location: str) -> None:
    """Keys are not believed that come over http, nor from a URL that may mean another host."""
    environment(FALRPC_AUTH="jwt", FALRPC_JWT_ISSUER="i", FALRPC_JWT_AUDIENCE="a", FALRPC_JWT_JWKS=location)
    found = problems()
    assert found[0].startswith("FALRPC_JWT_JWKS: must ")
    assert "secret" not in "".join(found)

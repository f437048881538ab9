"""A service whose files are not right does not start: it says everything that is wrong, and no secret."""

import asyncio
import datetime
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests import canary
from tests.certificates import Authority
from tests.conftest import KEY
from tests.jwt_making import Signer, jwk_set
from tests.security.guarded import Files
from tests.service.raw_server import answering
from typer.testing import CliRunner, Result

from falrpc_server.cli import app

POLICY = (
    '[tenants.shop]\n[[rules]]\nidentities = ["**"]\ntenant = "shop"\nrpcs = ["Run"]\nendpoints = ["*"]\n'
)

Settings = dict[str, str]


def variables(settings: dict[str, object]) -> Settings:
    """Settings as the environment has them."""
    return {f"FALRPC_{name.upper()}": str(value) for name, value in settings.items() if value}


def started(command: str = "serve", **environment: str) -> "subprocess.CompletedProcess[str]":
    """Starts the service, which must end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "falrpc_server", command],
        env={"PATH": "", "PYTHONPATH": ":".join(sys.path), "FALRPC_LISTEN": "127.0.0.1:0", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def invoked(command: str, **environment: str) -> Result:
    """The same in this process, which is soon done. Were it to start, its port would be taken: that ends it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        return CliRunner().invoke(app, [command], env={"FALRPC_LISTEN": listen, **environment})


def tls(files: Files) -> Settings:
    return variables(files.tls(mutual=True))


def expired(files: Files) -> Settings:
    settings = tls(files)
    key, chain = files.authority.issue(ips=["127.0.0.1"], ends=-datetime.timedelta(hours=1))
    files.write("server.key", key)
    files.write("server.pem", chain)
    return settings


def expired_authority(files: Files) -> Settings:
    _, certificate = files.authority.issue(is_authority=True, ends=-datetime.timedelta(hours=1))
    settings = tls(files)
    files.write("clients.pem", certificate)
    return settings


def mismatched(files: Files) -> Settings:
    settings = tls(files)
    files.write("server.key", files.authority.issue(ips=["127.0.0.1"])[0])
    return settings


def with_policy(text: str | bytes) -> Callable[[Files], Settings]:
    return lambda files: variables({"policy_file": files.write("policy.toml", text)})


def with_tokens(text: str | bytes) -> Callable[[Files], Settings]:
    return lambda files: variables({"auth": "tokens", "tokens_file": files.write("tokens.toml", text)})


def with_keys(text: str) -> Callable[[Files], Settings]:
    return lambda files: {
        "FALRPC_AUTH": "jwt",
        "FALRPC_JWT_ISSUER": "https://issuer.example",
        "FALRPC_JWT_AUDIENCE": "falrpc",
        "FALRPC_JWT_JWKS": files.write("keys.json", text),
    }


def with_ownership(text: str) -> Callable[[Files], Settings]:
    return lambda files: variables({"ownership_keys_file": files.write("ownership.keys", text)})


def missing(name: str, **more: str) -> Callable[[Files], Settings]:
    return lambda files: variables({name: files.directory / "not-there", **more})


TWO_TENANTS = POLICY.replace('"**"', '"a"') + POLICY.replace("shop", "other")
OF_A_FILE = POLICY.replace(
    "[tenants.shop]", '[tenants.shop]\nfal_key_from = "file"\nfal_key_file = "/not/there"'
)

BAD: dict[str, tuple[Callable[[Files], Settings], str]] = {
    "no policy": (missing("policy_file"), "FALRPC_POLICY_FILE"),
    "a policy that is no TOML": (with_policy("[tenants"), "policy.toml"),
    "a policy that is no text": (with_policy(b"\xff\xfe"), "FALRPC_POLICY_FILE"),
    "an empty policy": (with_policy(""), "policy.toml"),
    "a policy that allows any method": (with_policy(POLICY.replace('"Run"', '"*"')), "rpcs"),
    "a policy with a mistyped key": (with_policy(POLICY + "store_ios = true\n"), "store_ios"),
    "tenants without ownership keys": (with_policy(TWO_TENANTS), "FALRPC_OWNERSHIP_KEYS_FILE"),
    "a tenant without its key": (with_policy(OF_A_FILE), "/not/there"),
    "an expired certificate": (expired, "has expired"),
    "an expired authority": (expired_authority, "FALRPC_TLS_CLIENT_CA_FILE"),
    "another key than the certificate's": (mismatched, "is not the key of"),
    "no certificate": (
        missing("tls_certificate_file", tls_key_file="/not/there"),
        "FALRPC_TLS_CERTIFICATE_FILE",
    ),
    "tokens that are none": (with_tokens("[[tokens]]\nidentity = 3"), "tokens[0].identity"),
    "no tokens in the file": (with_tokens(""), "tokens"),
    "plain tokens": (with_tokens('[[tokens]]\nidentity = "a"\nsha256 = "c4n4ry-token"'), "tokens[0].sha256"),
    "no file of tokens": (missing("tokens_file", auth="tokens"), "FALRPC_TOKENS_FILE"),
    "keys that are none": (with_keys("{}"), "FALRPC_JWT_JWKS"),
    "private keys": (with_keys(jwk_set(Signer("ES256", "a").jwk(private=True))), "FALRPC_JWT_JWKS"),
    "short ownership keys": (with_ownership("c4n4ry"), "FALRPC_OWNERSHIP_KEYS_FILE"),
    "no file of ownership keys": (missing("ownership_keys_file"), "FALRPC_OWNERSHIP_KEYS_FILE"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(tmp_path: Path, name: str) -> None:
    """serve and check-config name the file and what is wrong with it, and end with exit code 2."""
    make, told = BAD[name]
    environment = make(Files(tmp_path)) | {"FAL_KEY": KEY}
    for command in ("serve", "check-config"):
        ended = invoked(command, **environment)
        assert ended.exit_code == 2, (command, ended)
        assert told in ended.stderr, command
        assert "server.started" not in ended.stdout
        shows_nothing(ended)


def shows_nothing(ended: "subprocess.CompletedProcess[str] | Result") -> None:
    """Whether no secret, and no inside of the program, is in what it wrote."""
    canary.heard("the program's output", ended.stdout + ended.stderr)
    for text in (ended.stdout, ended.stderr):
        assert "PRIVATE KEY" not in text
        assert "Traceback" not in text


def test_good_files(tmp_path: Path) -> None:
    """With all files as they should be check-config ends well, and shows no secret either."""
    files = Files(tmp_path)
    environment = tls(files) | with_tokens("")(files) | with_policy(TWO_TENANTS)(files)
    environment |= {"FALRPC_TOKENS_FILE": files.tokens({"a": "c4n4ry-token-of-a"}), "FAL_KEY": KEY}
    environment["FALRPC_OWNERSHIP_KEYS_FILE"] = files.ownership_keys()
    ended = started("check-config", **environment)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "FAL_KEY=(set)" in ended.stdout
    shows_nothing(ended)


def test_everything_at_once(tmp_path: Path) -> None:
    """All that is wrong is told in one go, each with its setting: mistyped ones, values, files, what is missing."""
    files = Files(tmp_path)
    environment = expired(files) | with_policy("x = 1")(files) | with_tokens("x = 1")(files)
    environment |= {"FALRPC_LOOP": "twisted", "FALRPC_POLICY_FIL": "x", "FAL_KEY_ID": "c4n4ry"}
    environment |= {"FALRPC_JWT_ISSUER": "x", "FALRPC_OWNERSHIP_KEYS_FILE": str(tmp_path / "not-there")}
    ended = started(**environment)
    assert ended.returncode == 2
    for told in (
        "FALRPC_LOOP", "FALRPC_POLICY_FIL:", "FALRPC_JWT_ISSUER", "FALRPC_OWNERSHIP_KEYS_FILE", "FAL_KEY_SECRET: is required",
        "has expired", "policy.toml", "tokens.toml",
    ):  # fmt: skip
        assert told in ended.stderr, told
    shows_nothing(ended)


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, "FAL_KEY: is required"),
        ({"FAL_KEY": ""}, "FAL_KEY: is required"),
        ({"FAL_KEY": "c4n4ry key"}, "FAL_KEY: must be printable"),
        ({"FAL_KEY_ID": "c4n4ry"}, "FAL_KEY_SECRET: is required"),
        ({"FAL_KEY_FILE": "/not/there"}, "FAL_KEY_FILE: /not/there"),
        ({"FAL_KEY": KEY, "FALRPC_LISTEN": "0.0.0.0:0"}, "FALRPC_AUTH: is required"),
        ({"FAL_KEY": KEY, "FALRPC_AUTH": "none,tokens"}, "do not go together"),
        ({"FAL_KEY": KEY, "FALRPC_AUTH": "basic"}, "FALRPC_AUTH"),
        ({"FAL_KEY": KEY, "FALRPC_FAL_RUN_URL": "http://fal.run"}, "FALRPC_FAL_RUN_URL: must be https"),
        ({"FAL_KEY": KEY, "FALRPC_AUTH": "jwt", "FALRPC_JWT_JWKS": "http://a.b/"}, "FALRPC_JWT_JWKS"),
    ],
)
def test_bad_settings(environment: Settings, told: str) -> None:
    """A key that is missing or none, a port that is open to all by mistake: the service does not start."""
    ended = invoked("serve", **environment)
    assert (ended.exit_code, told in ended.stderr) == (2, True), ended.stderr
    shows_nothing(ended)


@pytest.mark.parametrize("status", [0, 503, 302])
async def test_an_issuer_that_is_out_at_the_start(tmp_path: Path, unused_port: int, status: int) -> None:
    """Without the keys of callers' JWTs nobody could be told from anybody: the service does not start."""
    head = f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\nlocation: http://127.0.0.1:1/\r\nconnection: close\r\n\r\n"
    environment = with_keys("{}")(Files(tmp_path)) | {"FAL_KEY": KEY}
    async with answering(head.encode()) as url:
        environment["FALRPC_JWT_JWKS"] = f"{url if status else f'http://127.0.0.1:{unused_port}'}/keys"
        ended = await asyncio.to_thread(lambda: started(**environment))
    assert ended.returncode == 2
    failed = [json.loads(line) for line in ended.stdout.splitlines() if "server.failed" in line]
    assert any("FALRPC_JWT_JWKS" in problem for line in failed for problem in line["problems"])
    assert "server.started" not in ended.stdout
    shows_nothing(ended)


def test_an_authority_of_nobody(tmp_path: Path) -> None:
    """A directory, or another key, in place of a certificate is none."""
    files = Files(tmp_path)
    for path in (str(tmp_path), files.write("key", Authority().issue()[0])):
        ended = invoked("serve", **(tls(files) | {"FALRPC_TLS_CLIENT_CA_FILE": path, "FAL_KEY": KEY}))
        assert (ended.exit_code, "FALRPC_TLS_CLIENT_CA_FILE" in ended.stderr) == (2, True)
        shows_nothing(ended)

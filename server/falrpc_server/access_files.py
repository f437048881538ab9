"""What the gate and the listener know from files: read and checked at the start, and again when they change.

It knows where each of them stands in the settings, and nothing of grpc.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic import SecretStr

from falrpc_server import tls_files
from falrpc_server.access.authentication import (
    Authentication,
    Authenticator,
    ByCertificate,
    ByForwardedCertificate,
    ByJwt,
    ByToken,
)
from falrpc_server.access.certificates import IdentityRule
from falrpc_server.access.gate import Gate
from falrpc_server.access.jwk_sets import FixedKeys, Keys, KeySet, KeySetError
from falrpc_server.access.jwts import JwtRules
from falrpc_server.access.ownership import Ownership, read_keys
from falrpc_server.access.policy import Policy, PolicyError
from falrpc_server.access.tokens import Tokens, TokensError
from falrpc_server.config import ConfigError, Settings
from falrpc_server.config.sources import secret_files
from falrpc_server.fal_http.accounts import Account, key_problem
from falrpc_server.reloading import Files, Source
from falrpc_server.tls_files import TlsFiles

__all__ = ["AccessFiles", "problems_of"]

SERVER_ACCOUNT = "server"

_Keys = dict[str, str]


class AccessFiles:
    """Who may call what, as the files have it.

    Attributes:
        gate: What every call passes.
        tls: The listener's certificate, None for cleartext.
        sources: What is read again when it changes.
    """

    def __init__(self, settings: Settings, url_keys: Keys | None = None) -> None:
        """Reads everything. Raises ConfigError with all problems of all files.

        Args:
            settings: They name the files.
            url_keys: The keys of JWTs, where they come from a URL.
        """
        self._settings = settings
        self._tokens = ByToken(Tokens([], 0.0))
        self._jwt_keys = FixedKeys(KeySet([], []))
        self._server_account = Account(SERVER_ACCOUNT, settings.key)
        self.tls: TlsFiles | None = None
        policy = Policy.open_to_all(settings.fal_key_from)
        self.gate = Gate(
            Authentication(list(self._authenticators(url_keys or self._jwt_keys))),
            policy,
            self._accounts(policy, {}),
            Ownership(),
        )
        self.sources = self._sources()
        problems: list[str] = []
        for source in self.sources:
            try:
                source.load()
            except ConfigError as error:
                problems += error.problems
        if problems:
            raise ConfigError(problems)

    def _authenticators(self, jwt_keys: Keys) -> Iterator[Authenticator]:
        settings = self._settings
        rule = IdentityRule(settings.certificate_identity, settings.trust_domain)
        if "mtls" in settings.auth:
            yield ByCertificate(rule)
        if "forwarded-certificate" in settings.auth:
            yield ByForwardedCertificate(rule, settings.forwarded_certificate_from)
        if "tokens" in settings.auth:
            yield self._tokens
        if "jwt" in settings.auth:
            rules = JwtRules(
                issuer=settings.jwt_issuer,
                audience=settings.jwt_audience,
                algorithms=settings.jwt_algorithms,
                identity_claim=settings.jwt_identity_claim,
                skew_seconds=settings.jwt_skew_seconds,
            )
            yield ByJwt(rules, jwt_keys)

    def _sources(self) -> Sequence[Source[Any]]:
        settings = self._settings
        sources: list[Source[Any]] = []

        def add(
            name: str, is_used: object, read: Callable[[Files], Any], apply: Callable[[Any], None]
        ) -> None:
            if is_used:
                sources.append(Source(name, read, apply))

        add("certificates", settings.tls_certificate_file, self._read_tls, self._use_tls)
        add("fal key", secret_files(), self._read_server_key, self._server_account.replace_key)
        add("tokens", settings.tokens_file, self._read_tokens, self._tokens.replace)
        add("JWT keys", settings.jwks_file, self._read_jwt_keys, self._jwt_keys.replace)
        add("ownership keys", settings.ownership_keys_file, self._read_ownership, self._use_ownership)
        add("policy", settings.policy_file, self._read_policy, self._use_policy)
        return sources

    # Each pair reads and checks something, and puts it in force.

    def _read_tls(self, files: Files) -> TlsFiles:
        return tls_files.read(self._settings, files)

    def _use_tls(self, tls: TlsFiles) -> None:
        self.tls = tls

    def _read_server_key(self, files: Files) -> str:
        settings = self._settings
        problems: list[str] = []
        for name, path in secret_files().items():
            with _named(f"{name.upper()}_FILE", problems):
                settings = settings.model_copy(update={name: SecretStr(files.text(path).strip())})
        if not problems and (problem := key_problem(settings.key)):
            problems = [f"FAL_KEY: {problem}"]
        if problems:
            raise ConfigError(problems)
        return settings.key

    def _read_tokens(self, files: Files) -> Tokens:
        path = self._settings.tokens_file
        try:
            with _named("FALRPC_TOKENS_FILE"):
                return Tokens.read(files.text(path), path, time.time())
        except TokensError as error:
            raise ConfigError(error.problems) from None

    def _read_jwt_keys(self, files: Files) -> KeySet:
        path = self._settings.jwks_file
        with _named("FALRPC_JWT_JWKS"):
            content = files.bytes(path)
        try:
            return KeySet.read(content, self._settings.jwt_algorithms)
        except KeySetError as error:
            raise ConfigError([f"FALRPC_JWT_JWKS: {path}: {error}"]) from None

    def _read_ownership(self, files: Files) -> Ownership:
        path = self._settings.ownership_keys_file
        with _named("FALRPC_OWNERSHIP_KEYS_FILE"):
            text = files.text(path)
        try:
            return Ownership(read_keys(text))
        except ValueError as error:
            raise ConfigError([f"FALRPC_OWNERSHIP_KEYS_FILE: {path}: {error}"]) from None

    def _use_ownership(self, ownership: Ownership) -> None:
        self.gate.ownership = ownership

    def _read_policy(self, files: Files) -> tuple[Policy, _Keys]:
        settings, path = self._settings, self._settings.policy_file
        with _named("FALRPC_POLICY_FILE"):
            text = files.text(path)
        try:
            policy = Policy.read(text, path, settings.fal_key_from)
        except PolicyError as error:
            raise ConfigError(error.problems) from None
        keys: _Keys = {}
        problems = _disagreements(policy, settings)
        for tenant in policy.tenants.values():
            if tenant.fal_key_from == "file":
                with _named(f"{path}: tenants.{tenant.name}.fal_key_file", problems):
                    keys[tenant.name] = key = files.text(tenant.fal_key_file).strip()
                    if problem := key_problem(key):
                        raise ConfigError([f"{tenant.fal_key_file}: {problem}"])
        if problems:
            raise ConfigError(problems)
        return policy, keys

    def _use_policy(self, read: tuple[Policy, _Keys]) -> None:
        policy, keys = read
        self.gate.accounts = self._accounts(policy, keys)
        self.gate.policy = policy

    def _accounts(self, policy: Policy, keys: _Keys) -> Mapping[str, Account]:
        """The accounts of tenants. One whose key changes stays the same account."""
        paying = [name for name, tenant in policy.tenants.items() if tenant.fal_key_from == "server"]
        accounts = dict.fromkeys(paying, self._server_account)
        for name, key in keys.items():
            known = self.gate.accounts.get(name)
            if known and known is not self._server_account:
                known.replace_key(key)
                accounts[name] = known
            else:
                accounts[name] = Account(f"tenant:{name}", key)
        return accounts


def _disagreements(policy: Policy, settings: Settings) -> list[str]:
    """What the policy and the settings do not agree on."""
    problems = []
    names = [name for name, tenant in policy.tenants.items() if tenant.fal_key_from == "server"]
    if names and not (settings.fal_key or settings.fal_key_id):
        problems.append(f"FAL_KEY: is required for tenants.{names[0]}, which uses the server's key")
    if len(policy.tenants) > 1 and not settings.ownership_keys_file:
        problems.append(
            f"FALRPC_OWNERSHIP_KEYS_FILE: is required for the {len(policy.tenants)} tenants of "
            f"{settings.policy_file}: else each reads and cancels the others' requests"
        )
    return problems


def problems_of(files: Mapping[str, str]) -> list[str]:
    """What is wrong with files by themselves, by setting: for when the settings do not hold together."""
    key = SecretStr("id:key-of-nobody")
    settings = Settings.model_construct(None, **files, fal_key=key)
    if not settings.tls_certificate_file or not settings.tls_key_file:
        settings = settings.model_copy(update={"tls_certificate_file": ""})
    if not settings.ownership_keys_file:
        settings = settings.model_copy(update={"ownership_keys_file": os.devnull})
    try:
        AccessFiles(settings)
    except ConfigError as error:
        return [problem for problem in error.problems if os.devnull not in problem]
    return []


@contextmanager
def _named(setting: str, problems: list[str] | None = None) -> Iterator[None]:
    """Puts the setting before what is wrong with a file: raised, or noted where `problems` are collected."""
    try:
        yield
    except ConfigError as error:
        named = [f"{setting}: {problem}" for problem in error.problems]
        if problems is None:
            raise ConfigError(named) from None
        problems += named

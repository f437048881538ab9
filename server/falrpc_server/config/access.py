"""Settings: who may call, and whose money that spends."""

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from falrpc_server.config import values
from falrpc_server.config.section import Seconds, Section

__all__ = ["Access", "access_problems"]

AuthMethod = Literal["mtls", "forwarded-certificate", "jwt", "tokens", "none"]
JwtAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]


class Access(Section):
    """Who may call, and whose money that spends."""

    auth: Annotated[tuple[AuthMethod, ...], NoDecode] = Field(
        (),
        description="How callers are authenticated, comma-separated: `mtls` (by the client's "
        "certificate), `forwarded-certificate` (by what a sidecar says of it), `jwt`, `tokens` (static "
        "ones), or `none`. `jwt` and `tokens` go together, the others alone. Empty is enough for a "
        "loopback listener; any other one needs a method, or `none` said outright: everyone who reaches "
        "the port spends the key's money.",
    )
    certificate_identity: Literal["spiffe", "dns", "common-name"] = Field(
        "spiffe",
        description="What of a client's certificate is the caller's identity: its only URI name, a SPIFFE "
        "id in `FALRPC_TRUST_DOMAIN`; its only DNS name; or its subject's common name.",
    )
    trust_domain: str = Field("", description="The trust domain of SPIFFE ids, for instance `prod.example`.")
    forwarded_certificate_from: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Networks, comma-separated, of the sidecars whose header `x-forwarded-client-cert` is "
        "believed, with `FALRPC_AUTH=forwarded-certificate`: `127.0.0.1/32,::1/128`. From elsewhere it "
        "is ignored.",
    )
    jwt_issuer: str = Field("", description="The issuer (`iss`) of callers' JWTs.")
    jwt_audience: str = Field("", description="What their audience (`aud`) must name.")
    jwt_algorithms: Annotated[tuple[JwtAlgorithm, ...], NoDecode] = Field(
        ("RS256", "ES256", "EdDSA"),
        description="The algorithms, comma-separated, that they may be signed with.",
    )
    jwt_jwks: str = Field(
        "",
        description="Where the keys are that sign them, as a JWK set: a file, or an https URL (http for "
        "loopback).",
    )
    jwt_jwks_seconds: Seconds = Field(
        300.0, description="How long keys from a URL are kept before they are read again."
    )
    jwt_jwks_stale_seconds_max: Seconds = Field(
        86_400.0, description="How long they count when they can't be read again; then no JWT is accepted."
    )
    jwt_identity_claim: str = Field("sub", description="The claim that is the caller's identity.")
    jwt_skew_seconds: float = Field(
        60.0, ge=0, le=600, description="How much the issuer's clock may differ from ours."
    )
    tokens_file: str = Field(
        "",
        description="Static tokens of callers, as hashes; `falrpc make-token` makes an entry. Read again "
        "when it changes.",
    )
    policy_file: str = Field(
        "",
        description="Who may call what: a TOML file (docs/access.md). Without one every authenticated "
        "caller may call everything. Read again when it changes.",
    )
    reload_seconds: Seconds = Field(
        5.0,
        description="How often files of certificates, keys, tokens and policies are looked at for "
        "changes. SIGHUP looks at once.",
    )
    ownership_keys_file: str = Field(
        "",
        description="Keys that sign handles, one a line, at least 32 characters each: the first one "
        "signs, all are accepted. With it a handle is good for the tenant only that submitted the "
        "request. Required for a policy with several tenants. Read again when it changes.",
    )
    fal_key_from: Literal["server", "caller"] = Field(
        "server",
        description="Whose fal key is used: the server's, or the one that each caller sends as metadata "
        "`x-fal-key`. A policy's tenants may say otherwise.",
    )
    fal_key: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("FAL_KEY", "fal_key"),
        description="The fal key, `key_id:key_secret`.",
    )
    fal_key_id: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("FAL_KEY_ID", "fal_key_id"),
        description="First half of the key, instead of `FAL_KEY`.",
    )
    fal_key_secret: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("FAL_KEY_SECRET", "fal_key_secret"),
        description="Second half of the key, instead of `FAL_KEY`.",
    )

    _jwks = field_validator("jwt_jwks")(values.key_set_location)
    _lists = field_validator("auth", "jwt_algorithms", "forwarded_certificate_from", mode="before")(
        values.comma_separated
    )
    _networks = field_validator("forwarded_certificate_from")(values.networks)

    @property
    def jwks_file(self) -> str:
        """The file of the JWTs' keys; empty where they come from a URL, or from nowhere."""
        return "" if "://" in self.jwt_jwks else self.jwt_jwks

    @property
    def key(self) -> str:
        """The server's credential for fal; empty without one."""
        if not (self.fal_key or self.fal_key_id):
            return ""
        if self.fal_key:
            return self.fal_key.get_secret_value()
        assert self.fal_key_id is not None
        assert self.fal_key_secret is not None
        return f"{self.fal_key_id.get_secret_value()}:{self.fal_key_secret.get_secret_value()}"


def access_problems(settings: Any) -> list[str]:
    """What does not go together in all the settings."""
    auth, problems = settings.auth, []
    if len(auth) > 1 and set(auth) != {"jwt", "tokens"}:
        problems.append(f"FALRPC_AUTH: {','.join(auth)} do not go together; only jwt and tokens do")
    if bool(settings.tls_certificate_file) != bool(settings.tls_key_file):
        missing = "TLS_KEY_FILE" if settings.tls_certificate_file else "TLS_CERTIFICATE_FILE"
        problems.append(f"FALRPC_{missing}: is required beside the other half")
    if settings.tls_client_ca_file and not settings.tls_certificate_file:
        problems.append("FALRPC_TLS_CERTIFICATE_FILE: is required for FALRPC_TLS_CLIENT_CA_FILE")
    if not settings.jwt_algorithms:
        problems.append("FALRPC_JWT_ALGORITHMS: must name at least one")
    by_certificate = {"mtls", "forwarded-certificate"} & set(auth)
    needed = {
        "tls_client_ca_file": "mtls" in auth,
        "trust_domain": bool(by_certificate) and settings.certificate_identity == "spiffe",
        "forwarded_certificate_from": "forwarded-certificate" in auth,
        "jwt_issuer": "jwt" in auth,
        "jwt_audience": "jwt" in auth,
        "jwt_jwks": "jwt" in auth,
        "tokens_file": "tokens" in auth,
    }
    for name, is_needed in needed.items():
        if is_needed and not getattr(settings, name):
            problems.append(f"FALRPC_{name.upper()}: is required for FALRPC_AUTH={','.join(auth)}")
        if getattr(settings, name) and not is_needed and name != "tls_client_ca_file":
            problems.append(f"FALRPC_{name.upper()}: has no effect with FALRPC_AUTH={','.join(auth)}")
    return problems

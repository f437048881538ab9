"""Settings: checked, frozen, handed down. docs/configuration.md is generated from them.

Where their values come from is config_sources.py's affair.
"""

from typing import Annotated, Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from falrpc_server import config_values

__all__ = ["ConfigError", "Settings", "effective", "variable"]

PREFIX = "FALRPC_"
FAL_RUN, FAL_RUN_BACKUP = "https://fal.run", "https://falrun.com"
FAL_QUEUE, FAL_QUEUE_BACKUP = "https://queue.fal.run", "https://queue.falrun.com"
SECRETS = ("fal_key", "fal_key_id", "fal_key_secret")

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Bytes = Annotated[int, Field(ge=1, le=2**31 - 1)]
PARTS_MAX = 10_000  # of a file
FileBytes = Annotated[int, Field(ge=1, le=2**40)]


class ConfigError(Exception):
    """The settings do not hold; `problems` has one sentence for each, naming the setting."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Settings(BaseSettings):
    """Everything that can be set. Each description is the setting's documentation."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    listen: str = Field(
        "127.0.0.1:50051",
        description="Address of the gRPC listener, `host:port`. Port 0 takes any free one.",
    )
    auth: Literal["", "none"] = Field(
        "",
        description="How callers are authenticated. Empty is enough for a loopback listener; any other one "
        "needs `none` said outright: everyone who reaches the port spends the key's money.",
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

    emulator_url: str = Field(
        "",
        description="Base URL of a `falrpc emulator`; stands for the URLs and hosts below.",
    )
    fal_run_url: str = Field(FAL_RUN, description="fal's host for runs and streams.")
    fal_queue_url: str = Field(FAL_QUEUE, description="fal's host for queue requests.")
    fal_rest_url: str = Field("https://rest.fal.ai", description="fal's host for uploads.")
    fal_cdn_url: str = Field(
        "https://v3.fal.media",
        description="fal's host for whole files, with `FALRPC_UPLOAD_CREDENTIAL=cdn-token`.",
    )
    fal_run_backup_url: str = Field(
        FAL_RUN_BACKUP,
        description="Stands in for the host of runs when no connection to that one can be made. The default "
        "counts only beside the default host; `none` for no backup.",
    )
    fal_queue_backup_url: str = Field(
        FAL_QUEUE_BACKUP, description="The same for the host of queue requests; `none` for no backup."
    )
    proxy_url: str = Field(
        "",
        description="HTTP proxy to fal. Proxies of the environment (`HTTPS_PROXY` and so on) are never used.",
    )
    upload_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        ("fal.media",),
        description="Hosts, comma-separated, that may be sent uploads' bytes; subdomains included.",
    )

    default_deadline_seconds: Seconds = Field(
        3_600.0, description="How long a call without a deadline may take."
    )
    deadline_seconds_max: Seconds = Field(
        86_400.0, description="How long any call may take, whatever its deadline."
    )
    connect_seconds: Seconds = Field(5.0, description="How long connecting to fal may take.")
    pool_seconds: Seconds = Field(
        10.0,
        description="How long a request may wait for a free connection, or for a place at its endpoint.",
    )
    keepalive_seconds: Seconds = Field(
        15.0,
        description="How long an idle connection to fal is kept: less than fal's load balancers keep it.",
    )
    read_idle_seconds: Seconds = Field(
        60.0, description="Longest silence of an exchange with fal that should answer at once."
    )
    exchange_seconds_max: Seconds = Field(
        120.0,
        description="How long each attempt of such an exchange may take, but for the reading of outputs.",
    )
    stream_idle_seconds: Seconds = Field(1_800.0, description="Longest silence of a model's stream.")
    connections_max: int = Field(16_384, ge=1, le=100_000, description="Connections to fal at the most.")
    connections_per_host_max: int = Field(
        8_192, ge=1, le=100_000, description="Connections to one of fal's hosts at the most."
    )
    endpoint_limits: Annotated[tuple[tuple[str, int], ...], NoDecode] = Field(
        (),
        description="How many paid requests may be in flight at once, by the beginning of the endpoint id: "
        "`fal-ai/flux=20,fal-ai=200`, in whole parts. The longest one that fits counts; others have no such "
        "limit. A submission is in flight until fal has accepted it.",
    )
    resends_max: int = Field(
        2,
        ge=0,
        le=5,
        description="How often a request to fal is sent again. Files and their parts have five, and a share "
        "of their own.",
    )
    retry_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="How many resends there are at the most, as a share of the requests of the last 10 s.",
    )
    retry_reserve: int = Field(10, ge=0, le=10_000, description="How many more than that in 10 s.")
    breaker_failures: int = Field(
        20,
        ge=1,
        le=1_000_000,
        description="After so many failed requests in a row, resends counted, nothing but a probe now and "
        "then is sent to a host.",
    )
    breaker_seconds: Seconds = Field(5.0, description="The time between such probes.")
    heartbeat_seconds: float = Field(
        15.0,
        ge=0,
        le=3_600,
        description="How long a stream may be silent before a heartbeat, unless a caller says; 0: never.",
    )
    stall_seconds: Seconds = Field(
        300.0, description="How long a caller may leave a stream's message unread before the stream ends."
    )
    connection_age_seconds: float = Field(
        1_800.0,
        ge=0,
        le=86_400,
        description="After about so long (give or take 10 %) a connection is told GOAWAY, so that clients "
        "behind a balancer of connections spread anew. Calls in flight on it go on. 0: never.",
    )
    poll_first_seconds: Seconds = Field(
        0.25, description="First interval between looks at a queue request, when its status stream fails."
    )
    poll_seconds_max: Seconds = Field(5.0, description="Longest such interval.")
    status_stream_idle_seconds: Seconds = Field(
        45.0,
        description="Longest silence of a queue request's status stream; fal sends a comment every 15 s.",
    )
    status_stream_again_seconds: Seconds = Field(
        30.0, description="How long such looks go on before the status stream is tried again."
    )
    status_calls_per_second: float = Field(
        200.0,
        gt=0,
        le=10_000,
        description="How many status calls, status streams included, are made in a second for all watches.",
    )
    poll_patience_seconds: Seconds = Field(
        30.0, description="How long looks at a queue request may fail in passing before a stream gives up."
    )

    input_bytes_max: Bytes = Field(12 * 1024 * 1024, description="Largest input, as JSON text.")
    output_bytes_max: Bytes = Field(63 * 1024 * 1024, description="Largest output that is passed on.")
    receive_bytes_max: Bytes = Field(
        16 * 1024 * 1024, description="Largest gRPC message received; grpc itself refuses larger ones."
    )
    send_bytes_max: Bytes = Field(64 * 1024 * 1024, description="Largest gRPC message sent.")
    upload_bytes_max: FileBytes = Field(10 * 1024**3, description="Largest file of Upload.")
    upload_credential: Literal["signed-url", "cdn-token"] = Field(
        "signed-url",
        description="How files go to fal: to a URL that fal signs for each, or to its CDN with a token that "
        "is kept for many and renewed in time. The second saves a request for each file that goes whole.",
    )
    upload_single_bytes_max: Bytes = Field(
        90 * 1024 * 1024,
        description="Largest file that goes to fal whole; larger ones go in parts.",
    )
    upload_part_bytes: int = Field(
        10 * 1024 * 1024,
        ge=5 * 1024 * 1024,
        le=100 * 1024 * 1024,
        description="The size of such parts. A file has 10,000 of them at the most.",
    )
    upload_part_seconds_max: Seconds = Field(
        120.0,
        description="How long a caller may take for a part: it holds memory that others wait for.",
    )
    upload_parts_at_once: int = Field(
        4, ge=1, le=100, description="How many parts of one file are sent at once."
    )
    upload_buffer_bytes_max: Bytes = Field(
        128 * 1024 * 1024,
        description="Memory for parts of all uploads together. Those that find none wait, and their callers.",
    )
    upload_idle_seconds: Seconds = Field(
        60.0, description="How long a caller of Upload may take for the next chunk."
    )

    drain_delay_seconds: float = Field(
        5.0,
        ge=0,
        le=600,
        description="How long new calls are still served after health has gone NOT_SERVING.",
    )
    drain_seconds: float = Field(
        25.0, ge=0, le=86_400, description="How long calls in flight may go on after that."
    )
    reflection: Literal["auto", "on", "off"] = Field(
        "auto", description="Whether the listener offers gRPC reflection. `auto`: when it is loopback."
    )
    loop: Literal["auto", "asyncio"] = Field(
        "auto", description="The event loop. `auto`: uvloop where it is installed."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")

    _hosts = field_validator("upload_hosts", mode="before")(config_values.hosts)
    _limits = field_validator("endpoint_limits", mode="before")(config_values.endpoint_limits)
    _proxy = field_validator("proxy_url")(config_values.proxy_url)
    _listen = field_validator("listen")(config_values.listen)
    _urls = field_validator("emulator_url", "fal_run_url", "fal_queue_url", "fal_rest_url", "fal_cdn_url")(
        config_values.url
    )
    _backups = field_validator("fal_run_backup_url", "fal_queue_backup_url")(config_values.backup_url)

    @model_validator(mode="after")
    def _check_together(self) -> "Settings":
        if problems := [*_key_problems(self), *_listener_problems(self), *_limit_problems(self)]:
            raise ConfigError(problems)
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the listener."""
        return config_values.is_loopback_host(self.listen.rpartition(":")[0].strip("[]"))

    @property
    def offers_reflection(self) -> bool:
        """Whether the listener offers reflection."""
        return self.reflection == "on" or (self.reflection == "auto" and self.is_loopback)

    @property
    def run_backup_url(self) -> str:
        """The backup of the host of runs: fal's own does not stand in for anybody else's."""
        is_fals = self.fal_run_url == FAL_RUN or self.fal_run_backup_url != FAL_RUN_BACKUP
        return self.fal_run_backup_url if is_fals else ""

    @property
    def queue_backup_url(self) -> str:
        """The backup of the host of queue requests."""
        is_fals = self.fal_queue_url == FAL_QUEUE or self.fal_queue_backup_url != FAL_QUEUE_BACKUP
        return self.fal_queue_backup_url if is_fals else ""

    @property
    def key(self) -> str:
        """The credential for fal."""
        if self.fal_key:
            return self.fal_key.get_secret_value()
        assert self.fal_key_id is not None
        assert self.fal_key_secret is not None
        return f"{self.fal_key_id.get_secret_value()}:{self.fal_key_secret.get_secret_value()}"


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return name.upper() if name in SECRETS else PREFIX + name.upper()


def effective(settings: Settings) -> list[tuple[str, str]]:
    """Returns each setting's environment variable and its value as text; secrets are hidden."""
    shown = []
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = "(set)"
        elif isinstance(value, tuple):
            value = ",".join(one if isinstance(one, str) else "=".join(map(str, one)) for one in value)
        shown.append((variable(name), "" if value is None else str(value)))
    return shown


def _key_problems(settings: Settings) -> list[str]:
    halves = (settings.fal_key_id, settings.fal_key_secret)
    if not settings.fal_key and not all(halves):
        if any(halves):
            missing = "FAL_KEY_SECRET" if settings.fal_key_id else "FAL_KEY_ID"
            return [f"{missing}: is required beside the other half of the key"]
        return ["FAL_KEY: is required (or FAL_KEY_FILE, or FAL_KEY_ID and FAL_KEY_SECRET)"]
    key = settings.key
    if not key.isascii() or not key.isprintable() or " " in key:
        return ["FAL_KEY: must be printable ASCII without spaces"]
    return []


def _listener_problems(settings: Settings) -> list[str]:
    if settings.is_loopback or settings.auth == "none":
        return []
    return [
        f"FALRPC_AUTH: is required because FALRPC_LISTEN={settings.listen} is not loopback: "
        "everyone who reaches it could spend the key's money. Say FALRPC_AUTH=none if the network decides"
    ]


def _limit_problems(settings: Settings) -> list[str]:
    problems = []
    if settings.input_bytes_max > settings.receive_bytes_max:
        problems.append("FALRPC_INPUT_BYTES_MAX: must not exceed FALRPC_RECEIVE_BYTES_MAX")
    if settings.output_bytes_max >= settings.send_bytes_max:
        problems.append("FALRPC_OUTPUT_BYTES_MAX: must be less than FALRPC_SEND_BYTES_MAX")
    if settings.upload_part_bytes > settings.upload_buffer_bytes_max:
        problems.append("FALRPC_UPLOAD_PART_BYTES: must not exceed FALRPC_UPLOAD_BUFFER_BYTES_MAX")
    if settings.upload_bytes_max > PARTS_MAX * settings.upload_part_bytes:
        problems.append(
            f"FALRPC_UPLOAD_BYTES_MAX: must not exceed {PARTS_MAX:,} times FALRPC_UPLOAD_PART_BYTES"
        )
    if settings.poll_first_seconds > settings.poll_seconds_max:
        problems.append("FALRPC_POLL_FIRST_SECONDS: must not exceed FALRPC_POLL_SECONDS_MAX")
    return problems

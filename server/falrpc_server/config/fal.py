"""Settings: fal, and how it is called."""

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from falrpc_server.config import values
from falrpc_server.config.section import Seconds, Section

__all__ = ["FAL_QUEUE_BACKUP", "FAL_RUN_BACKUP", "Fal"]

FAL_RUN, FAL_RUN_BACKUP = "https://fal.run", "https://falrun.com"
FAL_QUEUE, FAL_QUEUE_BACKUP = "https://queue.fal.run", "https://queue.falrun.com"


class Fal(Section):
    """fal, and how it is called."""

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

    _limits = field_validator("endpoint_limits", mode="before")(values.endpoint_limits)
    _proxy = field_validator("proxy_url")(values.proxy_url)
    _urls = field_validator("emulator_url", "fal_run_url", "fal_queue_url", "fal_rest_url", "fal_cdn_url")(
        values.url
    )
    _backups = field_validator("fal_run_backup_url", "fal_queue_backup_url")(values.backup_url)

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

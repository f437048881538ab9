"""Settings: the process."""

from typing import Literal

from pydantic import Field

from falrpc_server.config.section import Section

__all__ = ["Process"]


class Process(Section):
    """The process."""

    workers: int = Field(
        1,
        ge=1,
        le=256,
        description="How many processes serve the port. Limits count for each of them.",
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
    loop: Literal["auto", "asyncio"] = Field(
        "auto", description="The event loop. `auto`: uvloop where it is installed."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")

"""Settings: the calls themselves."""

from pydantic import Field

from falrpc_server.config.section import Bytes, Seconds, Section

__all__ = ["Calls"]


class Calls(Section):
    """The calls themselves."""

    default_deadline_seconds: Seconds = Field(
        3_600.0, description="How long a call without a deadline may take."
    )
    deadline_seconds_max: Seconds = Field(
        86_400.0, description="How long any call may take, whatever its deadline."
    )
    input_bytes_max: Bytes = Field(12 * 1024 * 1024, description="Largest input, as JSON text.")
    output_bytes_max: Bytes = Field(63 * 1024 * 1024, description="Largest output that is passed on.")
    heartbeat_seconds: float = Field(
        15.0,
        ge=0,
        le=3_600,
        description="How long a stream may be silent before a heartbeat, unless a caller says; 0: never.",
    )
    stall_seconds: Seconds = Field(
        300.0, description="How long a caller may leave a stream's message unread before the stream ends."
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

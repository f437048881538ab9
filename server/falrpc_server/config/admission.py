"""Settings: how much is served at once."""

from typing import Annotated

from pydantic import Field

from falrpc_server.config.section import Section

__all__ = ["Admission"]

Places = Annotated[int, Field(ge=1, le=1_000_000)]


class Admission(Section):
    """How much is served at once."""

    calls_in_flight_max: Places = Field(
        2_000,
        description="How many unary calls (Run, Submit, Status, Result, Cancel) a process serves at once; "
        "more are refused with RESOURCE_EXHAUSTED. About the rate to be served times the seconds that a "
        "call takes.",
    )
    streams_in_flight_max: Places = Field(
        10_000,
        description="How many streams (Stream, StreamWorkflow, StreamStatus, Subscribe) a process serves "
        "at once.",
    )
    uploads_in_flight_max: Places = Field(500, description="How many uploads a process serves at once.")
    memory_bytes_max: int = Field(
        0,
        ge=0,
        le=2**50,
        description="Memory of a process (resident set) above which new calls are refused; 0: nine tenths "
        "of the limit of its control group, where it has one, shared by `FALRPC_WORKERS`.",
    )

"""Settings: the gRPC listener."""

from typing import Literal

from pydantic import Field, field_validator

from falrpc_server.config import values
from falrpc_server.config.section import Bytes, Section

__all__ = ["Listener"]


class Listener(Section):
    """The gRPC listener."""

    listen: str = Field(
        "127.0.0.1:50051",
        description="Address of the gRPC listener, `host:port`. Port 0 takes any free one.",
    )
    tls_certificate_file: str = Field(
        "",
        description="The listener's certificate and its chain, PEM. With it the listener speaks TLS 1.2 "
        "and 1.3 only. Read again when it changes.",
    )
    tls_key_file: str = Field(
        "", description="The certificate's private key, PEM. Read again when it changes."
    )
    tls_client_ca_file: str = Field(
        "",
        description="Authorities, PEM, of which every client must have a certificate (mTLS). Read again "
        "when it changes.",
    )
    reflection: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Whether the listener offers gRPC reflection, to everyone. `auto`: when it is loopback "
        "and asks nobody who calls.",
    )
    connection_age_seconds: float = Field(
        1_800.0,
        ge=0,
        le=86_400,
        description="After about so long (give or take 10 %) a connection is told GOAWAY, so that clients "
        "behind a balancer of connections spread anew. Calls in flight on it go on. 0: never.",
    )
    receive_bytes_max: Bytes = Field(
        16 * 1024 * 1024, description="Largest gRPC message received; grpc itself refuses larger ones."
    )
    send_bytes_max: Bytes = Field(64 * 1024 * 1024, description="Largest gRPC message sent.")

    _listen = field_validator("listen")(values.listen)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the listener."""
        return values.is_loopback_host(self.listen.rpartition(":")[0].strip("[]"))

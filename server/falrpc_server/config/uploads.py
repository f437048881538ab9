"""Settings: files."""

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from falrpc_server.config import values
from falrpc_server.config.section import Bytes, FileBytes, Seconds, Section

__all__ = ["UploadSettings"]


class UploadSettings(Section):
    """Files."""

    upload_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        ("fal.media",),
        description="Hosts, comma-separated, that may be sent uploads' bytes; subdomains included.",
    )
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

    _hosts = field_validator("upload_hosts", mode="before")(values.hosts)

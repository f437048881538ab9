"""What all sections of the settings share."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["PREFIX", "Bytes", "FileBytes", "Seconds", "Section"]

PREFIX = "FALRPC_"

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Bytes = Annotated[int, Field(ge=1, le=2**31 - 1)]
FileBytes = Annotated[int, Field(ge=1, le=2**40)]


class Section(BaseSettings):
    """Some of the settings. Each description is the setting's documentation."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        populate_by_name=True,
    )

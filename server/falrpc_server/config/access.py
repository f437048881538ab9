"""Settings: who may call, and whose money that spends."""

from typing import Literal

from pydantic import AliasChoices, Field, SecretStr

from falrpc_server.config.section import Section

__all__ = ["Access"]


class Access(Section):
    """Who may call, and whose money that spends."""

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

    @property
    def key(self) -> str:
        """The credential for fal."""
        if self.fal_key:
            return self.fal_key.get_secret_value()
        assert self.fal_key_id is not None
        assert self.fal_key_secret is not None
        return f"{self.fal_key_id.get_secret_value()}:{self.fal_key_secret.get_secret_value()}"

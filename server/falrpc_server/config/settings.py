"""Settings: checked, frozen, handed down. docs/configuration.md is generated from them.

Where their values come from is sources.py's affair.
"""

from pydantic import SecretStr, model_validator

from falrpc_server.config.access import Access, access_problems
from falrpc_server.config.admission import Admission
from falrpc_server.config.calls import Calls
from falrpc_server.config.fal import Fal
from falrpc_server.config.listener import Listener
from falrpc_server.config.process import Process
from falrpc_server.config.section import PREFIX
from falrpc_server.config.uploads import UploadSettings

__all__ = ["SECRETS", "ConfigError", "Settings", "effective", "variable"]

SECRETS = ("fal_key", "fal_key_id", "fal_key_secret")
PARTS_MAX = 10_000  # of a file
BESIDE_OUTPUT_BYTES_MAX = 64 * 1024  # in a message: what a few of fal's headers say


class ConfigError(Exception):
    """The settings do not hold; `problems` has one sentence for each, naming the setting."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Settings(
    Process, UploadSettings, Admission, Calls, Fal, Access, Listener
):  # their fields come in reverse order
    """Everything that can be set."""

    @property
    def is_open(self) -> bool:
        """Whether whoever reaches a listener that is not loopback may call."""
        return self.auth == ("none",) and not self.is_loopback

    @property
    def offers_reflection(self) -> bool:
        """Whether the listener offers reflection."""
        is_for_all = self.is_loopback and self.auth in ((), ("none",))
        return self.reflection == "on" or (self.reflection == "auto" and is_for_all)

    @model_validator(mode="after")
    def _check_together(self) -> "Settings":
        problems = [*_key_problems(self), *_listener_problems(self), *access_problems(self)]
        if problems := [*problems, *_limit_problems(self)]:
            raise ConfigError(problems)
        return self


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
        elif name == "jwt_jwks" and "?" in value:
            value = value.partition("?")[0] + "?(not shown)"
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
        if settings.fal_key_from == "caller" or settings.policy_file:  # which says whose key each tenant has
            return []
        return ["FAL_KEY: is required (or FAL_KEY_FILE, or FAL_KEY_ID and FAL_KEY_SECRET)"]
    key = settings.key
    if not key.isascii() or not key.isprintable() or " " in key:
        return ["FAL_KEY: must be printable ASCII without spaces"]
    return []


def _listener_problems(settings: Settings) -> list[str]:
    if settings.is_loopback or settings.auth:
        return []
    return [
        f"FALRPC_AUTH: is required because FALRPC_LISTEN={settings.listen} is not loopback: "
        "everyone who reaches it could spend the key's money. Say FALRPC_AUTH=none if the network decides"
    ]


def _limit_problems(settings: Settings) -> list[str]:
    problems = []
    if settings.input_bytes_max > settings.receive_bytes_max:
        problems.append("FALRPC_INPUT_BYTES_MAX: must not exceed FALRPC_RECEIVE_BYTES_MAX")
    if settings.output_bytes_max + BESIDE_OUTPUT_BYTES_MAX > settings.send_bytes_max:
        problems.append(
            "FALRPC_OUTPUT_BYTES_MAX: must be less than FALRPC_SEND_BYTES_MAX, "
            f"by {BESIDE_OUTPUT_BYTES_MAX} at least"
        )
    if settings.upload_part_bytes > settings.upload_buffer_bytes_max:
        problems.append("FALRPC_UPLOAD_PART_BYTES: must not exceed FALRPC_UPLOAD_BUFFER_BYTES_MAX")
    if settings.upload_bytes_max > PARTS_MAX * settings.upload_part_bytes:
        problems.append(
            f"FALRPC_UPLOAD_BYTES_MAX: must not exceed {PARTS_MAX:,} times FALRPC_UPLOAD_PART_BYTES"
        )
    if settings.poll_first_seconds > settings.poll_seconds_max:
        problems.append("FALRPC_POLL_FIRST_SECONDS: must not exceed FALRPC_POLL_SECONDS_MAX")
    return problems

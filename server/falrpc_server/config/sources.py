"""Reads Settings, once.

Sources, first one wins: environment variables (`FALRPC_*`, `FAL_KEY`), files named by `*_FILE` variables for
secrets, one TOML file, defaults.
"""

import difflib
import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from falrpc_server.config.section import PREFIX
from falrpc_server.config.settings import SECRETS, ConfigError, Settings, variable

__all__ = ["given_files", "load", "secret_files"]

# The name of the TOML file, and what the command line reads as a client.
OTHER_VARIABLES = {"FALRPC_CONFIG", "FALRPC_ADDRESS", "FALRPC_TOKEN"}


def load(config_file: Path | None = None) -> Settings:
    """Reads all sources. The TOML file is the argument, else the one that FALRPC_CONFIG names.

    Raises ConfigError with every problem that was found.
    """
    path = _config_file(config_file)
    problems = _unknown_variables()
    files = _file_values(path, problems) | _secret_files(problems)

    class Sourced(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, files)

    def attempt(**overrides: Any) -> Settings | None:
        try:
            return Sourced(**overrides)
        except ConfigError as error:
            problems.extend(error.problems)
        except ValidationError as error:
            problems.extend(_sentence(entry) for entry in error.errors())
            names = {str(entry["loc"][0]).lower() for entry in error.errors()} & Settings.model_fields.keys()
            if (
                names and not overrides
            ):  # with those out of the way, what settings say together is checked, too
                attempt(**{name: Settings.model_fields[name].default for name in names})
        return None

    settings = attempt()
    if problems or settings is None:
        raise ConfigError(problems)
    return settings


def given_files(config_file: Path | None = None) -> dict[str, str]:
    """The files that settings name, unchecked: for when others are wrong."""
    in_file = _file_values(_config_file(config_file), [])
    names = [name for name in Settings.model_fields if name.endswith("_file") or name == "jwt_jwks"]
    given = {name: os.environ.get(variable(name)) or in_file.get(name) for name in names}
    return {name: value for name, value in given.items() if isinstance(value, str)}


def _config_file(argument: Path | None) -> Path | None:
    return argument or (Path(named) if (named := os.environ.get(f"{PREFIX}CONFIG")) else None)


def _unknown_variables() -> list[str]:
    """A mistyped setting must not pass for the default."""
    known = {variable(name) for name in Settings.model_fields} | OTHER_VARIABLES
    problems = []
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name.upper() not in known:
            close = difflib.get_close_matches(name.upper(), known, n=1)
            problems.append(f"{name}: there is no such setting" + (f"; {close[0]}?" if close else ""))
    return problems


def _file_values(path: Path | None, problems: list[str]) -> dict[str, Any]:
    if path is None:
        return {}
    known = Settings.model_fields.keys()
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        problems.append(f"{path}: {getattr(error, 'strerror', None) or error}")
        return {}
    problems += [f"{path}: {name}: there is no such setting" for name in sorted(values.keys() - known)]
    return {name: value for name, value in values.items() if name in known}


def secret_files() -> dict[str, str]:
    """The files that secrets come from: not those that a variable gives outright."""
    paths = {name: os.environ.get(f"{variable(name)}_FILE", "") for name in SECRETS}
    return {name: path for name, path in paths.items() if path and not os.environ.get(variable(name))}


def _secret_files(problems: list[str]) -> dict[str, Any]:
    """Secrets from the files that FAL_KEY_FILE and its like name."""
    values = {}
    for name in SECRETS:
        path = os.environ.get(f"{variable(name)}_FILE")
        if path:
            try:
                values[name] = Path(path).read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                shown = path if path.startswith(("/", "./", "../")) else "(not shown: no such file)"
                problems.append(
                    f"{variable(name)}_FILE: {shown}: {getattr(error, 'strerror', None) or 'no text'}"
                )
    return values


def _sentence(entry: Any) -> str:
    name = str(entry["loc"][0]) if entry["loc"] else ""
    message = entry["msg"].removeprefix("Value error, ")
    known = name.lower() in Settings.model_fields
    return f"{variable(name.lower()) if known else name}: {message}"

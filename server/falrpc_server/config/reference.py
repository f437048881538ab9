"""docs/configuration.md, from Settings."""

from pydantic.fields import FieldInfo

from falrpc_server.config.settings import SECRETS, Settings, variable

__all__ = ["render"]

HEAD = """# Configuration

Generated from `server/falrpc_server/config/` by `make gen`. Do not edit.

Each setting comes from the first of these that has it:

1. its environment variable, unless that is empty;
2. for secrets, the file that the variable with `_FILE` behind its name gives
   (`FAL_KEY_FILE=/run/secrets/fal`);
3. the TOML file that `falrpc serve --config FILE` or `FALRPC_CONFIG` names, under the variable's name in
   lower case without `FALRPC_` (`listen = "127.0.0.1:50051"`);
4. its default.

All are checked at the start; every problem is listed and nothing starts. A variable that begins with
`FALRPC_` and is no setting is a problem, too. `falrpc check-config` prints the values in force, secrets
hidden.

"""


TAIL = """

Not settings of the service, but read from the environment, too:

| Variable | Meaning |
|---|---|
| `FALRPC_CONFIG` | The TOML file. |
| `FALRPC_ADDRESS` | Where the client commands of `falrpc` find the service. |
| `FALRPC_TOKEN` | The bearer token that they send. |
"""


def render() -> str:
    """Returns the page."""
    rows = ["| Variable | Default | Meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        secret = f" Or `{variable(name)}_FILE`." if name in SECRETS else ""
        choices = _choices(field)
        rows.append(f"| `{variable(name)}` | {_default(field)} | {field.description}{choices}{secret} |")
    return HEAD + "\n".join(rows) + TAIL


def _default(field: FieldInfo) -> str:
    value = field.default
    if isinstance(value, tuple):
        value = ",".join(value)
    if isinstance(value, int | float):
        value = f"{value:g}" if isinstance(value, float) else value
    return "(empty)" if value in ("", None) else f"`{value}`"


def _choices(field: FieldInfo) -> str:
    values = [str(value) for value in getattr(field.annotation, "__args__", ()) if isinstance(value, str)]
    return f" One of {', '.join(f'`{value}`' for value in values if value)}." if values else ""

"""Settings: what they are, where they come from (sources.py), and their manual (reference.py)."""

from falrpc_server.config.settings import SECRETS, ConfigError, Settings, effective, variable

__all__ = ["SECRETS", "ConfigError", "Settings", "effective", "variable"]

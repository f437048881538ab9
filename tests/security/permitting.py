"""A gateway with a rule for each thing that can be forbidden, and how a denied call ends."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.conftest import Running
from tests.failures import Failure
from tests.security.each_method import METHODS
from tests.security.guarded import Files, guarded_gateway

__all__ = ["NAMES", "RULES", "STRANGERS", "TEXT", "as_", "guarded", "is_denied"]

NAMES = tuple(method for method in METHODS if "," not in method)
ENDPOINTS = ("emulator/echo", "emulator/events", "workflows/emulator/replay")


def rule(
    identity: str,
    rpcs: tuple[str, ...] = NAMES,
    endpoints: tuple[str, ...] = ENDPOINTS,
    tenant: str = "shop",
    more: str = "",
) -> str:
    """A rule of the policy file."""
    return (
        f'[[rules]]\nidentities = ["{identity}"]\ntenant = "{tenant}"\nrpcs = {json.dumps(rpcs)}\n'
        f"endpoints = {json.dumps(endpoints)}\n{more}\n"
    )


RULES = {
    **{f"not-{name}": rule(f"not-{name}", tuple(n for n in NAMES if n != name)) for name in NAMES},
    **{f"only-{name}": rule(f"only-{name}", (name,)) for name in NAMES},
    "echo": rule("echo", endpoints=("emulator/echo",)),
    "nowhere": rule("nowhere", endpoints=("other/echo",)),
    "low": rule("low", more='priority_max = "low"'),
    "stored": rule("stored", more="store_io = true"),
    "unstored": rule("unstored", more="store_io = false"),
    "hooks": rule("hooks", more='webhook_hosts = ["hooks.example.com", "*.shop.example.com"]'),
    "no-hooks": rule("no-hooks", more="webhook_hosts = []"),
    "brief": rule("brief", more="lifecycle_seconds_max = 3600"),
    "private": rule("private", more='access_control = "forbidden"'),
    "free": rule("free"),
    "large": rule("large", tenant="large"),
    "unlimited": rule("unlimited", tenant="unlimited"),
}
POLICY = """
[tenants.shop]
upload_bytes_max = 1000
[tenants.large]
upload_bytes_max = 2000
[tenants.unlimited]
upload_bytes_max = 1000000
"""
TEXT = '{"events":[{"type":"output","output":{}}],"end":"clean"}'
"""An input that each of those endpoints takes."""
STRANGERS = ("stranger", "Echo", "echo2", "not-Ru")


def as_(identity: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer c4n4ry-token-of-{identity}")]


@pytest.fixture(scope="module")
async def guarded(emulator_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A gateway with a rule for each thing that can be forbidden."""
    files = Files(tmp_path_factory.mktemp("permissions"))
    settings: dict[str, Any] = {
        "auth": ("tokens",),
        "tokens_file": files.tokens({name: f"c4n4ry-token-of-{name}" for name in (*RULES, *STRANGERS)}),
        "policy_file": files.policy(POLICY + "".join(RULES.values())),
        "ownership_keys_file": files.ownership_keys(),
        "upload_bytes_max": 3_000,
    }
    async with guarded_gateway(emulator_url, **settings) as gateway:
        yield gateway


def is_denied(failed: Failure, reason: str, name: str = "") -> None:
    assert (failed.code, failed.info.reason) == ("PERMISSION_DENIED", reason), name
    assert failed.delivery == "NOT_SENT", name
    for text in ("policy", "rules[", "toml", "no rule", "shop"):
        assert text not in failed.message, name

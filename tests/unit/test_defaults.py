"""What the parts take for granted is what the settings say, and bad values of settings are refused."""

from typing import Any

import pytest
from pydantic import ValidationError

from falrpc_server.config import Settings
from falrpc_server.config.fal import FAL_QUEUE_BACKUP, FAL_RUN_BACKUP
from falrpc_server.config.sources import load
from falrpc_server.fal_http import retry
from falrpc_server.fal_http.client import Bounds
from falrpc_server.fal_http.exchange import Guards
from falrpc_server.fal_http.queue_watch import Pace
from falrpc_server.fal_http.transport import Limits
from falrpc_server.fal_http.uploads import UploadBounds
from falrpc_server.servicer import Limits as ServiceLimits


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a gateway that was told its key, and nothing else."""
    monkeypatch.setenv("FAL_KEY", "id:secret")
    return load()


def test_the_pool(settings: Settings) -> None:
    """The connection pool's bounds are the settings'."""
    assert Limits() == Limits(
        connections=settings.connections_max,
        connections_per_host=settings.connections_per_host_max,
        connect_seconds=settings.connect_seconds,
        pool_seconds=settings.pool_seconds,
        keepalive_seconds=settings.keepalive_seconds,
    )


def test_the_guards(settings: Settings) -> None:
    """Resends, suspensions and limits of endpoints are the settings'."""
    policy = retry.Policy()
    assert policy == retry.Policy(settings.resends_max, settings.retry_share, settings.retry_reserve)
    assert Guards() == Guards(
        retries=policy,
        breaker_failures=settings.breaker_failures,
        breaker_seconds=settings.breaker_seconds,
        endpoint_limits=dict(settings.endpoint_limits),
        place_seconds=settings.pool_seconds,
    )


def test_the_client(settings: Settings) -> None:
    """How much is read, and how long it may take, is as the settings say."""
    assert Bounds() == Bounds(
        output_bytes_max=settings.output_bytes_max,
        read_idle_seconds=settings.read_idle_seconds,
        exchange_seconds_max=settings.exchange_seconds_max,
        stream_idle_seconds=settings.stream_idle_seconds,
    )


def test_the_service(settings: Settings) -> None:
    """Bounds and habits of the methods are the settings'."""
    assert ServiceLimits() == ServiceLimits(
        input_bytes_max=settings.input_bytes_max,
        heartbeat_seconds=settings.heartbeat_seconds,
        upload_bytes_max=settings.upload_bytes_max,
        upload_idle_seconds=settings.upload_idle_seconds,
    )


def test_uploads(settings: Settings) -> None:
    """How large files may be, and how they go, is as set."""
    assert UploadBounds() == UploadBounds(
        single_bytes_max=settings.upload_single_bytes_max,
        part_bytes=settings.upload_part_bytes,
        part_seconds_max=settings.upload_part_seconds_max,
        parts_at_once=settings.upload_parts_at_once,
        buffer_bytes_max=settings.upload_buffer_bytes_max,
    )


def test_watching(settings: Settings) -> None:
    """How often a request is looked at is as set."""
    assert Pace() == Pace(
        first_seconds=settings.poll_first_seconds,
        cap_seconds=settings.poll_seconds_max,
        stream_idle_seconds=settings.status_stream_idle_seconds,
        stream_again_seconds=settings.status_stream_again_seconds,
        patience_seconds=settings.poll_patience_seconds,
    )


@pytest.mark.parametrize("switched_off", ["FALRPC_FAL_RUN_BACKUP_URL", "FALRPC_FAL_QUEUE_BACKUP_URL"])
def test_no_backup(monkeypatch: pytest.MonkeyPatch, settings: Settings, switched_off: str) -> None:
    """The word `none` switches a backup off, and only that one."""
    assert (settings.run_backup_url, settings.queue_backup_url) == (FAL_RUN_BACKUP, FAL_QUEUE_BACKUP)
    monkeypatch.setenv(switched_off, "none")
    told = load()
    assert (told.run_backup_url, told.queue_backup_url) == (
        ("", FAL_QUEUE_BACKUP) if "RUN" in switched_off else (FAL_RUN_BACKUP, "")
    )


@pytest.mark.parametrize(
    "value",
    [
        *("fal-ai/flux*=20", "fal ai/flux=3", "fal-ai//flux=2", "/fal-ai=2", "fal-ai/flux=2.9"),
        *("fal-ai/flux=+2", "fal-ai/flux=1_000", "fal-ai/flux=\u0663", "fal-ai/fl\u00fcx=2"),
        *({"fal-ai/flux": 2.9}, {"fal-ai/flux": True}, {"fal-ai/flux": None}, {"fal-ai/flux*": 2}),
        {"fal-ai//flux": 2},
    ],
)
def test_limits_that_would_never_fit(value: object) -> None:
    """Beginnings that no endpoint id has, and limits that are no whole numbers, are refused at the start."""
    with pytest.raises(ValidationError, match="beginnings of endpoint ids"):
        with_limits(value)


@pytest.mark.parametrize("value", ["fal-ai/flux=20, fal-ai=200", {"fal-ai/flux": 20, "fal-ai": "200"}])
def test_limits(value: object) -> None:
    """Whole parts of endpoint ids with whole numbers are taken, from text and from tables."""
    assert dict(with_limits(value).endpoint_limits) == {"fal-ai/flux": 20, "fal-ai": 200}


def with_limits(value: object) -> Settings:
    given: dict[str, Any] = {"fal_key": "id:secret", "endpoint_limits": value}
    return Settings(**given)

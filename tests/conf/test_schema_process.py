"""The settings of processes: what the defaults promise, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from djserve.conf.parser import parse
from djserve.conf.schema import TracingConfig
from djserve.errors import ConfigError


def test_one_worker_is_the_default_and_none_means_each_cpu() -> None:
    assert parse({}).workers.workers == 1
    assert parse({"WORKERS": None}).workers.workers is None


def test_blocked_worker_is_warned_of_before_it_is_replaced() -> None:
    config = parse({}).workers

    assert config.worker_block_warning is not None
    assert config.worker_hang_timeout is not None
    assert config.worker_block_warning < config.worker_hang_timeout


def test_workers_have_no_limits_unless_asked_for() -> None:
    config = parse({}).workers

    assert config.worker_max_requests is None
    assert config.worker_max_age is None
    assert config.worker_max_memory is None


def test_draining_fits_into_the_shutdown_timeout() -> None:
    config = parse({})
    half = config.lifecycle.shutdown_timeout / 2

    assert config.drain.drain_idle_timeout <= half
    assert config.drain.websocket_drain_time <= half


def test_nothing_is_told_to_the_outside_by_default() -> None:
    config = parse({})

    assert config.metrics.metrics_bind is None
    assert config.metrics.metrics_path is None
    assert not config.metrics.health
    assert config.workers.control_socket is None
    assert config.logging.access_log is None


def test_settings_reach_their_groups() -> None:
    given: dict[str, Any] = {
        "WORKER_MAX_AGE": 3600,
        "UNIX_MODE": "660",
        "METRICS_PATH": "/metrics",
        "LOG_JSON": True,
    }
    config = parse(given)

    assert config.workers.worker_max_age == 3600
    assert config.unix_sockets.unix_mode == "660"
    assert config.metrics.metrics_path == "/metrics"
    assert config.logging.log_json


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("WORKERS", 0),
        ("SUPERVISOR", "off"),
        ("WORKER_START_TIMEOUT", 0),
        ("WORKER_HANG_TIMEOUT", 0),
        ("WORKER_MAX_REQUESTS", 0),
        ("WORKER_JITTER", -1),
        ("RELOAD_PATHS", "src"),
        ("DRAIN_IDLE_TIMEOUT", -1),
        ("UNIX_MODE", "999"),
        ("METRICS_BIND", "no address"),
        ("METRICS_PATH", "metrics"),
        ("ACCESS_LOG_FORMAT", "xml"),
        ("LOG_FORMAT", "%(nothing"),
        ("SLOW_REQUEST_TIME", 0),
        ("VERBOSITY", -1),
    ],
)
def test_what_makes_no_sense_is_refused(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        parse({key: value})


def test_nothing_is_traced_by_default() -> None:
    assert parse({}).tracing == TracingConfig(tracing=False)


def test_tracing_is_turned_on_by_its_key() -> None:
    assert parse({"TRACING": True}).tracing.tracing

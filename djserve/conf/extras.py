"""Packages that a setting needs beyond djserve's own requirements, and their extras."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from djserve.errors import ConfigError
from djserve.values import Values


class Need(Values):
    """A package: the module that it brings, its extra, the settings that need it."""

    package: str
    module: str
    extra: str
    settings: tuple[str, ...]


NEEDS = (
    Need("acme", "acme", "acme", ("ACME_DOMAINS",)),
    Need("aioquic", "aioquic", "http3", ("HTTP3",)),
    Need("brotli", "brotli", "compression", ("COMPRESSION_CODINGS",)),
    Need("channels", "channels", "channels", ("CHANNEL_LAYERS",)),
    Need("channels-redis", "channels_redis", "redis", ("CHANNEL_LAYERS",)),
    Need("msgpack", "msgpack", "channels", ("CHANNEL_LAYERS",)),
    Need("opentelemetry-api", "opentelemetry.trace", "otel", ("TRACING",)),
    Need(
        "opentelemetry-exporter-otlp-proto-http",
        "opentelemetry.exporter.otlp.proto.http",
        "otel",
        ("METRICS_OTLP", "TRACING"),
    ),
    Need("opentelemetry-sdk", "opentelemetry.sdk", "otel", ("METRICS_OTLP", "TRACING")),
    Need(
        "prometheus-client",
        "prometheus_client",
        "metrics",
        ("METRICS_BIND", "METRICS_PATH"),
    ),
    Need("pylsqpack", "pylsqpack", "http3", ("HTTP3",)),
    Need("watchfiles", "watchfiles", "reload", ("RELOAD",)),
    Need("zstandard", "zstandard", "compression", ("COMPRESSION_CODINGS",)),
)


def is_installed(module: str) -> bool:
    """Return whether a module can be found. It is not imported, what it is in is."""
    if module in sys.modules:
        return sys.modules[module] is not None
    try:
        return find_spec(module) is not None
    except ImportError:
        return False


def missing_package(setting: str, package: str) -> ConfigError:
    """Return the error of a setting whose package is not installed."""
    extra = next(need.extra for need in NEEDS if need.package == package)
    problem = f"{setting} needs the package {package}"
    return ConfigError([f'{problem}: install "djserve[{extra}]"'])

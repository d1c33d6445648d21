"""Settings whose package is not installed, which the server would refuse."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Warning

from djserve.checks import Apps, load_or_none
from djserve.conf.catalogue import groups
from djserve.conf.extras import NEEDS, Need, is_installed
from djserve.conf.schema import ServerConfig
from djserve.conf.schema_files import CompressionConfig
from djserve.instrumentation.otel import exporter_names, has_provider
from djserve.responses.codecs import find_encoders

_BY_PACKAGE = {need.package: need for need in NEEDS}

_BY_CODING = {"br": "brotli", "zstd": "zstandard"}

# The longest beginning of a channel layer's class, and what it needs.
_BY_LAYER = {
    "channels.": ("channels",),
    "channels_redis.": ("channels", "channels-redis"),
    "djserve.channels.": ("channels", "msgpack"),
}

_EXPORTER = "opentelemetry-exporter-otlp-proto-http"
_SIGNALS = {"METRICS_OTLP": "metrics", "TRACING": "traces"}


def check_packages(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Report settings whose package is not installed.

    A warning: migrations and the like run on machines without the server's extras.
    """
    config = load_or_none()
    found = _find_layers_needs()
    if config is not None:
        found = {
            **_find_needs(config),
            **_find_coding_needs(config.compression),
            **found,
        }
    return [_warn(name, extra, packages) for (name, extra), packages in found.items()]


def _warn(name: str, extra: str, packages: list[str]) -> CheckMessage:
    if len(packages) == 1:
        missing = f"the package {packages[0]}, which is not installed"
    else:
        missing = f"the packages {', '.join(packages)}, which are not installed"
    return Warning(
        f"{name} needs {missing}.",
        hint=f'Install them: python -m pip install "djserve[{extra}]". Or silence this '
        "check where no server is run.",
        id="djserve.W010",
    )


_Found = dict[tuple[str, str], list[str]]
"""By the setting's name and the extra: the packages that lack."""


def _group(name: str, needs: Iterator[Need]) -> _Found:
    found: _Found = {}
    for need in needs:
        if not is_installed(need.module):
            found.setdefault((name, need.extra), []).append(need.package)
    return found


def _find_needs(config: ServerConfig) -> _Found:
    found: _Found = {}
    for group in groups():
        values = getattr(config, group.name)
        for setting in group.settings:
            if getattr(values, setting.name) == setting.default:
                continue
            needs = (need for need in NEEDS if _is_needed(need, setting.key))
            found |= _group(f"DJSERVE[{setting.key!r}]", needs)
    return found


def _is_needed(need: Need, key: str) -> bool:
    """Return whether a setting needs a package, as this process is."""
    if key not in need.settings or key == "COMPRESSION_CODINGS":
        return False
    if key not in _SIGNALS or need.package == "opentelemetry-api":
        return True
    if key == "TRACING" and is_installed("opentelemetry.trace") and has_provider():
        # An agent's, or the project's own: it sends the spans.
        return False
    if need.package == _EXPORTER:
        return "otlp_proto_http" in exporter_names(_SIGNALS[key], os.environ)
    return True


def _find_coding_needs(config: CompressionConfig) -> _Found:
    """Find what codings need that are asked for: the default takes what there is."""
    codings = config.compression_codings
    if not config.compression or codings == CompressionConfig().compression_codings:
        return {}
    there = find_encoders(codings)
    missing = [each for each in codings if each.encode("ascii") not in there]
    needs = (_BY_PACKAGE[_BY_CODING[coding]] for coding in missing)
    return _group("DJSERVE['COMPRESSION_CODINGS']", needs)


def _find_layers_needs() -> _Found:
    found: _Found = {}
    layers = getattr(settings, "CHANNEL_LAYERS", None) or {}
    for alias, layer in layers.items():
        backend = str(layer.get("BACKEND"))
        name = f"CHANNEL_LAYERS[{alias!r}]"
        for beginning, packages in _BY_LAYER.items():
            if backend.startswith(beginning):
                found |= _group(name, (_BY_PACKAGE[each] for each in packages))
    return found


CHECKS = (check_packages,)

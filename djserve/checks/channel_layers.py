"""Channel layers that do not reach all clients, or lose their connections."""

from __future__ import annotations

import ipaddress
import sys
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Info, Warning
from django.utils.module_loading import import_string

from djserve.checks import Apps, load_or_none, parse_version

_IN_MEMORY_LAYER = "channels.layers.InMemoryChannelLayer"
_HOST_LAYER = "djserve.channels.HostChannelLayer"
_REDIS_LAYER = "channels_redis.core.RedisChannelLayer"

# channels_redis waits in reads of five seconds (RedisChannelLayer.brpop_timeout), and
# since 8.0 redis-py waits just as long for an answer (redis/_defaults.py).
_REDIS_READ_SECONDS = 5
_FIRST_REDIS_WITH_TIMEOUT = (8, 0)

# With a timeout redis-py sends through asyncio.wait_for(), which on Python 3.11 loses
# a cancellation that comes as the awaited ends: what was to stop would live on.
_ADVISED_REDIS_TIMEOUT = 15 if sys.version_info >= (3, 12) else None


def check_channel_layers(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Report channel layers that live in one process if there are several."""
    config = load_or_none()
    return [] if config is None else find_layer_problems(config.workers.workers)


def find_layer_problems(workers: int | None) -> list[CheckMessage]:
    """Judge the channel layers by WORKERS, of the settings or of a command line."""
    if workers == 1:
        return []
    layers = getattr(settings, "CHANNEL_LAYERS", None) or {}
    number = "several" if workers is None else workers
    return [
        Warning(
            f"The channel layer {alias!r} keeps its messages in one process, but there "
            f"are {number} workers: groups will not reach all clients.",
            hint=f"Use {_HOST_LAYER}, or channels_redis if the site runs on several "
            "machines, or set DJSERVE['WORKERS'] to 1.",
            id="djserve.W002",
        )
        for alias, layer in layers.items()
        if _is_a(layer.get("BACKEND"), _IN_MEMORY_LAYER)
    ]


def check_machines(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Report channel layers of one machine if there may well be several.

    It cannot be known from one of them; a database elsewhere is often shared.
    """
    layers = getattr(settings, "CHANNEL_LAYERS", None) or {}
    host = str(settings.DATABASES.get("default", {}).get("HOST") or "")
    if settings.DEBUG or _is_of_this_machine(host):
        return []
    return [
        Info(
            f"The channel layer {alias!r} reaches the processes of this machine alone, "
            f"and the database is on {host}.",
            hint="If the site runs on several machines, use channels_redis. If not, "
            "silence this check.",
            id="djserve.I002",
        )
        for alias, layer in layers.items()
        if _is_a(layer.get("BACKEND"), _HOST_LAYER)
    ]


def _is_of_this_machine(host: str) -> bool:
    # No host and a path are unix sockets.
    if not host or host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_redis_timeouts(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Report Redis channel layers that lose their connections while nothing happens."""
    if not getattr(settings, "CHANNEL_LAYERS", None):
        return []
    # Long to import, and the checks run at each reload.
    from importlib import metadata

    try:
        version = metadata.version("redis")
    except metadata.PackageNotFoundError:
        return []
    return find_redis_problems(version)


def find_redis_problems(version: str) -> list[CheckMessage]:
    """Judge the channel layers by one version of redis-py."""
    if parse_version(version) < _FIRST_REDIS_WITH_TIMEOUT:
        return []
    layers = getattr(settings, "CHANNEL_LAYERS", None) or {}
    return [
        Warning(
            f"The channel layer {alias!r} waits for messages in reads of five seconds, "
            f"and redis-py {version} closes a connection after five seconds without an "
            "answer: WebSockets on which nothing happens fail.",
            hint='Write each host as {"address": "redis://...", "socket_timeout": '
            f"{_ADVISED_REDIS_TIMEOUT}}}.",
            id="djserve.W008",
        )
        for alias, layer in layers.items()
        # A class derived from it may well read in another way.
        if layer.get("BACKEND") == _REDIS_LAYER
        and not all(map(_outlasts_reads, _hosts_of(layer)))
    ]


def _is_a(backend: object, path: str) -> bool:
    """Return whether a channel layer's class is one, or derives from it."""
    if backend == path:
        return True
    try:
        return issubclass(import_string(str(backend)), import_string(path))
    except (ImportError, TypeError):
        # What cannot be imported is Channels' to report.
        return False


def _hosts_of(layer: dict[str, Any]) -> list[object]:
    """Return the hosts as the settings have them; the default host for none."""
    hosts = (layer.get("CONFIG") or {}).get("hosts")
    return list(hosts) if isinstance(hosts, list | tuple) and hosts else [None]


def _outlasts_reads(host: object) -> bool:
    """Return whether the client waits longer for a host than the layer's reads last."""
    if isinstance(host, dict) and "socket_timeout" not in host:
        host = host.get("address")
    if isinstance(host, str):
        host = dict(parse_qsl(urlsplit(host).query))
    if not isinstance(host, dict) or "socket_timeout" not in host:
        return False
    timeout = host["socket_timeout"]
    try:
        return timeout is None or float(timeout) > _REDIS_READ_SECONDS
    except ValueError:
        # Not a number: redis-py's to refuse.
        return True


CHECKS = (check_channel_layers, check_machines, check_redis_timeouts)

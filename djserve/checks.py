"""What is wrong with the project's settings, as Django's system checks show it.

============  ==========================================================
djserve.E001  a setting in DJSERVE is wrong (one message for each)
djserve.E002  Daphne's app is installed beside djserve's
djserve.E003  djserve comes after django.contrib.staticfiles
djserve.E004  ASGI_APPLICATION names nothing that can be imported
djserve.E005  ASGI_APPLICATION names the WSGI application
djserve.I001  a middleware is made for each kind of view (handlers/checks.py)
djserve.I002  a channel layer of this machine, and a database of another one
djserve.W001  ASGI_APPLICATION is missing
djserve.W002  several workers, and a channel layer that lives in one process
djserve.W003  asgiref is too old for pooled threads
djserve.W004  DEBUG is on and the server listens beyond this machine
djserve.W005  a setting of Daphne's has no effect
djserve.W006  every client is believed to be a proxy
djserve.W007  a database pool is smaller than THREADS (handlers/checks.py)
djserve.W008  the Redis client gives up when the channel layer's reads do
djserve.W009  an origin may call the API but not open a WebSocket
============  ==========================================================
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import re
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from django.apps import AppConfig, apps
from django.conf import ENVIRONMENT_VARIABLE, settings
from django.core.checks import CheckMessage, Error, Info, Warning
from django.utils.module_loading import import_string

from djserve.asgi.origin import OriginPolicy, create_policy, origin_allowed
from djserve.conf.loader import load
from djserve.conf.modules import read_names
from djserve.conf.schema import ServerConfig
from djserve.conf.suggestions import suggest
from djserve.errors import ConfigError

TAG = "djserve"

_OLDEST_ASGIREF = (3, 13)

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

_CORS_MIDDLEWARE = "corsheaders.middleware.CorsMiddleware"

# Packages whose presence says that a project may serve WebSockets.
_WEBSOCKET_PACKAGES = ("channels", "socketio")

_DAPHNE_SETTINGS = {
    "DAPHNE_WEBSOCKET_MAX_MESSAGE_SIZE": "WEBSOCKET_MESSAGE_SIZE_LIMIT",
    "DAPHNE_WEBSOCKET_MAX_FRAME_SIZE": "WEBSOCKET_FRAME_SIZE_LIMIT",
}

# "module.name", as Django's own setting WSGI_APPLICATION.
_DOTTED_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")

_Apps = Sequence[AppConfig] | None


def check_configuration(app_configs: _Apps, **kwargs: Any) -> list[CheckMessage]:
    """Report each fault in ``settings.DJSERVE``."""
    try:
        load()
    except ConfigError as error:
        hint = '"python -m djserve.conf.reference" lists every key, type and default.'
        return [Error(line, hint=hint, id="djserve.E001") for line in error.problems]
    return []


def check_installed_apps(app_configs: _Apps, **kwargs: Any) -> list[CheckMessage]:
    """Report apps whose ``runserver`` hides ours or competes with it."""
    names = [config.name for config in apps.get_app_configs()]
    messages: list[CheckMessage] = []
    if "daphne" in names:
        messages.append(
            Error(
                "Daphne and djserve are both in INSTALLED_APPS.",
                hint="Remove 'daphne': djserve's runserver replaces Daphne's.",
                id="djserve.E002",
            )
        )
    # Django takes a command from the first app that has it.
    if "django.contrib.staticfiles" in names[: _index(names, "djserve")]:
        messages.append(
            Error(
                "djserve comes after django.contrib.staticfiles in INSTALLED_APPS, "
                "whose runserver hides djserve's.",
                hint="Put 'djserve' before 'django.contrib.staticfiles'.",
                id="djserve.E003",
            )
        )
    return messages


def check_application(app_configs: _Apps, **kwargs: Any) -> list[CheckMessage]:
    """Report an ASGI_APPLICATION that is missing or cannot be imported.

    The module is looked for, not imported: that is the server's to do.
    """
    path = getattr(settings, "ASGI_APPLICATION", None)
    if path is None:
        return [
            Warning(
                "ASGI_APPLICATION is not set.",
                hint=f"Set it; {_fallback()} is served until then.",
                id="djserve.W001",
            )
        ]
    problem = _find_path_problem(path)
    if not problem:
        return _check_interface(path)
    return [
        Error(
            f"ASGI_APPLICATION {path!r} {problem}.",
            hint='It has the form "mysite.asgi.application".',
            id="djserve.E004",
        )
    ]


def _check_interface(path: object) -> list[CheckMessage]:
    if path != getattr(settings, "WSGI_APPLICATION", None):
        return []
    return [
        Error(
            f"ASGI_APPLICATION {path!r} is the WSGI application.",
            hint='Name the ASGI application, as in "mysite.asgi.application".',
            id="djserve.E005",
        )
    ]


def check_channel_layers(app_configs: _Apps, **kwargs: Any) -> list[CheckMessage]:
    """Report channel layers that live in one process where there are several."""
    config = _load_or_none()
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


def check_machines(app_configs: _Apps, **kwargs: Any) -> list[CheckMessage]:
    """Report channel layers of one machine where there may well be several.

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


def check_redis_timeouts(app_configs: _Apps, **kwargs: Any) -> list[CheckMessage]:
    """Report Redis channel layers that lose their connections while nothing happens."""
    try:
        version = metadata.version("redis")
    except metadata.PackageNotFoundError:
        return []
    return find_redis_problems(version)


def find_redis_problems(version: str) -> list[CheckMessage]:
    """Judge the channel layers by one version of redis-py."""
    if _parse_version(version) < _FIRST_REDIS_WITH_TIMEOUT:
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


def check_asgiref(app_configs: _Apps, **kwargs: Any) -> list[CheckMessage]:
    """Report an asgiref without caller-owned executors."""
    return find_asgiref_problems(metadata.version("asgiref"))


def find_asgiref_problems(version: str) -> list[CheckMessage]:
    """Judge one version of asgiref."""
    if _parse_version(version) >= _OLDEST_ASGIREF:
        return []
    return [
        Warning(
            f"asgiref {version} is too old to run requests in pooled threads: each "
            "request starts a thread, and CONN_MAX_AGE has no effect.",
            hint="Install asgiref 3.13 or newer.",
            id="djserve.W003",
        )
    ]


def check_debug(app_configs: _Apps, **kwargs: Any) -> list[CheckMessage]:
    """Report debug pages that others than the developer can see."""
    config = _load_or_none()
    if config is None or not settings.DEBUG:
        return []
    return [
        Warning(
            f"DEBUG is on and the server listens on {address}: everyone who reaches it "
            "can read settings and source in its error pages.",
            hint="Set DEBUG to False, or bind to 127.0.0.1.",
            id="djserve.W004",
        )
        for address in config.bind.bind
        if _is_public(address)
    ]


def check_daphne_settings(app_configs: _Apps, **kwargs: Any) -> list[CheckMessage]:
    """Report settings that Daphne reads and djserve does not."""
    return [
        Warning(
            f"{name} has no effect on djserve.",
            hint=f"Set DJSERVE[{key!r}] instead.",
            id="djserve.W005",
        )
        for name, key in _DAPHNE_SETTINGS.items()
        if hasattr(settings, name)
    ]


def check_proxies(app_configs: _Apps, **kwargs: Any) -> list[CheckMessage]:
    """Report proxy headers that are taken from anyone."""
    config = _load_or_none()
    if config is None or not config.proxy.proxy_headers:
        return []
    if "*" not in config.proxy.trusted_proxies:
        return []
    return [
        Warning(
            "Every client may choose its own address and scheme, since "
            "DJSERVE['TRUSTED_PROXIES'] has '*'.",
            hint="List the networks of your proxies, or silence this check if only "
            "they can reach the server.",
            id="djserve.W006",
        )
    ]


def check_cors_origins(app_configs: _Apps, **kwargs: Any) -> list[CheckMessage]:
    """Report origins that corsheaders lets call the site but WebSockets refuse."""
    config = _load_or_none()
    if config is None or _CORS_MIDDLEWARE not in settings.MIDDLEWARE:
        return []
    if not any(map(importlib.util.find_spec, _WEBSOCKET_PACKAGES)):
        return []
    policy = create_policy(
        settings.ALLOWED_HOSTS,
        (*settings.CSRF_TRUSTED_ORIGINS, *config.websocket.websocket_origins),
        debug=settings.DEBUG,
    )
    return [
        Warning(
            f"{name} lets pages of {whose} call the site, but they may not open a "
            "WebSocket.",
            hint=f"Add {origin!r} to DJSERVE['WEBSOCKET_ORIGINS'], or silence this if "
            "they open none.",
            id="djserve.W009",
        )
        for name, origin, whose in _find_refused_origins(policy)
    ]


def _find_refused_origins(policy: OriginPolicy) -> Iterator[tuple[str, str, str]]:
    """Yield the setting, what WEBSOCKET_ORIGINS needs, and whose pages are meant."""
    for every in ("CORS_ALLOW_ALL_ORIGINS", "CORS_ORIGIN_ALLOW_ALL"):
        if getattr(settings, every, False):
            if "*" not in (*policy.trusted_origins, *(policy.allowed_hosts or ())):
                yield every, "*", "every origin"
            return
    for name in ("CORS_ALLOWED_ORIGINS", "CORS_ORIGIN_WHITELIST"):
        for origin in getattr(settings, name, ()):
            # By a connection without TLS, where more is let in.
            if not origin_allowed(str(origin), "", False, policy):
                yield name, str(origin), repr(origin)


CHECKS = (
    check_configuration,
    check_installed_apps,
    check_application,
    check_channel_layers,
    check_machines,
    check_redis_timeouts,
    check_asgiref,
    check_debug,
    check_daphne_settings,
    check_proxies,
    check_cors_origins,
)


def _load_or_none() -> ServerConfig | None:
    """Return the configuration; its faults are ``check_configuration``'s to report."""
    try:
        return load()
    except ConfigError:
        return None


def _parse_version(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


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


def _index(names: list[str], name: str) -> int:
    return names.index(name) if name in names else len(names)


def _fallback() -> str:
    project = os.environ.get(ENVIRONMENT_VARIABLE, "").partition(".")[0]
    return f'"{project or "mysite"}.asgi.application"'


def _find_path_problem(path: object) -> str:
    if not isinstance(path, str) or not _DOTTED_PATH.fullmatch(path):
        return "is not a dotted path"
    module, _, attribute = path.rpartition(".")
    try:
        # Imports the packages above the module, not the module.
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        found = None
    if found is None:
        return f"is in a module that does not exist ({module})"
    names = read_names(found)
    if names is None or attribute in names:
        return ""
    return (
        f"names what {module} does not have: {attribute!r}{suggest([attribute], names)}"
    )


def _is_public(address: str) -> bool:
    """Return whether an address is known to be reachable from other machines."""
    host = address.rpartition(":")[0].strip("[]")
    if host in ("", "*"):
        return True
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        # A name, a unix socket, a descriptor or an endpoint: not known.
        return False

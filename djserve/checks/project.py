"""The settings, the apps, the application and the databases of a project."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import asgiref
from django.apps import apps
from django.conf import ENVIRONMENT_VARIABLE, settings
from django.core.checks import CheckMessage, Error, Info, Warning
from django.core.management import get_commands
from django.db import connections

from djserve.asgi.origin import OriginPolicy, create_policy, origin_allowed
from djserve.checks import Apps, load_or_none, parse_version
from djserve.conf.loader import load
from djserve.conf.processes import ProcessConfig
from djserve.conf.suggestions import suggest
from djserve.errors import ConfigError
from djserve.handlers.chain import find_divided
from djserve.handlers.connection_bound import pool_size
from djserve.handlers.runtime import current_config, thread_count
from djserve.server.source_names import read_names

_OLDEST_ASGIREF = (3, 13)

_CORS_MIDDLEWARE = "corsheaders.middleware.CorsMiddleware"

# Packages whose presence says that a project may serve WebSockets.
_WEBSOCKET_PACKAGES = ("channels", "socketio")

_DAPHNE_SETTINGS = {
    "DAPHNE_WEBSOCKET_MAX_MESSAGE_SIZE": "WEBSOCKET_MESSAGE_SIZE_LIMIT",
    "DAPHNE_WEBSOCKET_MAX_FRAME_SIZE": "WEBSOCKET_FRAME_SIZE_LIMIT",
}

# "module.name", as Django's own setting WSGI_APPLICATION.
_DOTTED_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def check_configuration(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Report each fault in ``settings.DJSERVE``."""
    try:
        load()
    except ConfigError as error:
        hint = '"python -m djserve.conf.reference" lists every key, type and default.'
        return [Error(line, hint=hint, id="djserve.E001") for line in error.problems]
    return []


def check_installed_apps(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
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


def check_application(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
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


def check_asgiref(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Report an asgiref without caller-owned executors."""
    return find_asgiref_problems(asgiref.__version__)


def find_asgiref_problems(version: str) -> list[CheckMessage]:
    """Judge one version of asgiref."""
    if parse_version(version) >= _OLDEST_ASGIREF:
        return []
    return [
        Warning(
            f"asgiref {version} is too old to run requests in pooled threads: each "
            "request starts a thread, and CONN_MAX_AGE has no effect.",
            hint="Install asgiref 3.13 or newer.",
            id="djserve.W003",
        )
    ]


def check_debug(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Report debug pages that others than the developer can see."""
    config = load_or_none()
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


def check_daphne_settings(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
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


def check_proxies(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Report proxy headers that are taken from anyone."""
    config = load_or_none()
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


def check_cors_origins(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Report origins that corsheaders lets call the site but WebSockets refuse."""
    config = load_or_none()
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


def check_middleware(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Report middleware that each kind of view needs an instance of."""
    try:
        if current_config().django.handler != "djserve":
            return []
        divided = find_divided()
    except Exception:
        # Wrong settings are reported by their own check, and middleware that cannot be
        # imported by who makes it, at the start.
        return []
    if not divided:
        return []
    keeping = [path for path, keeps_nothing in divided if not keeps_nothing]
    if keeping:
        message = (
            f"There is one of each of these: {', '.join(keeping)}. All views take the "
            "asynchronous lane, as with Django's handler, unless both lanes can share "
            "its attributes."
        )
        hint = (
            "It seems to keep something in memory, and works in both modes. The lanes "
            "share a class that has no attribute but get_response when it is made. "
            "Synchronous views are fast, too, if it is derived from MiddlewareMixin "
            "with hooks alone, keeps nothing, or is capable of one mode."
        )
    else:
        paths = ", ".join(path for path, _ in divided)
        message = (
            f"Middleware that is created twice if views of both kinds are called: "
            f"{paths}."
        )
        hint = (
            "Synchronous views get an instance in synchronous mode, asynchronous ones "
            "another. Derive it from MiddlewareMixin with hooks alone, or make it "
            "capable of one mode, to have one."
        )
    return [Info(message, hint=hint, id="djserve.I001")]


def check_processes(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Report management commands of PROCESSES that no app has."""
    config = load_or_none()
    return [] if config is None else find_process_problems(config.processes.processes)


def find_process_problems(processes: Sequence[ProcessConfig]) -> list[CheckMessage]:
    """Judge PROCESSES, of the settings or of a command line."""
    if not processes:
        return []
    known = get_commands()
    return [
        Error(
            f"PROCESSES: {process.name} runs a management command that does not exist: "
            f"{name!r}{suggest([name], known)}",
            hint="Install the package that has it and add its app to INSTALLED_APPS. "
            "What is not a management command has the key 'program'.",
            id="djserve.E006",
        )
        for process in processes
        for name in process.command[:1]
        if name not in known
    ]


def check_database_pools(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Report database connection pools that are smaller than what threads may open."""
    sizes = {alias: pool_size(each) for alias, each in connections.settings.items()}
    if all(size is None for size in sizes.values()):
        # The number of threads takes some time to find: it is read from files.
        return []
    try:
        config = current_config().django
        threads = thread_count(config)
    except ConfigError:
        # Reported by the check of the settings themselves.
        return []
    most = config.database_connections
    wanted = threads if most is None else min(threads, most)
    messages: list[CheckMessage] = []
    for alias, size in sizes.items():
        if size is not None and size < wanted:
            messages.append(
                Warning(
                    f"The connection pool of database {alias!r} has {size} "
                    f"connections: of the {threads} threads that compute, no more are "
                    "connected to it at a time, and the others wait.",
                    hint=f'Raise "max_size" in OPTIONS["pool"] to {wanted}, or lower '
                    "THREADS in DJSERVE (by default four for each CPU and four more, "
                    "32 at most). DATABASE_CONNECTIONS, by default the number of these "
                    "threads, can be no more than the size of the pool; set to "
                    f"{size}, it says that this is meant.",
                    id="djserve.W007",
                )
            )
    return messages


CHECKS = (
    check_configuration,
    check_installed_apps,
    check_application,
    check_asgiref,
    check_debug,
    check_daphne_settings,
    check_proxies,
    check_cors_origins,
    check_middleware,
    check_processes,
    check_database_pools,
)


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

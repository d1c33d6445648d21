"""What to change in a project, from its packages, settings, proxies and commands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from djserve.cpus import count_cpus
from djserve.doctor.files import Files
from djserve.doctor.translate import SERVERS, Translation, translate
from djserve.doctor.words import Unreadable, join, quote


@dataclass(frozen=True, slots=True)
class Advice:
    """``where`` is a file or a setting; ``is_change``: to do, or only to know."""

    where: str
    text: str
    is_change: bool = True


_SERVERS = (*SERVERS, "uvicorn-worker", "pyuwsgi", "waitress", "mod-wsgi")

_AGENTS = {
    "sentry-sdk": "Sentry",
    "newrelic": "New Relic",
    "ddtrace": "Datadog",
    "elastic-apm": "Elastic APM",
    "scout-apm": "Scout",
    "opentelemetry-instrumentation-django": "OpenTelemetry",
}

_GREEN = ("gevent", "eventlet", "psycogreen", "django-db-geventpool")

_IN_MEMORY = "channels.layers.InMemoryChannelLayer"
_REPLACED_LOGGERS = ("daphne", "uvicorn", "gunicorn", "hypercorn", "granian")

_START_FILE = re.compile(
    r"(procfile|dockerfile|containerfile|(docker-)?compose\.ya?ml$)", re.IGNORECASE
)

_SHUTDOWN_TIMEOUT = 30

# What PostgreSQL allows by default, less what it keeps for superusers.
_POSTGRESQL_CONNECTIONS = 97


def advise_packages(files: Files) -> Iterator[Advice]:
    """Judge the packages that the project requires."""
    packages = files.packages
    if "djserve" not in packages:
        extras = [name for name in ("channels",) if name in packages]
        name = f"djserve[{','.join(extras)}]" if extras else "djserve"
        yield Advice("requirements", f"Add {name}; djserve[production] brings metrics.")
    if "channels[daphne]" in packages:
        text = "channels[daphne] installs Daphne, too: write channels alone."
        yield Advice(packages["channels[daphne]"], text)
    for name in _SERVERS:
        if name in packages:
            text = f"Remove {name} once djserve serves."
            yield Advice(packages[name], text)
    for name in _GREEN:
        if name in packages:
            text = (
                f"Remove {name}, and what calls its patches: djserve runs synchronous "
                "code in threads."
            )
            yield Advice(packages[name], text)
    for name, title in _AGENTS.items():
        if name in packages:
            text = (
                f"{title} replaces methods of Django's handler. djserve keeps what it "
                "replaces in force; the start-up lines name it."
            )
            yield Advice(packages[name], text, is_change=False)


def advise_proxies(files: Files) -> Iterator[Advice]:
    """Judge the configuration of the proxies in front."""
    for path, text in files.proxies:
        if "uwsgi_pass" in text:
            yield Advice(path, "Replace uwsgi_pass by proxy_pass http://...")
        if "WSGIScriptAlias" in text:
            yield Advice(
                path,
                "Replace WSGIScriptAlias by ProxyPass / http://127.0.0.1:8000/ "
                "upgrade=websocket, with ProxyPreserveHost On and RequestHeader set "
                'X-Forwarded-Proto "https", and start djserve with --proxy-headers. Of '
                "WSGIDaemonProcess, processes= is --workers, threads= is --threads, "
                "user= and group= are User= and Group= of a systemd unit.",
            )
        if "proxy_pass" not in text:
            continue
        if not re.search(r"proxy_set_header\s+Upgrade", text, re.I):
            yield Advice(
                path,
                "For WebSocket add: proxy_http_version 1.1; proxy_set_header Upgrade "
                "$http_upgrade; proxy_set_header Connection $connection_upgrade;",
            )
        if "X-Forwarded-Proto" not in text:
            yield Advice(path, "Add: proxy_set_header X-Forwarded-Proto $scheme;")


_DIRECTIVES = {
    "Type": "Type=notify (systemd knows when it serves)",
    "ExecReload": "ExecReload=/bin/kill -HUP $MAINPID (new code without a gap)",
    "KillMode": "KillMode=mixed (the supervisor drains its workers)",
}


def advise_units(files: Files) -> Iterator[Advice]:
    """Judge systemd's units that start a server."""
    for path, directives in files.units:
        lacking = [
            text
            for name, text in _DIRECTIVES.items()
            if name not in directives or (name, directives[name]) in _OTHERS
        ]
        if lacking and path.endswith(".service"):
            yield Advice(path, f"Set {', '.join(lacking)}.")
        for name in ("TimeoutStopSec", "stopwaitsecs"):
            value = directives.get(name, "")
            seconds = re.fullmatch(r"(\d+)s?", value)
            if seconds and int(seconds[1]) <= _SHUTDOWN_TIMEOUT:
                yield Advice(
                    path,
                    f"{name}={value} may end the server before its requests have: "
                    "make it longer than --shutdown-timeout "
                    f"({_SHUTDOWN_TIMEOUT} seconds by default).",
                )


# Values that are right for a server without a supervisor that speaks to systemd.
_OTHERS = {("Type", each) for each in ("simple", "exec", "forking", "idle", "oneshot")}


def advise_variables(files: Files) -> Iterator[Advice]:
    """Judge variables that a server reads whose command is elsewhere."""
    for each in files.variables:
        server = each.name.partition("_")[0].lower()
        try:
            found = translate(f"{each.name}={quote(each.value)} {server} a:b")
        except Unreadable as error:
            text = f"{each.name} cannot be read: {error}"
        else:
            flags = join(found.words) or "none"
            text = f"Only {server} reads {each.name}. Flags of djserve: {flags}"
        yield Advice(f"{each.path}:{each.line}", text)


def advise_place(folder: Path, files: Files) -> Iterator[Advice]:
    """Name what starts servers above a folder in which nothing does."""
    if files.starts:
        return
    for path in sorted(folder.resolve().parent.glob("*")):
        if _START_FILE.match(path.name) and path.is_file():
            text = f"{path.name} is there: python -m djserve.doctor .. reads it, too."
            yield Advice("the folder above", text, is_change=False)
            return


def advise_settings(
    settings: Any, files: Files, translations: Iterable[Translation]
) -> Iterator[Advice]:
    """Judge Django's settings; ``settings`` is anything with their names."""
    found = list(translations)
    yield from _advise_apps(settings)
    yield from _advise_application(settings, found)
    yield from _advise_middleware(settings)
    yield from _advise_layers(settings, found)
    yield from _advise_databases(settings, found)
    yield from _advise_scheme(settings)
    yield from _advise_static(settings)
    yield from _advise_logging(settings)


def _advise_apps(settings: Any) -> Iterator[Advice]:
    names = [_app_name(each) for each in getattr(settings, "INSTALLED_APPS", ())]
    if "daphne" in names:
        yield Advice("INSTALLED_APPS", 'Replace "daphne" by "djserve".')
    elif "djserve" not in names:
        yield Advice("INSTALLED_APPS", 'Put "djserve" first.')
    static = "django.contrib.staticfiles"
    if "djserve" in names and static in names[: names.index("djserve")]:
        yield Advice("INSTALLED_APPS", f'Put "djserve" before "{static}".')


def _app_name(entry: object) -> str:
    return re.sub(r"\.apps\.\w+$", "", str(entry))


def _advise_application(
    settings: Any, translations: list[Translation]
) -> Iterator[Advice]:
    current = getattr(settings, "ASGI_APPLICATION", None)
    served = {
        _dotted(each.application)
        for each in translations
        if each.application and "(" not in each.application
    }
    if not current:
        name = min(served, default=_name_application(settings))
        yield Advice("ASGI_APPLICATION", f'Set it to "{name}".')
        return
    for name in sorted(served - {str(current)}):
        yield Advice(
            "ASGI_APPLICATION",
            f'It is "{current}", and a command above serves "{name}". runasgi serves '
            "the setting.",
        )


def _dotted(application: str) -> str:
    """Return the setting for what a server was given; Django's modules have one."""
    module, colon, name = application.partition(":")
    return f"{module}.{name}" if colon else f"{module}.application"


def _name_application(settings: Any) -> str:
    """Return what a new project's setting would be: next to its URLs."""
    wsgi = str(getattr(settings, "WSGI_APPLICATION", "") or "")
    package = str(getattr(settings, "ROOT_URLCONF", "") or "").rpartition(".")[0]
    if wsgi:
        return wsgi.replace("wsgi", "asgi")
    return f"{package or 'mysite'}.asgi.application"


def _advise_middleware(settings: Any) -> Iterator[Advice]:
    for path in getattr(settings, "MIDDLEWARE", ()):
        module, _, name = str(path).rpartition(".")
        try:
            middleware = getattr(import_module(module), name)
        # Any import may fail in any way; that of a stranger's module is not ours.
        except Exception as error:
            text = f"{path} cannot be imported: {type(error).__name__}: {error}"
            yield Advice("MIDDLEWARE", text)
            continue
        if not getattr(middleware, "async_capable", False):
            yield Advice(
                "MIDDLEWARE",
                f"{path} is synchronous only: behind it asynchronous views take a "
                "thread, too, as with every server.",
                is_change=False,
            )


def _count_workers(translations: list[Translation]) -> int:
    """Return the workers of the largest command, 1 if none says."""
    numbers = [1]
    for each in translations:
        words = list(each.words)
        for index, word in enumerate(words[:-1]):
            if word == "--workers":
                value = words[index + 1]
                numbers.append(int(value) if value.isdigit() else count_cpus())
    return max(numbers)


def _advise_layers(settings: Any, translations: list[Translation]) -> Iterator[Advice]:
    layers = getattr(settings, "CHANNEL_LAYERS", None)
    if not isinstance(layers, Mapping):
        return
    workers = _count_workers(translations)
    for alias, layer in layers.items():
        backend = str(layer.get("BACKEND")) if isinstance(layer, Mapping) else ""
        if backend == _IN_MEMORY:
            yield Advice(
                f"CHANNEL_LAYERS[{alias!r}]",
                "It lives in one process. With several workers use "
                '"djserve.channels.HostChannelLayer" (one machine, nothing to install) '
                "or channels_redis.",
                is_change=workers > 1,
            )
        elif backend.startswith("channels_redis."):
            text = (
                "It works as it is; on one machine djserve.channels.HostChannelLayer "
                "needs no Redis."
            )
            yield Advice(f"CHANNEL_LAYERS[{alias!r}]", text, is_change=False)


def _advise_databases(
    settings: Any, translations: list[Translation]
) -> Iterator[Advice]:
    databases = getattr(settings, "DATABASES", None)
    if not isinstance(databases, Mapping):
        return
    workers = _count_workers(translations)
    threads = min(32, 4 * count_cpus() + 4)
    for alias, database in databases.items():
        if not isinstance(database, Mapping):
            continue
        engine = str(database.get("ENGINE", ""))
        where = f"DATABASES[{alias!r}]"
        if not engine or "sqlite3" in engine:
            continue
        total = workers * threads
        of_all = f", {total} for {workers}" if workers > 1 else ""
        text = (
            f"Up to {threads} connections for each worker{of_all}: as many as threads "
            f"compute at once with the {count_cpus()} CPUs here."
        )
        if total > _POSTGRESQL_CONNECTIONS and "postg" in engine:
            each = max(1, _POSTGRESQL_CONNECTIONS // workers)
            text += f" PostgreSQL allows 100 by default: --database-connections {each}."
            yield Advice(where, text)
        else:
            text += " --database-connections bounds them."
            yield Advice(where, text, is_change=False)
        if database.get("CONN_MAX_AGE", 0) == 0 and not _has_pool(database):
            text = (
                'Set "CONN_MAX_AGE": 60 and "CONN_HEALTH_CHECKS": True: threads live '
                "on, so connections are kept as under WSGI."
            )
            yield Advice(where, text)


def _has_pool(database: Mapping[str, Any]) -> bool:
    options = database.get("OPTIONS")
    return isinstance(options, Mapping) and bool(options.get("pool"))


def _advise_scheme(settings: Any) -> Iterator[Advice]:
    if getattr(settings, "SECURE_PROXY_SSL_HEADER", None):
        yield Advice(
            "SECURE_PROXY_SSL_HEADER",
            "It still works. --proxy-headers with --trusted-proxies does the same for "
            "the proxies that you name only.",
            is_change=False,
        )


def _advise_static(settings: Any) -> Iterator[Advice]:
    middleware = [str(each) for each in getattr(settings, "MIDDLEWARE", ())]
    if any(each.startswith(("whitenoise.", "servestatic.")) for each in middleware):
        yield Advice(
            "MIDDLEWARE",
            "WhiteNoise serves the static files as before. Without its middleware "
            "djserve serves STATIC_ROOT, outside of Django.",
            is_change=False,
        )
    elif getattr(settings, "STATIC_ROOT", None):
        yield Advice(
            "STATIC_ROOT",
            "runasgi serves these files at STATIC_URL; --static off if a proxy does.",
            is_change=False,
        )


def _advise_logging(settings: Any) -> Iterator[Advice]:
    logging = getattr(settings, "LOGGING", None)
    loggers = logging.get("loggers", {}) if isinstance(logging, Mapping) else {}
    for name in loggers if isinstance(loggers, Mapping) else ():
        server = str(name).partition(".")[0]
        if server in _REPLACED_LOGGERS:
            new = "djserve.access" if "access" in str(name) else "djserve"
            yield Advice(
                f"LOGGING {name!r}", f"Rename it: djserve's logger is {new!r}."
            )

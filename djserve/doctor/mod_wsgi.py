"""mod_wsgi-express, which makes a configuration for Apache and starts that."""

from __future__ import annotations

from collections.abc import Sequence

from djserve.doctor.gunicorn import access_log
from djserve.doctor.rules import (
    Draft,
    FlagRule,
    KnownServer,
    Outcome,
    lacking,
    missing,
    needless,
    special,
    switch,
    to,
    translated,
    unneeded,
)
from djserve.doctor.uvicorn import LOGGING, RELOAD, host, port, trust
from djserve.doctor.wsgi import (
    DEFAULTS,
    PROXIES,
    body_size,
    directory,
    mount_folder,
    path,
    threads,
)

_APACHE = "There is no Apache: a proxy in front, or the project, does that."
_MODULES = "There is no Apache, and nothing of it to be found."
_AUTHENTICATION = "Django's authentication, or a proxy, does that."


def _alias(draft: Draft, value: str) -> Outcome:
    prefix, _, folder = value.partition(" ")
    return mount_folder(draft, prefix, folder)


def _type(draft: Draft, value: str) -> Outcome:
    if value in ("module", "script"):
        return unneeded("asgi.py is imported as a module.")
    return lacking("djserve serves ASGI applications.")


def _keep_alive(draft: Draft, value: str) -> Outcome:
    return translated(draft.add("--keep-alive-timeout", value))


def _access_log(draft: Draft, value: str) -> Outcome:
    return access_log(draft, "-")


def _callable(draft: Draft, value: str) -> Outcome:
    if value == "application":
        return unneeded("It is the default.")
    return lacking("Write it behind the module: djserve module:name.")


def _https_port(draft: Draft, value: str) -> Outcome:
    draft.port = value
    return translated(f"port {value} of --bind", "With --certfile and --keyfile.")


def _certificate(draft: Draft, value: str) -> Outcome:
    words = draft.add("--certfile", f"{value}.crt", "--keyfile", f"{value}.key")
    return translated(words)


def _proxy_header(draft: Draft, value: str) -> Outcome:
    if "--proxy-headers" in draft.words:
        return unneeded("--proxy-headers reads Forwarded and X-Forwarded-*.")
    return translated(draft.add("--proxy-headers"), PROXIES)


def _processes(draft: Draft, value: str) -> Outcome:
    return translated(draft.add("--workers", value))


def _arrange(words: Sequence[str]) -> list[str]:
    """Leave out what mod_wsgi-express is asked to do."""
    return list(words[1:] if words[:1] and not words[0].startswith("-") else words)


def _finish(draft: Draft) -> list[Outcome]:
    draft.host, draft.port = draft.host or "0.0.0.0", draft.port or "8000"
    return []


RULES: tuple[FlagRule, ...] = (
    special("--application-type", _type, "none needed"),
    special("--callable-object", _callable, "`module:name`"),
    special("--host", host, "`--bind HOST:PORT`", "All addresses by default."),
    special("--port", port, "`--bind HOST:PORT`"),
    special("--https-port", _https_port, "`--bind HOST:PORT`"),
    missing("--https-only", "--redirect-http 0.0.0.0:80 does that.", values="0"),
    special("--ssl-certificate", _certificate, "`--certfile`, `--keyfile`"),
    to("--ssl-certificate-file", "--certfile"),
    to("--ssl-certificate-key-file", "--keyfile"),
    to("--ssl-ca-certificate-file", "--client-ca-file"),
    special("--processes", _processes, "`--workers`"),
    special("--threads", threads, "`--threads`", "The default follows the views."),
    to("--max-clients", "--connection-limit", "Of each worker."),
    to("--user", "--user"),
    to("--group", "--group"),
    special("--url-alias", _alias, "`--files PREFIX=FOLDER`", values="2"),
    missing("--document-root", "--files PREFIX=FOLDER names what is served."),
    missing("--directory-index", "--files-index serves index.html."),
    to("--mount-point", "--root-path"),
    special("--working-directory", directory, "`cd DIRECTORY`"),
    special("--python-path", path, "`--app-dir`; manage.py: `--pythonpath`"),
    switch("--reload-on-changes", "--reload", RELOAD),
    to("--request-timeout", "--request-timeout", "The answer is then 503."),
    to("--graceful-timeout", "--shutdown-timeout"),
    needless("--shutdown-timeout", "--shutdown-timeout bounds all of it."),
    to("--header-timeout", "--header-timeout"),
    needless("--body-timeout", "A body that comes too slowly is ended."),
    needless("--connect-timeout", "Connections come to the workers themselves."),
    to("--queue-timeout", "--thread-wait-timeout"),
    to("--maximum-requests", "--worker-max-requests"),
    special("--limit-request-body", body_size, "`--body-size-limit`"),
    special("--keep-alive-timeout", _keep_alive, "`--keep-alive-timeout`"),
    switch("--compress-responses", "--compression"),
    special("--trust-proxy-header", _proxy_header, "`--proxy-headers`"),
    special("--trust-proxy", trust, "`--trusted-proxies`"),
    special("--access-log", _access_log, "`--access-log -`", values="0"),
    to("--access-log-format", "--access-log-format"),
    needless("--log-to-terminal", "The log goes to standard error.", values="0"),
    missing("--log-level", "--verbosity, 0 to 3."),
    missing("--log-directory", LOGGING),
    needless("--startup-log", "The log has the start.", values="0"),
    needless("--rotate-logs", "logrotate and SIGUSR1 do that.", values="0"),
    to("--pid-file", "--pid-file"),
    needless("--server-root", _MODULES),
    needless("--setup-only", "There is nothing to set up.", values="0"),
    missing("--server-name", "ALLOWED_HOSTS names the hosts."),
    missing("--server-alias", "ALLOWED_HOSTS names the hosts."),
    missing("--include-file", _APACHE),
    missing("--rewrite-rules", _APACHE),
    missing("--auth-user-script", _AUTHENTICATION),
    missing("--host-access-script", _AUTHENTICATION),
    needless("--enable-docs", _MODULES, values="0"),
    needless("--lang", "The environment's LANG counts."),
    needless("--locale", "The environment's LC_ALL counts."),
    needless("--help", "`--help` and `--help-all`.", values="0"),
)

SERVER = KnownServer(
    "mod_wsgi-express",
    RULES,
    _finish,
    (*DEFAULTS, "An idle connection is kept for 75 seconds; not at all in Apache."),
    abbreviates=False,
    is_wsgi=True,
    page="from-mod-wsgi.md",
    arrange=_arrange,
)

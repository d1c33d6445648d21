"""Uvicorn's command line."""

from __future__ import annotations

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

LOGGING = (
    "Set LOGGING in Django's settings: its loggers are djserve and djserve.access."
)
VERBOSITY = {
    "critical": "0",
    "error": "0",
    "warning": "0",
    "warn": "0",
    "debug": "2",
    "trace": "3",
}
CERTIFICATES = {
    "0": "none",
    "1": "optional",
    "2": "required",
    "CERT_NONE": "none",
    "CERT_OPTIONAL": "optional",
    "CERT_REQUIRED": "required",
}
TRUE = {"1", "true", "t", "yes", "y", "on"}
FALSE = {"0", "false", "f", "no", "n", "off"}


_ALONE = "The socket of another flag is listened on alone."


def host(draft: Draft, value: str) -> Outcome:
    if "socket" in draft.seen:
        return unneeded(_ALONE)
    draft.host = value
    return translated(f"--bind {value}")


def port(draft: Draft, value: str) -> Outcome:
    if "socket" in draft.seen:
        return unneeded(_ALONE)
    draft.port = value
    return translated(f"port {value} of --bind")


def unix_socket(draft: Draft, value: str) -> Outcome:
    """Listen on a path, and not on --host and --port as well."""
    draft.seen.add("socket")
    return translated(draft.add("--bind", f"unix:{value}"))


def descriptor(draft: Draft, value: str) -> Outcome:
    draft.seen.add("socket")
    return translated(draft.add("--bind", f"fd://{value}"))


SOCKETS = (unix_socket, descriptor)
"""They are read before the address, whose place they take."""


def trust(draft: Draft, value: str) -> Outcome:
    """Name each proxy that is believed; a path stands for unix sockets."""
    names = []
    for each in (part.strip() for part in value.split(",")):
        name = "unix" if each.startswith("/") or each.startswith("unix") else each
        if name and name not in names:
            names.append(name)
    words = [word for name in names for word in ("--trusted-proxies", name)]
    draft.seen.add("trust")
    note = (
        "Anyone may claim any address with *; name your proxies."
        if "*" in names
        else ""
    )
    return translated(draft.add(*words), note)


def level(draft: Draft, value: str) -> Outcome:
    found = VERBOSITY.get(value.lower())
    if found is None:
        return unneeded("The level info is the default.")
    if found == "0":
        draft.seen.add("quiet")
    return translated(draft.add("--verbosity", found))


def client_certificates(draft: Draft, value: str) -> Outcome:
    name = CERTIFICATES.get(value.removeprefix("VerifyMode."))
    if name is None:
        return lacking("--client-certificates takes none, optional or required.")
    if name == "none":
        return unneeded("Clients are asked for no certificate by default.")
    return translated(draft.add("--client-certificates", name))


def recycle(draft: Draft, value: str) -> Outcome:
    if value == "0":
        return unneeded("Workers live on by default.")
    note = "Each worker varies it by --worker-jitter, 10 per cent."
    return translated(draft.add("--worker-max-requests", value), note)


def _path(draft: Draft, value: str) -> Outcome:
    draft.path = value
    return translated(f"--app-dir {value}", "manage.py: --pythonpath.")


def make_application(draft: Draft, value: str) -> Outcome:
    draft.is_factory = True
    return translated(
        "--factory", "manage.py: ASGI_APPLICATION names an application, not a factory."
    )


def _deflate(draft: Draft, value: str) -> Outcome:
    if value.lower() in FALSE:
        return translated(draft.add("--no-websocket-compression"))
    return unneeded("Compression is on by default.")


def _queue(draft: Draft, value: str) -> Outcome:
    return translated(
        draft.add("--websocket-queue-limit", "1" if value == "0" else value)
    )


def _interface(draft: Draft, value: str) -> Outcome:
    if value == "wsgi":
        return lacking(
            "djserve serves ASGI; a Django project has asgi.py, whose synchronous "
            "views run as they are."
        )
    return unneeded("ASGI 3 and ASGI 2 are told apart.")


def _header(draft: Draft, value: str) -> Outcome:
    name, _, text = value.partition(":")
    if name.strip().lower() == "server":
        return translated(draft.add("--server-name", text.strip()))
    return translated(draft.add("--header", f"{name.strip()}: {text.strip()}"))


def load_variables(draft: Draft, value: str) -> Outcome:
    draft.env_file = value
    note = "manage.py: load it with what starts the server, as by EnvironmentFile=."
    return translated(f"--env-file {value}", note)


def _no_server(draft: Draft, value: str) -> Outcome:
    return translated(draft.add("--no-server-name"))


def _proxy_headers(draft: Draft, value: str) -> Outcome:
    draft.seen.add("proxy")
    return translated(draft.add("--proxy-headers"))


def _no_proxy_headers(draft: Draft, value: str) -> Outcome:
    draft.seen.add("proxy")
    return translated(draft.add("--no-proxy-headers"))


def _access_log(draft: Draft, value: str) -> Outcome:
    draft.seen.add("access")
    return translated(draft.add("--access-log", "-"))


def _no_access_log(draft: Draft, value: str) -> Outcome:
    draft.seen.add("access")
    return unneeded("The access log is off unless --access-log is given.")


def _hang(draft: Draft, value: str) -> Outcome:
    return translated(
        draft.add("--worker-hang-timeout", value),
        "It counts the time for which the event loop is blocked.",
    )


def finish(draft: Draft) -> list[Outcome]:
    """Add what Uvicorn does without being asked."""
    outcomes = []
    # Its level also applies to the access log.
    if not draft.seen & {"access", "quiet"}:
        words = draft.add("--access-log", "-")
        note = "Uvicorn logs each request by default; leave it out to save that time."
        outcomes.append(translated(words, note))
    if "proxy" not in draft.seen:
        words = draft.add("--proxy-headers")
        note = "On in Uvicorn by default; only proxies of this machine are believed."
        if "trust" in draft.seen:
            note = "On in Uvicorn by default."
        outcomes.append(translated(words, note))
    return outcomes


ENGINE = "djserve has one implementation of each protocol."
RELOAD = "In development, manage.py runserver reloads, and serves static files."

RULES: tuple[FlagRule, ...] = (
    special("--host", host, "`--bind HOST:PORT`"),
    special("--port", port, "`--bind HOST:PORT`"),
    special("--uds", unix_socket, "`--bind unix:PATH`"),
    special("--fd", descriptor, "`--bind fd://N`"),
    switch("--reload", "--reload", RELOAD),
    to("--reload-dir", "--reload-paths"),
    missing(
        "--reload-include",
        "Changes of Python files reload; name files that matter in --reload-paths.",
    ),
    missing("--reload-exclude", "Name what is to be watched in --reload-paths."),
    needless("--reload-delay", "Changes are reported by the system, not looked for."),
    to("--workers", "--workers"),
    needless("--loop", "uvloop is used if it is installed."),
    needless("--http", ENGINE),
    needless("--http2", "HTTP/2 is on with TLS.", values="0"),
    needless("--ws", ENGINE),
    to("--ws-max-size", "--websocket-message-size-limit"),
    special("--ws-max-queue", _queue, "`--websocket-queue-limit`"),
    to("--ws-ping-interval", "--websocket-ping-interval"),
    to("--ws-ping-timeout", "--websocket-ping-timeout"),
    special(
        "--ws-per-message-deflate", _deflate, "`--no-websocket-compression` if false"
    ),
    to("--lifespan", "--lifespan"),
    special("--interface", _interface, "none needed for ASGI; WSGI is not served"),
    special("--env-file", load_variables, "`--env-file`; not of manage.py"),
    missing("--log-config", LOGGING),
    special("--log-level", level, "`--verbosity`", "warning is 0, debug is 2."),
    special("--access-log", _access_log, "`--access-log -`", values="0"),
    special("--no-access-log", _no_access_log, "the default", values="0"),
    needless("--use-colors", "djserve's log has no colours.", values="0"),
    needless("--no-use-colors", "djserve's log has no colours.", values="0"),
    special("--proxy-headers", _proxy_headers, "`--proxy-headers`", values="0"),
    special(
        "--no-proxy-headers", _no_proxy_headers, "`--no-proxy-headers`", values="0"
    ),
    needless("--server-header", "The header is sent by default.", values="0"),
    special("--no-server-header", _no_server, "`--no-server-name`", values="0"),
    needless("--date-header", "Date is always sent.", values="0"),
    missing(
        "--no-date-header", "Date is always sent, as RFC 9110 asks for.", values="0"
    ),
    special("--forwarded-allow-ips", trust, "`--trusted-proxies`, once for each"),
    to(
        "--root-path",
        "--root-path",
        "--root-path-mode says what the proxy does with it.",
    ),
    to(
        "--limit-concurrency",
        "--connection-limit",
        "It counts connections; idle ones make room before new ones get 503.",
    ),
    to("--backlog", "--backlog"),
    special("--limit-max-requests", recycle, "`--worker-max-requests`"),
    needless("--limit-max-requests-jitter", "--worker-jitter is 10 per cent."),
    to("--timeout-keep-alive", "--keep-alive-timeout"),
    to("--timeout-graceful-shutdown", "--shutdown-timeout"),
    special("--timeout-worker-healthcheck", _hang, "`--worker-hang-timeout`"),
    to("--ssl-keyfile", "--keyfile"),
    to("--ssl-certfile", "--certfile"),
    to("--ssl-keyfile-password", "--keyfile-password"),
    needless("--ssl-version", "TLS 1.2 and 1.3 are spoken."),
    special("--ssl-cert-reqs", client_certificates, "`--client-certificates`"),
    to("--ssl-ca-certs", "--client-ca-file"),
    missing(
        "--ssl-ciphers",
        "The ciphers are OpenSSL's secure ones; a proxy can choose others.",
    ),
    special("--header", _header, "`--header`; `--server-name` for Server"),
    special("--app-dir", _path, "`--app-dir`; manage.py: `--pythonpath`"),
    to("--h11-max-incomplete-event-size", "--header-size-limit"),
    needless("--reset-contextvars", "Each request has its own context.", values="0"),
    special("--factory", make_application, "`--factory`", values="0"),
    needless("--version", "`--version`.", values="0"),
    needless("--help", "`--help` and `--help-all`.", values="0"),
)

DEFAULTS = (
    "A WebSocket message may have 1 MiB; 16 MiB in Uvicorn "
    "(--websocket-message-size-limit).",
    "An idle connection is kept for 75 seconds; 5 in Uvicorn (--keep-alive-timeout).",
    "After SIGTERM requests have 30 seconds to finish; without end in Uvicorn "
    "(--shutdown-timeout).",
    "Pages of other sites may open no WebSocket: ALLOWED_HOSTS and "
    "CSRF_TRUSTED_ORIGINS say which may.",
    "manage.py runasgi uses LOGGING of Django's settings, and djserve's handler.",
)

SERVER = KnownServer(
    "uvicorn", RULES, finish, DEFAULTS, abbreviates=False, variables="UVICORN_"
)

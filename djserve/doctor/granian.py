"""Granian's command line; its flags may be environment variables, too."""

from __future__ import annotations

from collections.abc import Callable

from djserve.doctor.gunicorn import FRAMES, stream_window
from djserve.doctor.rules import (
    Draft,
    FlagRule,
    Kind,
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
from djserve.doctor.uvicorn import (
    ENGINE,
    LOGGING,
    RELOAD,
    host,
    level,
    load_variables,
    make_application,
    port,
    unix_socket,
)

_WATCHED = "Name what is to be watched in --reload-paths."
_RUNTIME = "Connections and the application share one event loop in each worker."
_RESPAWN = "The supervisor replaces workers that end, with a back-off."
_SAMPLES = "The memory of each worker is looked at every few seconds."


def _interface(draft: Draft, value: str) -> Outcome:
    if value == "asginl":
        return translated(draft.add("--lifespan", "off"))
    if value == "asgi":
        return unneeded("ASGI 3 and ASGI 2 are told apart.")
    return lacking(
        "djserve serves ASGI; a Django project has asgi.py, whose synchronous views "
        "run as they are."
    )


def _http(draft: Draft, value: str) -> Outcome:
    if value == "1":
        return translated(draft.add("--no-http2"))
    return unneeded("HTTP/2 is on with TLS, and for trusted proxies without it.")


def _milliseconds(flag: str) -> Callable[[Draft, str], Outcome]:
    def apply(draft: Draft, value: str) -> Outcome:
        return translated(draft.add(flag, f"{value}ms"))

    return apply


def _mebibytes(draft: Draft, value: str) -> Outcome:
    return translated(draft.add("--worker-max-memory", f"{value}MiB"))


def _no_keep_alive(draft: Draft, value: str) -> Outcome:
    return translated(draft.add("--keep-alive-timeout", "0"))


def _access_log(draft: Draft, value: str) -> Outcome:
    return translated(draft.add("--access-log", "-"))


def _verify(draft: Draft, value: str) -> Outcome:
    return translated(draft.add("--client-certificates", "required"))


def _directory(draft: Draft, value: str) -> Outcome:
    draft.directory = value
    return translated(f"cd {value}", "WorkingDirectory= in a systemd unit.")


def _route(draft: Draft, value: str) -> Outcome:
    draft.routes.append(value)
    return translated(f"prefix {value} of --files")


def _mount(draft: Draft, value: str) -> Outcome:
    draft.mounts.append(value)
    return translated(f"folder {value} of --files")


def _index(draft: Draft, value: str) -> Outcome:
    if value != "index.html":
        return lacking("--files-index serves index.html, and no other name.")
    return translated(draft.add("--files-index"))


def _metrics(draft: Draft, value: str) -> Outcome:
    draft.seen.add("metrics")
    return unneeded("Its address is, see --metrics-bind.")


def _metrics_address(draft: Draft, value: str) -> Outcome:
    draft.metrics_host = value
    return translated(f"address {value} of --metrics-bind")


def _metrics_port(draft: Draft, value: str) -> Outcome:
    draft.metrics_port = value
    return translated(f"port {value} of --metrics-bind")


def _log_off(draft: Draft, value: str) -> Outcome:
    return translated(draft.add("--verbosity", "0"), "Errors are logged still.")


def finish(draft: Draft) -> list[Outcome]:
    """Join the flags that come in pairs."""
    outcomes = []
    routes = draft.routes or ["/static"]
    for number, folder in enumerate(draft.mounts):
        prefix = routes[min(number, len(routes) - 1)].strip("/")
        words = draft.add(
            "--files", f"/{prefix}/={folder}" if prefix else f"/={folder}"
        )
        note = "runasgi serves STATIC_ROOT at STATIC_URL without it."
        outcomes.append(Outcome(Kind.TRANSLATED, "--static-path-mount", words, note))
    if "metrics" in draft.seen:
        address = f"{draft.metrics_host or '127.0.0.1'}:{draft.metrics_port or '9090'}"
        note = "The metrics have other names; the package extra is metrics."
        words = draft.add("--metrics-bind", address)
        outcomes.append(Outcome(Kind.TRANSLATED, "--metrics", words, note))
    return outcomes


RULES: tuple[FlagRule, ...] = (
    special("--host", host, "`--bind HOST:PORT`"),
    special("--port", port, "`--bind HOST:PORT`"),
    special("--uds", unix_socket, "`--bind unix:PATH`"),
    to("--uds-permissions", "--unix-mode"),
    special("--interface", _interface, "`--lifespan off` for asginl; else none needed"),
    special("--http", _http, "`--no-http2` if 1"),
    needless("--ws", "WebSocket is served.", values="0"),
    missing("--no-ws", "The application closes them: 403.", values="0"),
    to("--workers", "--workers"),
    to(
        "--blocking-threads",
        "--threads",
        "Leave it out, and the number follows what the views do.",
    ),
    needless("--blocking-threads-idle-timeout", "Idle threads end by themselves."),
    needless("--runtime-threads", _RUNTIME),
    needless("--runtime-blocking-threads", _RUNTIME),
    needless("--runtime-mode", _RUNTIME),
    needless("--loop", "uvloop is used where it is installed."),
    needless("--task-impl", ENGINE),
    to("--backlog", "--backlog"),
    missing(
        "--backpressure",
        "--connection-limit bounds connections, --thread-queue-limit the calls that "
        "wait for a thread.",
    ),
    needless("--http1-buffer-size", "--header-size-limit bounds a request's head."),
    special(
        "--http1-header-read-timeout",
        _milliseconds("--header-timeout"),
        "`--header-timeout`",
    ),
    needless("--http1-keep-alive", "It is on.", values="0"),
    special(
        "--no-http1-keep-alive",
        _no_keep_alive,
        "`--keep-alive-timeout 0`",
        values="0",
    ),
    needless("--http1-pipeline-flush", ENGINE, values="0"),
    needless("--no-http1-pipeline-flush", ENGINE, values="0"),
    needless("--http2-adaptive-window", "Windows grow with the reader.", values="0"),
    needless("--no-http2-adaptive-window", "Windows grow with the reader.", values="0"),
    to("--http2-initial-connection-window-size", "--http2-connection-window-size"),
    special(
        "--http2-initial-stream-window-size",
        stream_window,
        "`--http2-stream-window-size`",
    ),
    special(
        "--http2-keep-alive-interval",
        _milliseconds("--http2-ping-interval"),
        "`--http2-ping-interval`",
    ),
    to("--http2-keep-alive-timeout", "--http2-ping-timeout"),
    to("--http2-max-concurrent-streams", "--http2-stream-limit"),
    needless("--http2-max-frame-size", FRAMES),
    to("--http2-max-headers-size", "--header-size-limit"),
    needless("--http2-max-send-buffer-size", "--client-memory-limit bounds all."),
    needless("--log", "It is on.", values="0"),
    special("--no-log", _log_off, "`--verbosity 0`", values="0"),
    special("--log-level", level, "`--verbosity`", "warning is 0, debug is 2."),
    missing("--log-config", LOGGING),
    special("--access-log", _access_log, "`--access-log -`", values="0"),
    needless("--no-access-log", "The access log is off by default.", values="0"),
    missing("--access-log-fmt", "--access-log-format has the atoms of Apache."),
    to("--ssl-certificate", "--certfile"),
    to("--ssl-keyfile", "--keyfile"),
    to("--ssl-keyfile-password", "--keyfile-password"),
    needless("--ssl-protocol-min", "TLS 1.2 and 1.3 are spoken."),
    to("--ssl-ca", "--client-ca-file"),
    missing("--ssl-crl", "Have a proxy check them."),
    special(
        "--ssl-client-verify", _verify, "`--client-certificates required`", values="0"
    ),
    needless(
        "--no-ssl-client-verify",
        "Clients are asked for no certificate by default.",
        values="0",
    ),
    to(
        "--url-path-prefix",
        "--root-path",
        "--root-path-mode says what the proxy does with it.",
    ),
    needless("--respawn-failed-workers", _RESPAWN, values="0"),
    needless("--no-respawn-failed-workers", _RESPAWN, values="0"),
    needless("--respawn-interval", _RESPAWN),
    needless("--rss-sample-interval", _SAMPLES),
    needless("--rss-samples", _SAMPLES),
    to("--workers-lifetime", "--worker-max-age"),
    special("--workers-max-rss", _mebibytes, "`--worker-max-memory`"),
    to("--workers-kill-timeout", "--shutdown-timeout"),
    special("--factory", make_application, "`--factory`", values="0"),
    needless("--no-factory", "It is the default.", values="0"),
    special("--working-dir", _directory, "`cd DIRECTORY`"),
    special("--env-files", load_variables, "`--env-file`; not of manage.py"),
    special("--static-path-route", _route, "`--files PREFIX=FOLDER`"),
    special("--static-path-mount", _mount, "`--files PREFIX=FOLDER`"),
    special("--static-path-dir-to-file", _index, "`--files-index`"),
    to("--static-path-expires", "--files-max-age"),
    special("--metrics", _metrics, "`--metrics-bind HOST:PORT`", values="0"),
    needless("--no-metrics", "It is the default.", values="0"),
    needless("--metrics-scrape-interval", "The figures are always those of now."),
    special("--metrics-address", _metrics_address, "`--metrics-bind HOST:PORT`"),
    special("--metrics-port", _metrics_port, "`--metrics-bind HOST:PORT`"),
    switch("--reload", "--reload", RELOAD),
    needless("--no-reload", "It is the default.", values="0"),
    to("--reload-paths", "--reload-paths"),
    missing("--reload-ignore-dirs", _WATCHED),
    missing("--reload-ignore-patterns", _WATCHED),
    missing("--reload-ignore-paths", _WATCHED),
    needless("--reload-tick", "Changes are reported by the system, not looked for."),
    needless(
        "--reload-ignore-worker-failure",
        "The old code serves on if the new cannot be loaded.",
        values="0",
    ),
    needless(
        "--no-reload-ignore-worker-failure",
        "The old code serves on if the new cannot be loaded.",
        values="0",
    ),
    needless("--process-name", "The package extra production gives titles."),
    to("--pid-file", "--pid-file"),
    needless("--version", "`--version`.", values="0"),
    needless("--help", "`--help` and `--help-all`.", values="0"),
)

DEFAULTS = (
    "A command without --interface serves RSGI in Granian; djserve serves ASGI.",
    "An idle connection is kept for 75 seconds (--keep-alive-timeout).",
    "Requests are counted by connections and threads, not by --backpressure.",
    "A request's head may take 10 seconds; 30 in Granian (--header-timeout).",
    "Pages of other sites may open no WebSocket: ALLOWED_HOSTS and "
    "CSRF_TRUSTED_ORIGINS say which may.",
)

VARIABLES = {
    "GRANIAN_LOG_ENABLED": "--log",
    "GRANIAN_LOG_ACCESS_ENABLED": "--access-log",
    "GRANIAN_LOG_ACCESS_FMT": "--access-log-fmt",
    "GRANIAN_METRICS_ENABLED": "--metrics",
    "GRANIAN_WEBSOCKETS": "--ws",
}

SERVER = KnownServer(
    "granian",
    RULES,
    finish,
    DEFAULTS,
    abbreviates=False,
    variables="GRANIAN_",
    variable_flags=VARIABLES,
    attribute="app",
)

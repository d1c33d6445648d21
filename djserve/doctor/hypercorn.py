"""Hypercorn's command line, and the keys of its configuration file."""

from __future__ import annotations

from djserve.doctor.gunicorn import (
    FRAMES,
    START_BY_MANAGER,
    access_log,
    bind,
    configuration,
    error_log,
    socket_mode,
)
from djserve.doctor.rules import (
    STATSD,
    Draft,
    FlagRule,
    Kind,
    KnownServer,
    Outcome,
    lacking,
    missing,
    needless,
    special,
    statsd_host_becomes,
    statsd_tags_become,
    switch,
    to,
    translated,
    unneeded,
)
from djserve.doctor.uvicorn import LOGGING, RELOAD, client_certificates, level, recycle


def _insecure_bind(draft: Draft, value: str) -> Outcome:
    note = "It answers http with a redirect to https, and not with the application."
    return translated(draft.add("--redirect-http", value), note)


def _quic_bind(draft: Draft, value: str) -> Outcome:
    note = "It is served on the UDP port beside each address of --bind with TLS."
    words = "--http3" if "--http3" in draft.words else draft.add("--http3")
    return translated(words, note)


def _worker_class(draft: Draft, value: str) -> Outcome:
    if value == "trio":
        return lacking("The event loop is asyncio's; trio's is not served.")
    return unneeded("uvloop is used where it is installed.")


def _user(draft: Draft, value: str) -> Outcome:
    draft.socket_user = value
    return translated(f"user {value} of --unix-owner")


def _group(draft: Draft, value: str) -> Outcome:
    draft.socket_group = value
    return translated(f"group {value} of --unix-owner")


def finish(draft: Draft) -> list[Outcome]:
    """Put the user and the group of a unix socket into one flag."""
    if not draft.socket_user and not draft.socket_group:
        return []
    group = f":{draft.socket_group}" if draft.socket_group else ""
    words = draft.add("--unix-owner", f"{draft.socket_user}{group}")
    return [Outcome(Kind.TRANSLATED, "--user, --group", words)]


RULES: tuple[FlagRule, ...] = (
    special("-c --config", configuration, "its settings, translated"),
    special("-b --bind", bind, "`--bind`", name="bind"),
    special(
        "--insecure-bind", _insecure_bind, "`--redirect-http`", name="insecure_bind"
    ),
    special("--quic-bind", _quic_bind, "`--http3`", name="quic_bind"),
    to("--backlog", "--backlog", name="backlog"),
    to("-w --workers", "--workers", name="workers"),
    special("-k --worker-class", _worker_class, "none needed", name="worker_class"),
    special("--max-requests", recycle, "`--worker-max-requests`", name="max_requests"),
    needless(
        "--max-requests-jitter",
        "--worker-jitter is 10 per cent.",
        name="max_requests_jitter",
    ),
    to("--graceful-timeout", "--shutdown-timeout", name="graceful_timeout"),
    to(
        "--keep-alive",
        "--keep-alive-timeout",
        "Behind a proxy it has to be longer than the proxy's own; the default is 75.",
        name="keep_alive_timeout",
    ),
    needless(
        "",
        "A connection has any number of requests.",
        name="keep_alive_max_requests",
    ),
    missing(
        "--read-timeout",
        "--header-timeout bounds a request's head, --body-min-rate its content.",
        name="read_timeout",
    ),
    to("", "--header-timeout", name="ssl_handshake_timeout"),
    to("", "--lifespan-timeout", name="startup_timeout"),
    needless("", "--lifespan-timeout bounds it.", name="shutdown_timeout"),
    switch("--reload", "--reload", RELOAD, name="use_reloader"),
    missing("--debug", "-X asyncio_debug of Python.", values="0", name="debug"),
    needless("-D --daemon", START_BY_MANAGER, values="0", name="daemon"),
    to("-p --pid", "--pid-file", name="pid_path"),
    special("-u --user", _user, "`--unix-owner`", name="user"),
    special("-g --group", _group, "`--unix-owner`", name="group"),
    special("-m --umask", socket_mode, "`--unix-mode`", name="umask"),
    special(
        "--access-logfile --access-log", access_log, "`--access-log`", name="accesslog"
    ),
    to(
        "--access-logformat",
        "--access-log-format",
        "The atoms are the same, those of the responses' fields too.",
        name="access_log_format",
    ),
    special(
        "--error-logfile --log-file --error-log",
        error_log,
        "LOGGING, if a file",
        name="errorlog",
    ),
    missing("--log-config", LOGGING, name="logconfig"),
    missing("", LOGGING, name="logconfig_dict"),
    missing("", LOGGING, name="logger_class"),
    special("--log-level", level, "`--verbosity`", name="loglevel"),
    special(
        "--statsd-host",
        statsd_host_becomes,
        "`--statsd`",
        STATSD,
        name="statsd_host",
    ),
    to("--statsd-prefix", "--statsd-prefix", name="statsd_prefix"),
    special("", statsd_tags_become, "`--statsd-tags`", name="dogstatsd_tags"),
    to(
        "--root-path",
        "--root-path",
        "--root-path-mode says what the proxy does with it.",
        name="root_path",
    ),
    missing(
        "--server-name",
        "ALLOWED_HOSTS of Django refuses other hosts.",
        name="server_names",
    ),
    to("--certfile", "--certfile", name="certfile"),
    to("--keyfile", "--keyfile", name="keyfile"),
    to("--keyfile-password", "--keyfile-password", name="keyfile_password"),
    to("--ca-certs", "--client-ca-file", name="ca_certs"),
    special(
        "--verify-mode --cert-reqs",
        client_certificates,
        "`--client-certificates`",
        name="verify_mode",
    ),
    missing("", "The certificates' chains are checked.", name="verify_flags"),
    missing(
        "--ciphers",
        "The ciphers are OpenSSL's secure ones; a proxy can choose others.",
        name="ciphers",
    ),
    needless(
        "", "h2 and http/1.1 are offered; --no-http2 for one.", name="alpn_protocols"
    ),
    missing("", "--header 'Alt-Svc: ...'.", name="alt_svc_headers"),
    to("", "--header-size-limit", name="h11_max_incomplete_size"),
    needless(
        "", "Names of fields arrive in small letters.", name="h11_pass_raw_headers"
    ),
    to("", "--http2-stream-limit", name="h2_max_concurrent_streams"),
    to("", "--header-size-limit", name="h2_max_header_list_size"),
    needless("", FRAMES, name="h2_max_inbound_frame_size"),
    needless("", "Date is always sent.", name="include_date_header"),
    needless(
        "",
        "--no-server-name leaves the header out.",
        name="include_server_header",
    ),
    needless(
        "", "What waits for the application is bounded.", name="max_app_queue_size"
    ),
    to(
        "",
        "--websocket-message-size-limit",
        name="websocket_max_message_size",
    ),
    to(
        "--websocket-ping-interval",
        "--websocket-ping-interval",
        name="websocket_ping_interval",
    ),
    to("", "--body-size-limit", name="wsgi_max_body_size"),
    missing(
        "", "Write the application's name behind djserve.", name="application_path"
    ),
    needless("-h --help", "`--help` and `--help-all`.", values="0"),
)

DEFAULTS = (
    "A WebSocket message may have 1 MiB; 16 MiB in Hypercorn "
    "(--websocket-message-size-limit).",
    "An idle connection is kept for 75 seconds; 5 in Hypercorn (--keep-alive-timeout).",
    "After SIGTERM requests have 30 seconds to finish; 3 in Hypercorn "
    "(--shutdown-timeout).",
    "Clients are pinged every 20 seconds; not by default in Hypercorn "
    "(--websocket-ping-interval).",
    "Proxies' fields are believed with --proxy-headers and --trusted-proxies; remove "
    "ProxyFixMiddleware then.",
    "Pages of other sites may open no WebSocket: ALLOWED_HOSTS and "
    "CSRF_TRUSTED_ORIGINS say which may.",
)

SERVER = KnownServer(
    "hypercorn", RULES, finish, DEFAULTS, has_file=True, attribute="app"
)

"""gunicorn's command line, and the keys of its configuration file."""

from __future__ import annotations

import re

from djserve.doctor.rules import (
    STATSD,
    Draft,
    FlagRule,
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
from djserve.doctor.uvicorn import (
    ENGINE,
    LOGGING,
    RELOAD,
    client_certificates,
    level,
    recycle,
    trust,
)

_WSGI_WORKERS = {"", "sync", "gthread", "gevent", "eventlet", "tornado"}
_STREAMS = {"-", "/dev/stdout", "/dev/fd/1", "/proc/1/fd/1"}
_SYSLOG = "Set a SysLogHandler in LOGGING of Django's settings."
START_BY_MANAGER = "Have systemd or a container keep the server running."
FRAMES = "Frames are of 16 KiB; a larger one needs more memory and saves little."
_DIRTY = "Work outside requests belongs in a task queue."
_NOT_WELL_FORMED = "Such requests are refused; fix the clients that send them."
_ENVIRONMENT = "Environment= in a systemd unit."
_PASTE = "Write the application's name: djserve module:attribute."
_START_UP = "Use AppConfig.ready(), which each worker runs once."
_REQUEST_HOOK = "Use a middleware."
_SUPERVISION = "The supervisor logs it, and the metrics count it (--metrics-bind)."


def bind(draft: Draft, value: str) -> Outcome:
    words = [word for each in value.split(",") for word in ("--bind", _address(each))]
    return translated(draft.add(*words))


def _address(text: str) -> str:
    """Return an address as ``--bind`` takes it."""
    text = text.strip().removeprefix("tcp://")
    if re.match(r"unix:/{2,}", text):
        return "unix:/" + text.removeprefix("unix:").lstrip("/")
    if text.startswith(("unix:", "fd://")):
        return text
    if text.isdigit() or (
        text.startswith("$") and ":" not in re.sub(r"\$\{[^}]*\}", "", text)
    ):
        return f"0.0.0.0:{text}"
    if text.startswith(":"):
        return f"0.0.0.0{text}"
    has_port = re.search(r":(\d+|\$\w+|\$\{[^}]+\})$", text)
    return text if has_port else f"{text}:8000"


def _workers(draft: Draft, value: str) -> Outcome:
    if re.search(r"cpu_count|nproc|CPU", value):
        note = "One for each CPU that the process may use; threads take what waits."
        return translated(draft.add("--workers", "auto"), note)
    return translated(draft.add("--workers", value))


def _worker_class(draft: Draft, value: str) -> Outcome:
    draft.worker_class = value
    name = value.rpartition(".")[2].lower()
    if "uvicorn" in name or name == "asgi":
        return unneeded("Each worker serves ASGI.")
    if name in ("gevent", "eventlet", "geventwebsocketworker"):
        return lacking(
            "Nothing is patched: synchronous views run in threads, up to 256 while "
            "they wait. Remove what calls monkey.patch_all()."
        )
    return unneeded("Synchronous views run in threads next to the event loop.")


def _threads(draft: Draft, value: str) -> Outcome:
    if value == "1":
        return unneeded("Threads are as many as the views need.")
    note = "Leave it out, and the number follows what the views do."
    return translated(draft.add("--threads", value), note)


def _timeout(draft: Draft, value: str) -> Outcome:
    if value == "0":
        draft.environment.append("DJSERVE_WORKER_HANG_TIMEOUT=none")
        return translated("DJSERVE_WORKER_HANG_TIMEOUT=none")
    note = (
        "It ends a worker whose event loop hangs; a slow view holds up no other. "
        "--request-timeout bounds a request."
    )
    return translated(draft.add("--worker-hang-timeout", value), note)


def _request_line(draft: Draft, value: str) -> Outcome:
    if value == "0":
        return unneeded("The limit is 16 KiB, and there is always one.")
    return translated(draft.add("--request-line-limit", value))


def _directory(draft: Draft, value: str) -> Outcome:
    draft.directory = value
    return translated(f"cd {value}", "WorkingDirectory= in a systemd unit.")


def _environment(draft: Draft, value: str) -> Outcome:
    draft.environment.append(value)
    return translated(f"env {value}", _ENVIRONMENT)


def _path(draft: Draft, value: str) -> Outcome:
    paths = [each.strip() for each in value.split(",") if each.strip()]
    if len(paths) != 1:
        # Each is put before those that came earlier.
        draft.environment.append(f"PYTHONPATH={':'.join(reversed(paths))}")
        return translated(f"env {draft.environment[-1]}", _ENVIRONMENT)
    draft.path = paths[0]
    return translated(f"--app-dir {draft.path}", "manage.py: --pythonpath.")


def configuration(draft: Draft, value: str) -> Outcome:
    draft.config = value
    return unneeded("Its settings are translated here; djserve reads settings.DJSERVE.")


def socket_mode(draft: Draft, value: str) -> Outcome:
    try:
        mask = int(re.sub(r"^0+(?=\d)", "0o", value) if value != "0" else "0", 0)
    except ValueError:
        return lacking("It is not a number; --unix-mode is the mode of a unix socket.")
    if mask == 0:
        return unneeded("A unix socket's mode is 666 by default (--unix-mode).")
    mode = f"{0o666 & ~mask:o}"
    note = "For a unix socket; other files: UMask= of systemd, or umask in the shell."
    return translated(draft.add("--unix-mode", mode), note)


def access_log(draft: Draft, value: str) -> Outcome:
    target = "-" if value in _STREAMS else value
    if value.lower() in ("none", "/dev/null", ""):
        return unneeded("The access log is off unless it is asked for.")
    return translated(draft.add("--access-log", target))


def error_log(draft: Draft, value: str) -> Outcome:
    if value in {*_STREAMS, "/dev/stderr", "/dev/fd/2"}:
        return unneeded("The server's log goes to standard error.")
    return lacking(LOGGING)


def _protocols(draft: Draft, value: str) -> Outcome:
    if "h2" in value:
        return unneeded("HTTP/2 is on with TLS.")
    return translated(draft.add("--no-http2"))


def _cleartext(draft: Draft, value: str) -> Outcome:
    if value == "off":
        return translated(draft.add("--http2-cleartext", "off"))
    if value == "upgrade":
        return lacking("RFC 9113 has dropped Upgrade: h2c; clients start with HTTP/2.")
    return unneeded("Trusted proxies may start with HTTP/2 by default.")


def stream_window(draft: Draft, value: str) -> Outcome:
    if value.isdigit() and int(value) < 262144:
        return unneeded("The window begins at 256 KiB and grows with the reader.")
    return translated(draft.add("--http2-stream-window-size", value))


def _proxy_protocol(draft: Draft, value: str) -> Outcome:
    if value.lower() in ("off", "false", "none", "0"):
        return unneeded("It is off by default.")
    return translated(draft.add("--proxy-protocol"), "Versions 1 and 2 are told apart.")


def _protocol(draft: Draft, value: str) -> Outcome:
    if value == "uwsgi":
        return lacking("Have the proxy speak HTTP: proxy_pass instead of uwsgi_pass.")
    return unneeded("HTTP is what is spoken.")


def _grace(draft: Draft, value: str) -> Outcome:
    return translated(
        draft.add("--application-close-timeout", "50ms" if value == "0" else value)
    )


def _user(draft: Draft, value: str) -> Outcome:
    return translated(draft.add("--user", value))


def finish(draft: Draft) -> list[Outcome]:
    """Add what gunicorn does without being asked."""
    # A worker class with a module, or one that is computed, may serve ASGI.
    is_unknown = "worker_class" in draft.seen and not draft.worker_class
    draft.is_wsgi = not is_unknown and draft.worker_class in _WSGI_WORKERS
    if "proxy_protocol" in draft.seen:
        return []
    words = draft.add("--proxy-headers")
    note = (
        "gunicorn reads X-Forwarded-Proto of trusted proxies by default; djserve the "
        "client's address too."
    )
    return [translated(words, note)]


RULES: tuple[FlagRule, ...] = (
    special("-c --config", configuration, "its settings, translated"),
    needless("", "The application is named on the command line.", name="wsgi_app"),
    special("-b --bind", bind, "`--bind`", name="bind"),
    to("--backlog", "--backlog", name="backlog"),
    special("-w --workers", _workers, "`--workers`", name="workers"),
    special("-k --worker-class", _worker_class, "none needed", name="worker_class"),
    special("--threads", _threads, "`--threads`", name="threads"),
    to(
        "--worker-connections",
        "--connection-limit",
        "Of each worker; idle ones make room before new ones get 503.",
        name="worker_connections",
    ),
    special("--max-requests", recycle, "`--worker-max-requests`", name="max_requests"),
    needless(
        "--max-requests-jitter",
        "--worker-jitter is 10 per cent.",
        name="max_requests_jitter",
    ),
    special("-t --timeout", _timeout, "`--worker-hang-timeout`", name="timeout"),
    to("--graceful-timeout", "--shutdown-timeout", name="graceful_timeout"),
    to(
        "--keep-alive",
        "--keep-alive-timeout",
        "Behind a proxy it has to be longer than the proxy's own; the default is 75.",
        name="keepalive",
    ),
    special(
        "--limit-request-line",
        _request_line,
        "`--request-line-limit`",
        name="limit_request_line",
    ),
    to("--limit-request-fields", "--header-count-limit", name="limit_request_fields"),
    needless(
        "--limit-request-field_size",
        "--header-size-limit bounds all fields together, 64 KiB.",
        name="limit_request_field_size",
    ),
    switch("--reload", "--reload", RELOAD, name="reload"),
    needless("--reload-engine", "watchfiles looks for changes.", name="reload_engine"),
    to("--reload-extra-file", "--reload-paths", name="reload_extra_files"),
    missing("--spew", "Use a debugger or py-spy.", values="0", name="spew"),
    missing(
        "--check-config", "manage.py check does that.", values="0", name="check_config"
    ),
    missing(
        "--print-config",
        "manage.py djserve settings does that.",
        values="0",
        name="print_config",
    ),
    needless(
        "--preload",
        "The project is loaded once and the workers are forked from it.",
        values="0",
        name="preload_app",
    ),
    needless(
        "--no-sendfile", "sendfile is used for files.", values="0", name="sendfile"
    ),
    needless(
        "--reuse-port", "The workers share one socket.", values="0", name="reuse_port"
    ),
    special("--chdir", _directory, "`cd DIRECTORY`", name="chdir"),
    missing(
        "-D --daemon",
        START_BY_MANAGER,
        values="0",
        name="daemon",
    ),
    special("-e --env", _environment, "`env NAME=VALUE`", name="raw_env"),
    to("-p --pid", "--pid-file", name="pidfile"),
    needless(
        "--worker-tmp-dir", "Heartbeats are in shared memory.", name="worker_tmp_dir"
    ),
    special("-u --user", _user, "`--user`", name="user"),
    to("-g --group", "--group", name="group"),
    special("-m --umask", socket_mode, "`--unix-mode`", name="umask"),
    needless(
        "--initgroups", "The user's groups are set.", values="0", name="initgroups"
    ),
    missing("", "FILE_UPLOAD_TEMP_DIR of Django says where.", name="tmp_upload_dir"),
    needless(
        "",
        "X-Forwarded-Proto and Forwarded are read with --proxy-headers.",
        name="secure_scheme_headers",
    ),
    special(
        "--forwarded-allow-ips",
        trust,
        "`--trusted-proxies`, once for each",
        name="forwarded_allow_ips",
    ),
    special("--access-logfile", access_log, "`--access-log`", name="accesslog"),
    needless(
        "--disable-redirect-access-to-syslog",
        "The access log goes where --access-log says.",
        values="0",
        name="disable_redirect_access_to_syslog",
    ),
    to("--access-logformat", "--access-log-format", name="access_log_format"),
    special(
        "--error-logfile --log-file", error_log, "LOGGING, if a file", name="errorlog"
    ),
    special("--log-level", level, "`--verbosity`", name="loglevel"),
    needless(
        "--capture-output",
        "What the application prints goes to standard output.",
        values="0",
        name="capture_output",
    ),
    missing("--logger-class", LOGGING, name="logger_class"),
    missing("--log-config", LOGGING, name="logconfig"),
    missing("", LOGGING, name="logconfig_dict"),
    missing("--log-config-json", LOGGING, name="logconfig_json"),
    missing("--log-syslog-to", _SYSLOG, name="syslog_addr"),
    missing("--log-syslog", _SYSLOG, values="0", name="syslog"),
    missing("--log-syslog-prefix", _SYSLOG, name="syslog_prefix"),
    missing("--log-syslog-facility", _SYSLOG, name="syslog_facility"),
    needless(
        "-R --enable-stdio-inheritance",
        "Workers have the standard streams.",
        values="0",
        name="enable_stdio_inheritance",
    ),
    special(
        "--statsd-host",
        statsd_host_becomes,
        "`--statsd`",
        STATSD,
        name="statsd_host",
    ),
    special(
        "--dogstatsd-tags",
        statsd_tags_become,
        "`--statsd-tags`",
        "Once for each tag.",
        name="dogstatsd_tags",
    ),
    to("--statsd-prefix", "--statsd-prefix", name="statsd_prefix"),
    missing(
        "--enable-backlog-metric",
        "Calls that wait for a thread are counted; the kernel's queue is not.",
        values="0",
        name="enable_backlog_metric",
    ),
    needless(
        "-n --name",
        "The package extra production gives each process a title.",
        name="proc_name",
    ),
    needless(
        "", "The package extra production gives titles.", name="default_proc_name"
    ),
    special(
        "--pythonpath",
        _path,
        "`--app-dir`; manage.py: `--pythonpath`",
        name="pythonpath",
    ),
    missing("--paste --paster", _PASTE, name="paste"),
    missing("--paste-global", _PASTE, name="raw_paste_global_conf"),
    missing("", _START_UP, name="on_starting"),
    missing("", _START_UP, name="on_reload"),
    missing("", "systemd is told (Type=notify); /readyz says so.", name="when_ready"),
    missing("", "The loader closes connections before it forks.", name="pre_fork"),
    missing("", _START_UP, name="post_fork"),
    missing("", _START_UP, name="post_worker_init"),
    missing("", _SUPERVISION, name="worker_int"),
    missing("", "The stack of a worker that hangs is logged.", name="worker_abort"),
    missing("", "SIGHUP restarts everything.", name="pre_exec"),
    missing("", _REQUEST_HOOK, name="pre_request"),
    missing("", _REQUEST_HOOK, name="post_request"),
    missing(
        "",
        "prometheus_client needs no child_exit for djserve's own metrics.",
        name="child_exit",
    ),
    missing("", "Use atexit, or the ASGI lifespan.", name="worker_exit"),
    missing("", _SUPERVISION, name="nworkers_changed"),
    missing("", "ExecStopPost= of systemd.", name="on_exit"),
    missing("", "--certfile and related flags.", name="ssl_context"),
    special(
        "--proxy-protocol",
        _proxy_protocol,
        "`--proxy-protocol`",
        values="?",
        name="proxy_protocol",
    ),
    special(
        "--proxy-allow-from",
        trust,
        "`--trusted-proxies`, once for each",
        name="proxy_allow_ips",
    ),
    special("--protocol", _protocol, "none needed; not uwsgi", name="protocol"),
    missing(
        "--uwsgi-allow-from", "The proxy has to speak HTTP.", name="uwsgi_allow_ips"
    ),
    to("--keyfile", "--keyfile", name="keyfile"),
    to("--certfile", "--certfile", name="certfile"),
    needless("--ssl-version", "TLS 1.2 and 1.3 are spoken.", name="ssl_version"),
    special(
        "--cert-reqs", client_certificates, "`--client-certificates`", name="cert_reqs"
    ),
    to("--ca-certs", "--client-ca-file", name="ca_certs"),
    needless(
        "--suppress-ragged-eofs",
        "A client that ends TLS without a word is a disconnect.",
        values="0",
        name="suppress_ragged_eofs",
    ),
    needless(
        "--do-handshake-on-connect",
        "Handshakes hold up no other connection.",
        values="0",
        name="do_handshake_on_connect",
    ),
    missing("--ciphers", "The ciphers are OpenSSL's secure ones.", name="ciphers"),
    special(
        "--http-protocols", _protocols, "`--no-http2` if h1", name="http_protocols"
    ),
    special(
        "--http2-cleartext", _cleartext, "`--http2-cleartext`", name="http2_cleartext"
    ),
    to(
        "--http2-max-concurrent-streams",
        "--http2-stream-limit",
        name="http2_max_concurrent_streams",
    ),
    special(
        "--http2-initial-window-size",
        stream_window,
        "`--http2-stream-window-size`",
        name="http2_initial_window_size",
    ),
    needless(
        "--http2-max-frame-size",
        FRAMES,
        name="http2_max_frame_size",
    ),
    to(
        "--http2-max-header-list-size",
        "--header-size-limit",
        name="http2_max_header_list_size",
    ),
    missing(
        "--permit-obsolete-folding",
        _NOT_WELL_FORMED,
        values="0",
        name="permit_obsolete_folding",
    ),
    missing(
        "--strip-header-spaces",
        _NOT_WELL_FORMED,
        values="0",
        name="strip_header_spaces",
    ),
    needless(
        "--permit-unconventional-http-method",
        "Any method in capitals reaches the application.",
        values="0",
        name="permit_unconventional_http_method",
    ),
    missing(
        "--permit-unconventional-http-version",
        _NOT_WELL_FORMED,
        values="0",
        name="permit_unconventional_http_version",
    ),
    missing(
        "--casefold-http-method",
        _NOT_WELL_FORMED,
        values="0",
        name="casefold_http_method",
    ),
    missing(
        "--forwarder-headers",
        "--root-path or FORCE_SCRIPT_NAME says where the site is mounted.",
        name="forwarder_headers",
    ),
    needless(
        "--header-map", "Fields with an underscore do not arrive.", name="header_map"
    ),
    needless("--asgi-loop", "uvloop is used if it is installed.", name="asgi_loop"),
    to("--asgi-lifespan", "--lifespan", name="asgi_lifespan"),
    special(
        "--asgi-disconnect-grace-period",
        _grace,
        "`--application-close-timeout`",
        name="asgi_disconnect_grace_period",
    ),
    to(
        "--websocket-max-message-size",
        "--websocket-message-size-limit",
        name="websocket_max_message_size",
    ),
    needless("--http-parser", ENGINE, name="http_parser"),
    to("--root-path", "--root-path", name="root_path"),
    missing("--dirty-app", _DIRTY, name="dirty_apps"),
    missing("--dirty-workers", _DIRTY, name="dirty_workers"),
    missing("--dirty-timeout", _DIRTY, name="dirty_timeout"),
    missing("--dirty-threads", _DIRTY, name="dirty_threads"),
    missing("--dirty-graceful-timeout", _DIRTY, name="dirty_graceful_timeout"),
    missing("", _DIRTY, name="on_dirty_starting"),
    missing("", _DIRTY, name="dirty_post_fork"),
    missing("", _DIRTY, name="dirty_worker_init"),
    missing("", _DIRTY, name="dirty_worker_exit"),
    to("--control-socket", "--control-socket", name="control_socket"),
    needless(
        "--control-socket-mode",
        "Only the supervisor's user can open the control socket.",
        name="control_socket_mode",
    ),
    needless(
        "--no-control-socket",
        "There is none unless --control-socket is given.",
        values="0",
        name="control_socket_disable",
    ),
    needless("-v --version", "`--version`.", values="0"),
    needless("-h --help", "`--help` and `--help-all`.", values="0"),
)

DEFAULTS = (
    "asgi.py is served, not wsgi.py: the same project, its middleware and its views.",
    "An idle connection is kept for 75 seconds; 2 in gunicorn (--keep-alive-timeout).",
    "A slow view holds up a thread, not a worker, and is not killed: "
    "--request-timeout answers 503.",
    "Database connections are each thread's: --database-connections bounds them for "
    "each worker.",
    "Static files of STATIC_ROOT are served unless WhiteNoise does.",
)

SERVER = KnownServer("gunicorn", RULES, finish, DEFAULTS, has_file=True)

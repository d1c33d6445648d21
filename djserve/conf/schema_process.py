"""The settings of processes and of what an operator sees, part of ``conf.schema``."""

from __future__ import annotations

from djserve.conf.declaration import setting
from djserve.conf.processes import LARGEST_COUNT, ProcessConfig
from djserve.values import Values


class WorkersConfig(Values, kw_only=True):
    """Workers"""

    workers: int | None = setting(
        1,
        "Worker processes; auto, or None in the settings, is one for each CPU that "
        "may be used.",
        aliases=("-w",),
        minimum=1,
        maximum=LARGEST_COUNT,
        none_word="auto",
    )
    supervisor: str = setting(
        "auto",
        "Whether a supervisor watches the workers and restarts them: auto (with more "
        "than one worker, or if another setting or systemd's Type=notify needs it) "
        "or on.",
        choices=("auto", "on"),
    )
    preload: bool = setting(
        True,
        "Load the application once and fork the workers from it, if that is safe; "
        "otherwise each worker loads it itself.",
    )
    worker_start_timeout: float = setting(
        120.0,
        "Seconds for loading the application, and for a worker to become ready.",
        minimum=0.05,
    )
    worker_block_warning: float | None = setting(
        5.0,
        "Seconds that a worker's event loop may be blocked before its stack is logged.",
        minimum=0.05,
    )
    worker_hang_timeout: float | None = setting(
        30.0,
        "Seconds that a worker's event loop may be blocked before it is replaced.",
        minimum=0.1,
    )
    worker_max_requests: int | None = setting(
        None, "Requests after which a worker is replaced.", minimum=1
    )
    worker_max_age: float | None = setting(
        None, "Seconds after which a worker is replaced.", minimum=1
    )
    worker_max_memory: int | None = setting(
        None,
        "Bytes of resident memory at which a worker is replaced.",
        minimum=1,
        unit="bytes",
    )
    worker_jitter: int = setting(
        10,
        "Percentage by which each worker's limits of requests, age and memory vary, so "
        "that not all are replaced together.",
        minimum=0,
    )
    reload: bool = setting(
        False,
        "Reload when a file changes, for development; needs the package watchfiles.",
    )
    reload_paths: tuple[str, ...] = setting(
        (),
        "Folders and files to watch; the current folder by default.",
        aliases=("--reload-path",),
        metavar="PATH",
        syntax="file",
    )
    user: str | None = setting(
        None, "User that the workers run as; needs root at the start.", metavar="NAME"
    )
    group: str | None = setting(
        None,
        "Group that the workers run as; the user's own by default.",
        metavar="NAME",
    )
    control_socket: str | None = setting(
        None,
        "Unix socket for manage.py djserve; only the supervisor's user can open it.",
        metavar="PATH",
        syntax="new-file",
        none_word="none",
    )


class ProcessesConfig(Values, kw_only=True):
    """Processes alongside the workers"""

    processes: tuple[ProcessConfig, ...] = setting(
        (),
        "Management commands and other programs that run alongside the "
        "workers: in the settings a dictionary (guides/processes.md), elsewhere "
        'NAME=COMMAND as in "tasks=db_worker --queue-name default".',
        metavar="NAME=COMMAND",
        syntax="processes",
    )


class DrainConfig(Values, kw_only=True):
    """Draining"""

    drain_idle_timeout: float = setting(
        1.0,
        "Seconds in which idle connections may still send a request after SIGTERM; "
        "it is answered with Connection: close. At most half of the shutdown timeout.",
        minimum=0,
    )
    websocket_drain_time: float = setting(
        5.0,
        "Seconds over which WebSockets are closed with 1012 after SIGTERM, so that not "
        "all clients come back at once. At most half of the shutdown timeout.",
        minimum=0,
    )


class UnixSocketConfig(Values, kw_only=True):
    """Unix sockets"""

    unix_mode: str = setting(
        "666",
        "Mode of a unix socket's file, in octal.",
        metavar="MODE",
        syntax="file-mode",
    )
    unix_owner: str | None = setting(
        None,
        "Owner of a unix socket's file: user, user:group or :group.",
        metavar="OWNER",
    )


class MetricsConfig(Values, kw_only=True):
    """Metrics and health"""

    metrics_bind: str | None = setting(
        None,
        "Address for /metrics, /healthz and /readyz, answered without the application.",
        metavar="ADDRESS",
        syntax="address",
    )
    metrics_path: str | None = setting(
        None,
        "Path of the metrics on the server's own addresses; /healthz and /readyz are "
        "answered there too.",
        metavar="PATH",
        syntax="root-path",
    )
    health: bool = setting(
        False,
        "Answer /healthz and /readyz on the server's own addresses, in front of the "
        "application and of ALLOWED_HOSTS.",
    )
    metrics_otlp: bool = setting(
        False,
        "Send the metrics over OTLP; needs the package extra otel. OpenTelemetry's "
        "variables OTEL_* say where they go, and how often.",
    )
    statsd: str | None = setting(
        None,
        "Address of the StatsD server that gets the metrics: host:port or unix:/path.",
        metavar="ADDRESS",
        syntax="datagram-address",
    )
    statsd_prefix: str = setting(
        "djserve",
        "Prefix of the metrics' names for StatsD; a dot follows.",
        metavar="NAME",
        syntax="statsd-name",
    )
    statsd_interval: float = setting(
        10.0, "Seconds between reports to StatsD.", minimum=0.1
    )
    dogstatsd: bool = setting(
        False,
        "Send labels (method, status, view) to StatsD as tags, in DogStatsD's format, "
        "instead of parts of the names.",
    )
    statsd_tags: tuple[str, ...] = setting(
        (),
        "Tag of all metrics for StatsD, such as env:production; turns tags on. May be "
        "given several times.",
        metavar="TAG",
        syntax="statsd-tag",
    )


class TracingConfig(Values, kw_only=True):
    """Tracing"""

    tracing: bool = setting(
        False,
        "Create an OpenTelemetry span for each request and each WebSocket; needs the "
        "package extra otel. OpenTelemetry's variables OTEL_* say where they go.",
    )


class LoggingConfig(Values, kw_only=True):
    """Logging"""

    access_log: str | None = setting(
        None,
        'File for the access log; "-" for standard output.',
        metavar="PATH",
        syntax="log-file",
        none_word="none",
    )
    access_log_format: str = setting(
        "combined",
        "Format of the access log's lines: common, combined, json, or one of your own "
        "with the atoms of Apache and gunicorn (%h, %({x-id}i)s) and fields in braces "
        "({view}, {user_id}).",
        metavar="FORMAT",
        syntax="access-log-format",
    )
    access_log_skip: tuple[str, ...] = setting(
        (),
        'Paths to leave out of the access log: one path, such as "/healthz", or all '
        'with a prefix, such as "/static/*". May be given several times.',
        metavar="PATH",
        syntax="path-or-prefix",
    )
    log_format: str = setting(
        "%(asctime)-15s %(levelname)-8s %(message)s",
        "Format of the server's log lines (logging.Formatter).",
        aliases=("--log-fmt",),
        metavar="FORMAT",
        syntax="log-format",
    )
    log_json: bool = setting(
        False, "Write the server's log and the access log as one JSON object per line."
    )
    request_id: bool = setting(
        False,
        "Add an X-Request-ID to each request without one, for the application and the "
        "logs.",
    )
    slow_request_time: float | None = setting(
        None,
        "Log each request that takes longer than this many seconds, under the name "
        "djserve.slow.",
        minimum=0.001,
    )
    verbosity: int = setting(
        1,
        "How much the server logs: 0 warnings, 1 start and stop, 2 each connection, "
        "3 all.",
        aliases=("-v",),
        minimum=0,
    )

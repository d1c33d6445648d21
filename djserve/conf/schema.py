"""Each setting, declared once: key, flag, type, default and help.

The settings parser, the command-line options, the system checks and the settings
reference are made from these dataclasses. A field's name in upper case is its key in
``settings.DJSERVE``, its flag is the name with dashes.
Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

from dataclasses import field

from djserve.conf.declaration import setting
from djserve.conf.schema_files import CompressionConfig as CompressionConfig
from djserve.conf.schema_files import FilesConfig as FilesConfig
from djserve.conf.schema_https import ACMEConfig as ACMEConfig
from djserve.conf.schema_https import RedirectConfig as RedirectConfig
from djserve.conf.schema_process import DrainConfig as DrainConfig
from djserve.conf.schema_process import LoggingConfig as LoggingConfig
from djserve.conf.schema_process import MetricsConfig as MetricsConfig
from djserve.conf.schema_process import ProcessesConfig as ProcessesConfig
from djserve.conf.schema_process import TracingConfig as TracingConfig
from djserve.conf.schema_process import UnixSocketConfig as UnixSocketConfig
from djserve.conf.schema_process import WorkersConfig as WorkersConfig
from djserve.values import Values

KIB = 1024
MIB = 1024 * KIB


class BindConfig(Values, kw_only=True):
    """Addresses"""

    bind: tuple[str, ...] = setting(
        ("127.0.0.1:8000",),
        "Address to listen on: host:port, [ipv6]:port, unix:/path, fd://N or a "
        "Twisted endpoint string. May be given several times.",
        aliases=("-b",),
        metavar="ADDRESS",
        syntax="address",
    )
    backlog: int = setting(
        2048,
        "Connections that the kernel may queue before they are accepted.",
        minimum=1,
        maximum=2**31 - 1,
    )


class TLSConfig(Values, kw_only=True):
    """TLS"""

    certfile: str | None = setting(
        None,
        "PEM file with the certificate chain; turns TLS on.",
        metavar="PATH",
        syntax="file",
    )
    keyfile: str | None = setting(
        None,
        "PEM file with the private key, if it is not in the certificate's file.",
        metavar="PATH",
        syntax="file",
    )
    keyfile_password: str | None = setting(
        None, "Password for encrypted private keys.", metavar="PASSWORD"
    )
    sni_certfiles: tuple[str, ...] = setting(
        (),
        "Further PEM files, each with a certificate chain and its private key; one is "
        "chosen by the host name that the client asks for.",
        metavar="PATH",
        syntax="file",
    )
    client_certificates: str = setting(
        "none",
        "Whether clients are asked for a certificate: none, optional or required.",
        choices=("none", "optional", "required"),
    )
    client_ca_file: str | None = setting(
        None,
        "PEM file with the authorities whose client certificates are accepted.",
        metavar="PATH",
        syntax="file",
    )
    certificate_check_interval: float = setting(
        10.0,
        "Seconds between checks of the certificate files; new connections use the new "
        "ones. 0 turns it off; SIGHUP loads them at any time.",
        minimum=0,
    )


class HTTPConfig(Values, kw_only=True):
    """HTTP"""

    request_line_limit: int = setting(
        16 * KIB,
        "Maximum length of the request line in bytes; longer ones get 414.",
        minimum=64,
        unit="bytes",
    )
    header_size_limit: int = setting(
        64 * KIB,
        "Maximum bytes of header fields in a request; more get 431.",
        minimum=256,
        maximum=2**31 - 1,
        unit="bytes",
    )
    header_count_limit: int = setting(
        200,
        "Maximum number of header fields in a request; more get 431, as do "
        "lists (Cookie, Accept, If-None-Match) of more than 1000 members, or of five "
        "times this number if that is more.",
        minimum=1,
    )
    body_size_limit: int = setting(
        2048 * MIB,
        "Maximum bytes of content in a request; more get 413.",
        minimum=0,
        unit="bytes",
    )
    server_name: str = setting(
        "djserve",
        'Value of the Server header; "" leaves the header out.',
        aliases=("-s",),
        metavar="NAME",
        syntax="field-value",
    )
    headers: tuple[str, ...] = setting(
        (),
        "Header field to add to each response that does not set it: 'Name: value'. In "
        "settings.py also a mapping; in an environment variable one per line. May be "
        "given several times.",
        aliases=("--header",),
        metavar="'NAME: VALUE'",
        syntax="header",
    )
    header_timeout: float = setting(
        10.0,
        "Seconds for a connection's TLS handshake and for each request's head; "
        "then 408.",
        minimum=0.05,
    )
    keep_alive_timeout: float = setting(
        75.0,
        "Seconds for which an idle connection is kept open between requests.",
        minimum=0,
    )
    body_min_rate: int = setting(
        240,
        "Minimum bytes per second of request content, averaged over BODY_TIMEOUT; "
        "slower ones get 408. 0 turns it off.",
        minimum=0,
        unit="bytes",
    )
    body_timeout: float = setting(
        20.0, "Seconds over which BODY_MIN_RATE is measured.", minimum=0.05
    )
    write_timeout: float = setting(
        30.0,
        "Seconds in which a client has to accept some response data; otherwise the "
        "connection is aborted.",
        minimum=0.05,
    )
    request_timeout: float | None = setting(
        None,
        "Seconds for a request, from its head to the start of its response; then 503. "
        "Off by default.",
        aliases=("-t", "--http-timeout", "--http_timeout"),
        minimum=0.05,
    )


class HTTP2Config(Values, kw_only=True):
    """HTTP/2"""

    http2: bool = setting(True, "Offer HTTP/2 to clients that connect with TLS.")
    http2_cleartext: str = setting(
        "trusted",
        "Which cleartext connections may begin with HTTP/2: off (none), trusted "
        "(those of this machine and of the trusted proxies) or on (all).",
        choices=("off", "trusted", "on"),
    )
    http2_stream_limit: int = setting(
        100,
        "Streams that a connection may have open; more are refused.",
        minimum=1,
        maximum=2**31 - 1,
    )
    http2_call_limit: int = setting(
        100,
        "Application calls that may run for one connection, including those for "
        "streams that the client has reset; further streams are refused.",
        minimum=1,
    )
    http2_stream_window_size: int = setting(
        256 * KIB,
        "Bytes of a request's content that may wait for the application initially; the "
        "window grows once the application has kept up.",
        minimum=1024,
        unit="bytes",
    )
    http2_connection_window_size: int = setting(
        1 * MIB,
        "Bytes of request content that may wait for the application, over all requests "
        "of a connection.",
        minimum=65535,
        unit="bytes",
    )
    http2_reset_limit: int = setting(
        200,
        "Streams that a client may reset, or make the server reset, in 10 seconds; "
        "then the connection is closed.",
        minimum=1,
    )
    http2_control_frame_limit: int = setting(
        1000,
        "Frames without content (SETTINGS, PING, WINDOW_UPDATE, priorities, empty "
        "DATA) in 10 seconds, beyond those that requests and responses call for; then "
        "the connection is closed.",
        minimum=16,
    )
    http2_fragment_limit: int = setting(
        16,
        "CONTINUATION frames in a request's head; more close the connection.",
        minimum=0,
    )
    http2_settings_timeout: float = setting(
        10.0,
        "Seconds for a client to acknowledge the server's SETTINGS.",
        minimum=0.05,
    )
    http2_ping_interval: float = setting(
        30.0,
        "Seconds of silence after which a connection with open streams is sent a PING; "
        "0 turns it off.",
        minimum=0,
    )
    http2_ping_timeout: float = setting(
        20.0,
        "Seconds to wait for the answer before the connection is closed.",
        minimum=0.05,
    )


class HTTP3Config(Values, kw_only=True):
    """HTTP/3"""

    http3: bool = setting(
        False,
        "Serve HTTP/3 as well, on the UDP port of each address with TLS; needs the "
        "package extra http3. The limits of HTTP/2 hold for it.",
    )
    webtransport: bool = setting(
        False,
        "Offer WebTransport sessions over HTTP/3 to the application (experimental).",
    )


class BoundsConfig(Values, kw_only=True):
    """Bounds over all connections of a process"""

    connection_limit: int | None = setting(
        None,
        "Connections that each worker process may have open. Beyond that, those that "
        "have been idle longest are closed; if none is idle, new ones get 503. By "
        "default nine tenths of the process's limit of file descriptors, minus 32.",
        minimum=1,
    )
    client_memory_limit: int = setting(
        512 * MIB,
        "Bytes that each worker process may buffer for clients and from them, over all "
        "connections; beyond that, the connections that buffer the most are closed.",
        minimum=65_536,
        unit="bytes",
    )
    upload_disk_limit: int = setting(
        8192 * MIB,
        "Bytes of request content that each worker process may hold in temporary "
        "files, over all requests; further uploads get 503.",
        minimum=0,
        unit="bytes",
    )
    body_time_limit: float | None = setting(
        3600.0,
        "Seconds for all of a request's content to arrive, before Django's view is "
        "called; then 408.",
        minimum=0.05,
    )


class WebSocketConfig(Values, kw_only=True):
    """WebSocket"""

    websocket_message_size_limit: int = setting(
        1 * MIB,
        "Maximum bytes in an incoming message, after decompression; a larger one "
        "closes the WebSocket with 1009.",
        aliases=("--websocket-max-message-size",),
        minimum=1,
        unit="bytes",
    )
    websocket_frame_size_limit: int = setting(
        1 * MIB,
        "Maximum bytes in an incoming frame; a larger one closes the WebSocket with "
        "1009.",
        aliases=("--websocket-max-frame-size",),
        minimum=1,
        unit="bytes",
    )
    websocket_queue_limit: int = setting(
        32,
        "Messages that may wait for the application before reading pauses.",
        minimum=1,
    )
    websocket_small_frame_limit: int = setting(
        10_000,
        "Control frames, and fragments of at most one byte, that a client may send in "
        "a second; more close the WebSocket with 1008.",
        minimum=1,
    )
    websocket_frame_rate_limit: int = setting(
        100_000,
        "Frames per second that are read from all WebSockets of a process together; "
        "further frames wait. Uncompressed messages of a single frame are not counted.",
        minimum=1,
    )
    websocket_compression: bool = setting(
        True, "Negotiate permessage-deflate with clients that offer it."
    )
    websocket_ping_interval: float = setting(
        20.0,
        "Seconds between pings to a client; 0 turns them off.",
        aliases=("--ping-interval",),
        minimum=0,
    )
    websocket_ping_timeout: float = setting(
        30.0,
        "Seconds to wait for the answer to a ping before the connection is closed.",
        aliases=("--ping-timeout",),
        minimum=0.05,
    )
    websocket_timeout: float | None = setting(
        None,
        "Maximum lifetime of a WebSocket in seconds. Off by default.",
        aliases=("--websocket_timeout",),
        minimum=0.05,
    )
    websocket_connect_timeout: float = setting(
        5.0,
        "Seconds that the application has to accept or refuse a WebSocket.",
        aliases=("--websocket_connect_timeout", "--websocket_handshake_timeout"),
        minimum=0.05,
    )
    websocket_close_timeout: float = setting(
        10.0,
        "Seconds to wait for the client's half of the closing handshake.",
        minimum=0.05,
    )
    websocket_origins: tuple[str, ...] = setting(
        (),
        "Origins that may open a WebSocket, besides ALLOWED_HOSTS and "
        'CSRF_TRUSTED_ORIGINS ("https://example.com", "https://*.example.com"; '
        '"null" and "file://" for pages without an origin); "*" turns the check off.',
        metavar="ORIGIN",
        syntax="origin",
    )


class ProxyConfig(Values, kw_only=True):
    """Proxies"""

    proxy_headers: bool = setting(
        False,
        "Take the client's address, scheme, host and port from a trusted proxy's "
        "X-Forwarded-* or Forwarded header.",
    )
    trusted_proxies: tuple[str, ...] = setting(
        ("127.0.0.0/8", "::1/128", "unix"),
        'Proxies whose headers are trusted: networks, "unix" for sockets, "private" '
        "for private networks.",
        metavar="NETWORK",
        syntax="network",
    )
    proxy_protocol: bool = setting(
        False,
        "Expect the PROXY protocol, version 1 or 2, on every connection from a trusted "
        "proxy.",
    )
    proxy_headers_host: str = setting(
        "X-Forwarded-For",
        "Header with the client's address.",
        metavar="NAME",
        syntax="field-name",
    )
    proxy_headers_port: str = setting(
        "X-Forwarded-Port",
        "Header with the port.",
        metavar="NAME",
        syntax="field-name",
    )
    root_path: str = setting(
        "",
        "Path under which the application is mounted (ASGI root_path).",
        metavar="PATH",
        syntax="root-path",
    )
    root_path_mode: str = setting(
        "auto",
        "What the proxy does with the root path: strip (takes it off), keep (leaves it "
        "on; other paths get 404) or auto (as strip, with a warning if a path begins "
        "with it already).",
        choices=("auto", "strip", "keep"),
    )


class LifecycleConfig(Values, kw_only=True):
    """Start and stop"""

    lifespan: str = setting(
        "auto",
        "Run the application's ASGI lifespan: auto, on (a failure stops the start) "
        "or off.",
        choices=("auto", "on", "off"),
    )
    lifespan_timeout: float = setting(
        60.0, "Seconds for the lifespan's start-up and for its shutdown.", minimum=0.05
    )
    shutdown_timeout: float = setting(
        30.0, "Seconds for requests to finish after SIGTERM or SIGINT.", minimum=0
    )
    platform_grace: float | None = setting(
        None,
        "Seconds that the platform waits after SIGTERM before it kills the server, if "
        "you have raised its default; used only for the start-up message.",
        minimum=0,
    )
    application_close_timeout: float = setting(
        10.0,
        "Seconds for which an application call may continue after its client has "
        "gone; then it is cancelled. 0 never cancels it.",
        minimum=0,
    )
    pid_file: str | None = setting(
        None,
        "File that holds the server's process id while it runs.",
        metavar="PATH",
        syntax="new-file",
        none_word="none",
    )


class DjangoConfig(Values, kw_only=True):
    """Django"""

    handler: str = setting(
        "djserve",
        "What runs a Django project's requests: djserve's own handler, or the one that "
        "the project names.",
        choices=("djserve", "django"),
    )
    threads: int | None = setting(
        None,
        "Threads that run synchronous code (views, middleware, ORM, consumers) at the "
        "same time, in each process. By default 4 for each CPU and 4 more compute, at "
        "most 32; up to 256 run while the others only wait.",
        minimum=1,
    )
    thread_share: int = setting(
        80,
        "Percent of the threads that one view may have; its further calls wait behind "
        "those of other views. 100 sets no bound.",
        minimum=1,
        maximum=100,
    )
    thread_wait_timeout: float | None = setting(
        30.0,
        "Seconds that a request may wait for a thread before it gets 503 with "
        "Retry-After. None sets no bound.",
        minimum=0.05,
    )
    database_connections: int | None = setting(
        None,
        "Threads of each process that may be connected to one database at a time; "
        "others wait for a connection. By default as many as may compute, at most the "
        "size of Django's pool, and no bound for SQLite.",
        minimum=1,
    )
    database_connection_timeout: float = setting(
        30.0,
        "Seconds that a thread waits for a connection before its query fails with "
        "OperationalError.",
        minimum=0.05,
    )
    thread_queue_limit: int | None = setting(
        None,
        "Calls that may wait for a thread; a request beyond gets 503 with Retry-After. "
        "No limit by default.",
        minimum=0,
    )


class ServerConfig(Values, kw_only=True):
    """Every setting, checked, in groups; each layer is handed its own group."""

    bind: BindConfig = field(default_factory=BindConfig)
    unix_sockets: UnixSocketConfig = field(default_factory=UnixSocketConfig)
    tls: TLSConfig = field(default_factory=TLSConfig)
    redirect: RedirectConfig = field(default_factory=RedirectConfig)
    acme: ACMEConfig = field(default_factory=ACMEConfig)
    http: HTTPConfig = field(default_factory=HTTPConfig)
    http2: HTTP2Config = field(default_factory=HTTP2Config)
    http3: HTTP3Config = field(default_factory=HTTP3Config)
    bounds: BoundsConfig = field(default_factory=BoundsConfig)
    files: FilesConfig = field(default_factory=FilesConfig)
    compression: CompressionConfig = field(default_factory=CompressionConfig)
    websocket: WebSocketConfig = field(default_factory=WebSocketConfig)
    proxy: ProxyConfig = field(default_factory=ProxyConfig)
    lifecycle: LifecycleConfig = field(default_factory=LifecycleConfig)
    drain: DrainConfig = field(default_factory=DrainConfig)
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    processes: ProcessesConfig = field(default_factory=ProcessesConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    tracing: TracingConfig = field(default_factory=TracingConfig)
    django: DjangoConfig = field(default_factory=DjangoConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)

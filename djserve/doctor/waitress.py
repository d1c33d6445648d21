"""Waitress's command line."""

from __future__ import annotations

from djserve.doctor.gunicorn import bind
from djserve.doctor.rules import (
    Draft,
    FlagRule,
    KnownServer,
    Outcome,
    lacking,
    missing,
    needless,
    special,
    to,
    translated,
    unneeded,
)
from djserve.doctor.uvicorn import host, make_application, port, trust, unix_socket
from djserve.doctor.wsgi import (
    DEFAULTS,
    PROXIES,
    body_size,
    header_size,
    threads,
)

_BUFFERS = "Buffers are bounded by --client-memory-limit and --upload-disk-limit."
_LOOP = "djserve has one event loop in each process."
_SCHEME = "The scheme comes from each request: the proxy has to send X-Forwarded-Proto."
_CLOSED = "Connections that a client has left are logged with --verbosity 2."


def _listen(draft: Draft, value: str) -> Outcome:
    draft.seen.add("address")
    return translated(" ".join(_bind(draft, each) for each in value.split()))


def _bind(draft: Draft, address: str) -> str:
    if address.startswith("*:"):
        # Those of IPv6, too, as with Waitress.
        return draft.add("--bind", address[1:])
    return bind(draft, address).becomes


def _scheme(draft: Draft, value: str) -> Outcome:
    if value == "http":
        return unneeded("It is the default.")
    return translated(draft.add("--proxy-headers"), _SCHEME)


def _ident(draft: Draft, value: str) -> Outcome:
    if value.lower() in ("", "none"):
        return translated(draft.add("--no-server-name"))
    return translated(draft.add("--server-name", value))


def _proxy_count(draft: Draft, value: str) -> Outcome:
    if value == "1":
        return unneeded("The addresses of trusted proxies are left out, from the end.")
    return lacking("Name all of the proxies by --trusted-proxies, not their number.")


def _proxy_headers(draft: Draft, value: str) -> Outcome:
    if "--proxy-headers" in draft.words:
        return unneeded("--proxy-headers reads Forwarded and X-Forwarded-*.")
    return translated(draft.add("--proxy-headers"), PROXIES)


def _finish(draft: Draft) -> list[Outcome]:
    """Add Waitress's own address, if none is given."""
    if draft.seen & {"address", "socket"}:
        return []
    draft.host, draft.port = draft.host or "0.0.0.0", draft.port or "8080"
    if draft.host == "*":
        _bind(draft, f"*:{draft.port}")
        draft.host = draft.port = ""
    return []


def _application(draft: Draft, value: str) -> Outcome:
    draft.application = value
    return translated(value)


RULES: tuple[FlagRule, ...] = (
    special("--host", host, "`--bind HOST:PORT`", "0.0.0.0 by default."),
    special("--port", port, "`--bind HOST:PORT`", "8080 by default."),
    special("--listen", _listen, "`--bind`, once for each"),
    special("--unix-socket", unix_socket, "`--bind unix:PATH`"),
    to("--unix-socket-perms", "--unix-mode", "666 by default; 600 in Waitress."),
    needless("--ipv4", "The address says it.", values="0"),
    needless("--no-ipv4", "The address says it.", values="0"),
    needless("--ipv6", "The address says it.", values="0"),
    needless("--no-ipv6", "The address says it.", values="0"),
    special("--threads", threads, "`--threads`", "The default follows the views."),
    special("--url-scheme", _scheme, "`--proxy-headers` if https"),
    to(
        "--url-prefix",
        "--root-path",
        "--root-path-mode says what the proxy does with it.",
    ),
    special("--ident", _ident, "`--server-name`"),
    to("--server-name", "--server-name", "The name in Server; Host names the site."),
    to("--backlog", "--backlog"),
    to(
        "--connection-limit",
        "--connection-limit",
        "Idle ones make room before new ones get 503.",
    ),
    needless("--cleanup-interval", "Each connection has its own timer."),
    to("--channel-timeout", "--keep-alive-timeout"),
    special("--max-request-header-size", header_size, "`--header-size-limit`"),
    special("--max-request-body-size", body_size, "`--body-size-limit`"),
    special("--trusted-proxy", trust, "`--trusted-proxies`"),
    special("--trusted-proxy-count", _proxy_count, "none needed"),
    special("--trusted-proxy-headers", _proxy_headers, "`--proxy-headers`"),
    needless("--log-untrusted-proxy-headers", "They are not believed.", values="0"),
    needless("--no-log-untrusted-proxy-headers", "It is the default.", values="0"),
    needless(
        "--clear-untrusted-proxy-headers",
        "The application sees the fields; what djserve derives from them is right.",
        values="0",
    ),
    needless("--no-clear-untrusted-proxy-headers", "It is the default.", values="0"),
    missing(
        "--expose-tracebacks",
        "DEBUG of Django shows them; djserve logs them.",
        values="0",
    ),
    needless("--no-expose-tracebacks", "Tracebacks are logged only.", values="0"),
    needless("--log-socket-errors", _CLOSED, values="0"),
    needless("--no-log-socket-errors", _CLOSED, values="0"),
    needless("--asyncore-loop-timeout", _LOOP),
    needless("--asyncore-use-poll", _LOOP, values="0"),
    needless("--no-asyncore-use-poll", _LOOP, values="0"),
    needless("--recv-bytes", _BUFFERS),
    needless("--send-bytes", _BUFFERS),
    needless("--outbuf-overflow", _BUFFERS),
    needless("--outbuf-high-watermark", _BUFFERS),
    needless("--inbuf-overflow", _BUFFERS),
    needless("--channel-request-lookahead", "A client that leaves is always noticed."),
    special("--call", make_application, "`--factory`", values="0"),
    special("--app", _application, "the application"),
    needless("--help", "`--help` and `--help-all`.", values="0"),
)


SERVER = KnownServer(
    "waitress-serve",
    RULES,
    _finish,
    (*DEFAULTS, "Connections of HTTP/2 are served with TLS; Waitress speaks none."),
    abbreviates=False,
    is_wsgi=True,
    page="from-waitress.md",
)

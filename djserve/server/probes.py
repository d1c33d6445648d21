"""Metrics and health, answered without the application.

On their own address by a small HTTP server in a thread, so that a blocked event
loop can be seen; or on the server's own addresses, in front of the application.
"""

from __future__ import annotations

import logging
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Protocol

from djserve.asgi.application import open_direct_lane
from djserve.errors import ConfigError
from djserve.instrumentation.metrics import CONTENT_TYPE
from djserve.net.address import EndpointAddress, parse_address
from djserve.net.forks import ForkGuard, name_sockets
from djserve.net.sockets import open_sockets, shut_down

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from djserve.asgi.application import ApplicationCalls, DirectCall, DirectLane
    from djserve.asgi.types import Application, Message, Receive, Scope, Send
    from djserve.conf.schema import MetricsConfig

logger = logging.getLogger("djserve")

CONNECTION_LIMIT = 32
"""Connections to METRICS_BIND at a time: each has a thread and a descriptor."""

HEALTH_PATHS = ("/healthz", "/readyz")
TEXT = "text/plain; charset=utf-8"


class Probes(Protocol):
    """What metrics and health are read from; called from any thread."""

    def metrics(self) -> bytes: ...
    def is_alive(self) -> bool:
        """Whether the event loop turns."""

    def is_ready(self) -> bool:
        """Whether requests should be sent here."""


def answer_health(path: str, probes: Probes) -> tuple[int, bytes]:
    """Return the status and the content for one of ``HEALTH_PATHS``."""
    if path == "/healthz":
        return (200, b"ok\n") if probes.is_alive() else (503, b"blocked\n")
    return (200, b"ready\n") if probes.is_ready() else (503, b"not ready\n")


class ProbeServer:
    """Answer on ``address`` until ``close``. Raises ListenError and ConfigError."""

    def __init__(self, address: str, probes: Probes) -> None:
        parsed = parse_address(address)
        if isinstance(parsed, EndpointAddress):
            raise ConfigError([f"METRICS_BIND cannot be an endpoint: {address!r}"])
        self._servers = [
            _serve(sock, probes) for sock in open_sockets(parsed, backlog=16)
        ]
        names = name_sockets(server.fileno() for server in self._servers)
        self._guard = ForkGuard(lambda: names)
        self._guard.start()

    @property
    def addresses(self) -> list[Any]:
        """The addresses as bound."""
        return [server.socket.getsockname() for server in self._servers]

    def close(self) -> None:
        """Stop answering."""
        self._guard.stop()
        for server in self._servers:
            server.shutdown()
            server.server_close()


def _serve(sock: Any, probes: Probes) -> ThreadingHTTPServer:
    # serve_forever() waits in a selector; what it accepts then is there.
    handler = type("Handler", (_Handler,), {"probes": probes})
    server = _HTTPServer(sock.getsockname(), handler, bind_and_activate=False)
    server.socket.close()
    server.socket = sock
    thread = threading.Thread(
        target=server.serve_forever,
        kwargs={"poll_interval": 0.1},
        name="djserve-metrics",
        daemon=True,
    )
    thread.start()
    return server


class _HTTPServer(ThreadingHTTPServer):
    """A thread for each connection, of which the oldest make room for new ones."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lock = threading.Lock()
        self._open: dict[Any, None] = {}

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open[request] = None
            surplus = list(self._open)[:-CONNECTION_LIMIT]
            # Under the lock: a socket that is closed may be another's by now.
            for oldest in surplus:
                del self._open[oldest]
                # Its thread reads the end.
                shut_down(oldest)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def get_request(self) -> Any:
        connection, address = super().get_request()
        connection.setblocking(True)
        # A unix socket's peer has no address, and a handler wants one.
        return connection, address or ("", 0)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A probe that gives up before its answer is no fault of the server's.
        if not isinstance(sys.exception(), ConnectionError):
            logger.exception("A probe could not be answered")


class _Handler(BaseHTTPRequestHandler):
    probes: Probes
    timeout = 10
    server_version = "djserve"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(200, self.probes.metrics(), CONTENT_TYPE)
        elif path in HEALTH_PATHS:
            self._answer(*answer_health(path, self.probes), TEXT)
        else:
            self._answer(404, b"not found\n", TEXT)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: probes come every few seconds."""

    def _answer(self, status: int, data: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def answer_in_front(
    application: Application,
    config: MetricsConfig,
    probes: Probes,
    read_metrics: Callable[[], Awaitable[bytes]],
) -> Application:
    """Return an application that answers METRICS_PATH and the health paths by itself.

    Without both settings it is the application as it came.
    """
    if config.metrics_path is None and not config.health:
        return application
    return _Front(application, config.metrics_path, probes, read_metrics)


class _Front:
    def __init__(
        self,
        application: Application,
        metrics_path: str | None,
        probes: Probes,
        read_metrics: Callable[[], Awaitable[bytes]],
    ) -> None:
        self._application = application
        self._metrics_path = metrics_path
        self._probes = probes
        self._read_metrics = read_metrics

    def direct_lane(self, calls: ApplicationCalls) -> DirectLane | None:
        """Return the application's way without a task, for all but the paths here."""
        lane = open_direct_lane(self._application, calls)
        paths = {*HEALTH_PATHS}
        if self._metrics_path is not None:
            paths.add(self._metrics_path)
        return None if lane is None else _LaneBehind(lane, paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] == "http" else None
        if path in HEALTH_PATHS:
            await _send(send, *answer_health(path, self._probes), TEXT)
        elif path is not None and path == self._metrics_path:
            await _send(send, 200, await self._read_metrics(), CONTENT_TYPE)
        else:
            await self._application(scope, receive, send)


class _LaneBehind:
    """A lane for all paths but some."""

    def __init__(self, lane: DirectLane, paths: set[str]) -> None:
        self._lane = lane
        self._paths = paths

    def begin(self, exchange: Any) -> DirectCall | None:
        """Begin a call; None for a path that is answered in front."""
        if exchange.scope["path"] in self._paths:
            return None
        return self._lane.begin(exchange)


async def _send(send: Send, status: int, data: bytes, content_type: str) -> None:
    headers = [
        (b"content-type", content_type.encode("ascii")),
        (b"content-length", b"%d" % len(data)),
    ]
    start: Message = {
        "type": "http.response.start",
        "status": status,
        "headers": headers,
    }
    await send(start)
    await send({"type": "http.response.body", "body": data})

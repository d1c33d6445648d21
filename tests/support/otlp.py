"""A collector of OpenTelemetry's: what servers under test send over OTLP and HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.waiting import PATIENCE


class Collector:
    """A receiver of one signal, "traces" or "metrics", by its message's class.

    A subclass keeps in ``take`` what it wants of a message.
    """

    def __init__(self, signal: str, message: Any) -> None:
        self._arrived = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                assert self.path == f"/v1/{signal}"
                received = message.FromString(self.rfile.read(size))
                with collector._arrived:
                    collector.take(received)
                    collector._arrived.notify_all()
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # As often as this it looks whether it is to end.
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}
        )
        self._thread.start()

    @property
    def environment(self) -> dict[str, str]:
        """What has the server under test send its figures here, and soon."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_SERVICE_NAME": "site",
        }

    def take(self, message: Any) -> None:
        """Keep what is wanted of a message; other threads wait until it is done."""
        raise NotImplementedError

    def wait_for(self, is_there: Callable[[], bool]) -> bool:
        """Return whether what was received is enough, as soon as it is."""
        with self._arrived:
            return self._arrived.wait_for(is_there, PATIENCE)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

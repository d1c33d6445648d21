"""Metrics and health of a server that is one process, without a supervisor."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from djserve.instrumentation.board import Board, Figure
from djserve.instrumentation.metrics import render, require_client
from djserve.server.heartbeat import Heartbeat
from djserve.server.probes import ProbeServer, answer_in_front

if TYPE_CHECKING:
    from djserve.asgi.types import Application
    from djserve.conf.schema import MetricsConfig
    from djserve.net.twisted.reactor import Reactor
    from djserve.server.heartbeat import ThreadStats
    from djserve.server.lifecycle import Server

BLOCKED_TIME = 10.0
"""Seconds without a beat after which the server counts as not alive."""


class LocalMonitor:
    """Answer the probes of the one server of this process.

    Raises ConfigError where the library for metrics is missing.
    """

    def __init__(
        self, config: MetricsConfig, reactor: Reactor, thread_stats: ThreadStats | None
    ) -> None:
        require_client()
        self.board = Board()
        self._config = config
        self._loop = reactor.loop
        self._thread_stats = thread_stats
        self._server: Server | None = None
        self._heartbeat: Heartbeat | None = None
        self._probe_server: ProbeServer | None = None

    def start(self, server: Server) -> None:
        """Beat, and answer on the address for metrics. Raises ListenError."""
        self._server = server
        self._heartbeat = Heartbeat(self.board, server, self._thread_stats)
        self._heartbeat.start(self._loop)
        if self._config.metrics_bind is not None:
            self._probe_server = ProbeServer(self._config.metrics_bind, self)

    def close(self) -> None:
        """Stop, where the loop and the process run on; called once."""
        if self._heartbeat is not None:
            self._heartbeat.stop()
        if self._probe_server is not None:
            self._probe_server.close()
        # The memory ends with its last user: aborted requests are still to be counted.
        os.close(self.board.descriptor)

    def put_around(self, application: Application) -> Application:
        """Answer METRICS_PATH and the health paths in front of the application."""
        if self._config.metrics_path is None:
            return application
        path = self._config.metrics_path
        return answer_in_front(application, path, self, self._read_metrics)

    def metrics(self) -> bytes:
        return render([(str(os.getpid()), self.board)])

    def is_alive(self) -> bool:
        beat = self.board.numbers[Figure.HEARTBEAT] / 1e9
        return time.monotonic() - beat < BLOCKED_TIME

    def is_ready(self) -> bool:
        return self._server is not None and not self._server.is_stopping

    async def _read_metrics(self) -> bytes:
        return self.metrics()

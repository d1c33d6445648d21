"""The figures of a server: its heartbeat, and its metrics without a supervisor.

The figures that change by themselves are written to the board at every beat. A beat
that is late says how long the event loop was blocked; a beat that does not come says
that it still is.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from djserve.instrumentation.board import Board, Figure
from djserve.instrumentation.figures import read_figures
from djserve.instrumentation.limits import limits_reached
from djserve.instrumentation.metrics import render, require_client
from djserve.instrumentation.spooled import count_refusals, spooled_size
from djserve.server.observation import is_published
from djserve.server.probes import ProbeServer, answer_in_front
from djserve.server.publishing import Publisher, open_sinks

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from djserve import interfaces
    from djserve.asgi.types import Application
    from djserve.conf.schema import MetricsConfig
    from djserve.instrumentation.figures import Family
    from djserve.net.main_loop import Runner
    from djserve.server.lifecycle import Server

    ThreadStats = Callable[[], interfaces.ThreadStats]

INTERVAL = 0.25
"""Seconds between two beats."""

BLOCKED_TIME = 10.0
"""Seconds without a beat after which the server counts as not alive."""


class Heartbeat:
    """Beat on a server's loop, from ``start`` on until ``stop`` or the loop's end.

    ``thread_stats`` returns the figures of the threads.
    """

    def __init__(
        self, board: Board, server: Server, thread_stats: ThreadStats | None = None
    ) -> None:
        self._board = board
        self._numbers = board.numbers
        self._server = server
        self._thread_stats = thread_stats
        self._next_beat: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Beat now and then every quarter of a second."""
        expected = time.monotonic()

        def beat() -> None:
            nonlocal expected
            now = time.monotonic()
            self._write(now, max(0.0, now - expected))
            expected = now + INTERVAL
            self._next_beat = loop.call_later(INTERVAL, beat)

        beat()

    def stop(self) -> None:
        """Beat a last time, if it has begun: what came since the last beat counts."""
        if self._next_beat is None:
            return
        self._next_beat.cancel()
        self._next_beat = None
        self._write(time.monotonic(), 0.0)

    def _write(self, now: float, lag: float) -> None:
        numbers, server = self._numbers, self._server
        numbers[Figure.HEARTBEAT] = int(now * 1e9)
        numbers[Figure.LOOP_LAG] = late = int(lag * 1e9)
        numbers[Figure.LOOP_LAG_WORST] = max(late, numbers[Figure.LOOP_LAG_WORST])
        numbers[Figure.CALLS] = len(server.calls)
        numbers[Figure.CONNECTIONS] = server.connection_count
        numbers[Figure.CONNECTIONS_TOTAL] = server.connections_opened
        numbers[Figure.CONNECTIONS_REFUSED] = server.connections_refused
        numbers[Figure.CLIENT_MEMORY] = server.client_memory
        numbers[Figure.UPLOAD_DISK] = spooled_size()
        numbers[Figure.BODIES_LATE] = count_refusals(408)
        numbers[Figure.UPLOADS_REFUSED] = count_refusals(503)
        numbers[Figure.WEBSOCKET_WAITS] = server.websocket_waits
        self._board.set_limits(limits_reached())
        numbers[Figure.IS_DRAINING] = server.is_stopping
        if self._thread_stats is not None:
            stats = self._thread_stats()
            numbers[Figure.THREADS] = stats.threads
            numbers[Figure.THREADS_RUNNING] = stats.running
            numbers[Figure.THREADS_WAITING] = stats.waiting
            numbers[Figure.THREADS_PARKED] = stats.parked
            numbers[Figure.THREADS_QUEUED] = stats.queued
            numbers[Figure.THREAD_WAIT] = int(stats.oldest_wait * 1e9)
            self._board.set_views(stats.by_view)
        self._board.show()


class LocalMonitor:
    """Answer the probes of the one server of this process.

    Raises ConfigError if the library for metrics is missing.
    """

    def __init__(
        self, config: MetricsConfig, runner: Runner, thread_stats: ThreadStats | None
    ) -> None:
        require_client(config)
        self._publisher: Publisher | None = None
        if is_published(config):
            self._publisher = Publisher(open_sinks(config), self.figures)
        self.board = Board()
        self._config = config
        self._loop = runner.loop
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
        if self._publisher is not None:
            self._publisher.start()

    def publish_last(self) -> None:
        """Send the last figures where they are sent away; called once, at the end."""
        if self._heartbeat is not None:
            self._heartbeat.stop()
        publisher, self._publisher = self._publisher, None
        if publisher is not None and self._server is not None:
            publisher.close(self.figures())

    def close(self) -> None:
        """Stop, if the loop and the process run on; called once."""
        if self._probe_server is not None:
            self._probe_server.close()
        self.publish_last()
        # The memory ends with its last user: aborted requests are still to be counted.
        os.close(self.board.descriptor)

    def put_around(self, application: Application) -> Application:
        """Answer METRICS_PATH and the health paths in front of the application."""
        return answer_in_front(application, self._config, self, self._read_metrics)

    def metrics(self) -> bytes:
        return render(self.figures())

    def figures(self) -> list[Family]:
        """Return the figures as they are now; called from any thread."""
        return read_figures([(str(os.getpid()), self.board)])

    def is_alive(self) -> bool:
        beat = self.board.numbers[Figure.HEARTBEAT] / 1e9
        return time.monotonic() - beat < BLOCKED_TIME

    def is_ready(self) -> bool:
        return self._server is not None and not self._server.is_stopping

    async def _read_metrics(self) -> bytes:
        return self.metrics()

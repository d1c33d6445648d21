"""The figures that change by themselves, written to the board at every beat.

A beat that is late says how long the event loop was blocked; a beat that does not come
says that it still is.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from djserve.instrumentation.board import Board, Figure
from djserve.instrumentation.spooled import count_refusals, spooled_size

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from djserve import interfaces
    from djserve.server.lifecycle import Server

    ThreadStats = Callable[[], interfaces.ThreadStats]

INTERVAL = 0.25


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
        """Beat no more; called on the loop."""
        if self._next_beat is not None:
            self._next_beat.cancel()

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

"""A channel layer that cannot be reached: told once, tried again after longer pauses.

Events are hints, so none is worth waiting for: the database has what they tell of, and
clients ask for it. What must not happen is that an outage ends connections, or fills
the log with the same traceback for each of them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 10.0
# Connections of a pool find out one after the other that the old Redis has gone: what
# fails so soon after an outage belongs to it.
SETTLING = 20.0

logger = logging.getLogger(__name__)


class Outage:
    """Whether the channel layer is away, and when it is tried again.

    Called from the loop's thread and from those that run synchronous code.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._began_at: float | None = None
        self._pause = FIRST_PAUSE
        self._next_try = 0.0
        self._ended_at = float("-inf")
        self._is_told = False

    @property
    def is_pausing(self) -> bool:
        """Whether the layer failed so lately that it is not to be tried."""
        return self._began_at is not None and self._clock() < self._next_try

    def was_since(self, moment: float) -> bool:
        """Return whether the layer has been away since a moment, or still is."""
        return self._began_at is not None or self._ended_at > moment

    def failed(self, error: BaseException) -> None:
        """Note a failure; the first one is logged, further ones prolong the pause."""
        with self._lock:
            now = self._clock()
            if self._began_at is None:
                self._began_at = now
                self._pause = FIRST_PAUSE
            elif now >= self._next_try:
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self._next_try = max(self._next_try, now + self._pause)
            is_news = not self._is_told and now >= self._ended_at + SETTLING
            self._is_told = self._is_told or is_news
        if is_news:
            logger.error(
                "The channel layer cannot be reached (%s). Events are not sent until "
                "it is back; pages ask for what they miss.",
                error,
            )

    def succeeded(self) -> None:
        """Note that the layer has answered; the end of an outage is logged."""
        if self._began_at is None:
            return
        with self._lock:
            is_told, self._is_told = self._is_told, False
            seconds = self._clock() - (self._began_at or 0.0)
            self._began_at = None
            self._ended_at = self._clock()
        # Of several threads, the first.
        if is_told:
            logger.warning("The channel layer is back after %.0f s", seconds)


outage = Outage()
"""That of this process: its channel layers are on one Redis."""


class OutageFilter(logging.Filter):
    """Count what channels_redis logs of a lost connection as the outage that it is.

    Its receiver logs a traceback each second, and one more for each connection.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is None or not is_outage(error):
            return True
        outage.failed(error)
        return False


def is_outage(error: BaseException) -> bool:
    """Return whether an exception tells of a Redis that cannot be reached."""
    if isinstance(error, OSError):
        return True
    try:
        from redis.exceptions import ConnectionError, TimeoutError
    except ImportError:
        return False
    return isinstance(error, ConnectionError | TimeoutError)

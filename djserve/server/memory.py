"""What waits in memory for clients and from them, over all connections.

Each connection has its own bounds, but thousands that use them up are gigabytes.
The sizes are summed up at each tick, and more often while they are large: nothing is
counted on the way of a request or a message.
"""

# Why the sizes are summed up and not kept
#
# A total that is kept up to date would cost an addition with each chunk and each
# message, in every protocol, and one that is forgotten on some path makes it wrong for
# good. The connections know what they hold anyway, for their own bounds. So the sum is
# made when it is needed: at each tick (``held_size`` of each), and twenty times a
# second while more than half of the limit is held.
#
# Between two looks the total can pass the limit, by as much as all clients together can
# send in that time. Half of the limit is where the closer watch begins, for that
# reason.
#
# Those that hold most are closed, by a reset. Nothing gentler helps: what waits for a
# client that does not read cannot be sent, and what waits for the application is held
# by a pause already. Closing the newest, or any at random, would hit the many that hold
# little. A tenth below the limit is freed, or every look would close another one.

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from djserve.instrumentation.limits import note_limit

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Set

    from djserve.interfaces import Connection

logger = logging.getLogger("djserve")
error_logger = logging.getLogger("djserve.error")

_LOG_INTERVAL = 60.0
_CLOSE_LOOK_INTERVAL = 0.05
# Down to there, so that not every look has to close some.
_ENOUGH = 0.9


class ClientMemory:
    """Close the connections that hold most, as long as all hold more than ``limit``."""

    def __init__(
        self,
        connections: Set[Connection],
        limit: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._connections = connections
        self._limit = limit
        self._loop = loop
        self._is_looking = False
        self._next_log = 0.0
        self._next_failure_log = 0.0
        self.size = 0
        """Bytes that were held at the last look."""

    def tick(self) -> None:
        """Look now, and soon again while more than half of the limit is held."""
        self._look()
        if self.size > self._limit // 2 and not self._is_looking:
            self._is_looking = True
            self._loop.call_later(_CLOSE_LOOK_INTERVAL, self._look_again)

    def _look_again(self) -> None:
        self._is_looking = False
        self.tick()

    def _look(self) -> None:
        self.size = sum(map(self._measure, self._connections))
        if self.size > self._limit:
            self._close_largest()

    def _measure(self, connection: Connection) -> int:
        """Return what a connection holds; 0 if it fails at that, as one of many."""
        try:
            return connection.held_size
        except Exception:
            self._note_failure(connection)
            return 0

    def _note_failure(self, connection: Connection) -> None:
        now = self._loop.time()
        if now >= self._next_failure_log:
            self._next_failure_log = now + _LOG_INTERVAL
            error_logger.exception("Looking at the memory failed for %r", connection)

    def _close_largest(self) -> None:
        held, count = self.size, 0
        sizes = [(self._measure(one), one) for one in self._connections]
        sizes.sort(key=lambda pair: pair[0], reverse=True)
        for size, connection in sizes:
            if held <= self._limit * _ENOUGH:
                break
            try:
                connection.abort_transport()
            except Exception:
                self._note_failure(connection)
                continue
            held -= size
            count += 1
        note_limit("CLIENT_MEMORY_LIMIT", count)
        now = self._loop.time()
        if now >= self._next_log:
            self._next_log = now + _LOG_INTERVAL
            logger.warning(
                "Closed the %d connections that held most: %d bytes waited for clients "
                "or from them (CLIENT_MEMORY_LIMIT is %d)",
                count,
                self.size,
                self._limit,
            )

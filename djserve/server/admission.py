"""How many connections a process serves, and who makes room when it is full.

Beyond the limit the longest idle connections are closed, first those that have never
sent a request. If there are none, a new connection is answered with 503; some of these
may wait for that at a time, and those beyond are dropped.
"""

# Why a limit closes connections, and which
#
# A limit that only refuses newcomers can be turned against a site: idle connections
# cost an attacker nothing, and keep everyone else out until their timeouts. So a
# newcomer takes the place of an idle connection as long as there is one. Those that
# have never sent a request go first (the end of ``_idle``), then those that have been
# idle for longest. A connection with a request under way is never closed for this.
#
# ``give_way`` asks, and the connection may say no: a request may have come since the
# list was made. The list is made once between two ticks, since looking at all
# connections for each newcomer would make a flood costly by itself. When it is used up,
# newcomers are refused until the next tick.
#
# A connection on its way out still has its file descriptor, so it counts for the
# process and not for the limit (``_leaving``). ``_spare`` bounds those, the refused
# ones that wait for their 503 among them. Beyond that even a refusal is too much, and
# the connection is dropped.

from __future__ import annotations

import logging
import time
from enum import Enum, auto
from typing import TYPE_CHECKING

from djserve.instrumentation.limits import note_limit

if TYPE_CHECKING:
    from collections.abc import Set

    from djserve.interfaces import Connection

logger = logging.getLogger("djserve")

_LOG_INTERVAL = 60.0


class Verdict(Enum):
    """What becomes of a new connection."""

    SERVE = auto()
    REFUSE = auto()
    DROP = auto()


def default_limit(descriptors: int | None) -> int | None:
    """Return the connections that leave a tenth of the descriptors, and 32, to others.

    To files, databases, and the connections that are on their way out.
    """
    return None if descriptors is None else max(1, descriptors * 9 // 10 - 32)


class Admission:
    """Decide about each new connection of a server, by those that it has."""

    def __init__(self, connections: Set[Connection], limit: int | None) -> None:
        self._connections = connections
        self._limit = float("inf") if limit is None else limit
        # Those that are on their way out take a descriptor for some seconds more.
        self._spare = self._limit // 16 + 8
        self._leaving: set[Connection] = set()
        self._idle: list[Connection] = []
        self._may_look = True
        self._next_log = 0.0
        self.refused = 0
        """Connections that were not served."""

    def decide(self) -> Verdict:
        """Return what to do with one more."""
        count = len(self._connections)
        if count - len(self._leaving) < self._limit:
            return Verdict.SERVE
        # Closed or refused, one connection goes for this one.
        note_limit("CONNECTION_LIMIT")
        is_full = count >= self._limit + self._spare
        if not is_full and self._make_room():
            return Verdict.SERVE
        self.refused += 1
        self._log()
        return Verdict.DROP if is_full else Verdict.REFUSE

    def refuse(self, connection: Connection) -> None:
        """Count a connection as one that only waits for its refusal."""
        self._leaving.add(connection)

    def connection_lost(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._leaving.discard(connection)

    def tick(self) -> None:
        """Allow another look at all connections."""
        self._may_look = True
        self._idle.clear()

    def _make_room(self) -> bool:
        if not self._idle and self._may_look:
            # Once between two ticks: a flood must not cost a look each.
            self._may_look = False
            self._idle = self._find_idle()
        while self._idle:
            connection = self._idle.pop()
            if connection in self._connections and connection.give_way():
                self._leaving.add(connection)
                return True
        return False

    def _find_idle(self) -> list[Connection]:
        """Return the idle connections, those that may go first at the end."""
        found = [
            (connection.idle_since, connection)
            for connection in self._connections - self._leaving
        ]
        idle = [(since, one) for since, one in found if since is not None]
        idle.sort(key=lambda pair: pair[0], reverse=True)
        return [connection for _, connection in idle]

    def _log(self) -> None:
        now = time.monotonic()
        if now >= self._next_log:
            self._next_log = now + _LOG_INTERVAL
            logger.warning(
                "New connections are refused with 503: %d are open "
                "(CONNECTION_LIMIT is %d)",
                len(self._connections),
                self._limit,
            )

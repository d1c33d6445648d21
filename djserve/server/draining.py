"""The end of all connections, in the manner that suits each, within a bound."""

# How connections end when the server stops
#
# A connection that is closed while its peer sends a request looks to the peer like a
# failure, and most clients do not repeat what is not idempotent (RFC 9110 section
# 9.2.2). So the listening sockets are closed first, which is not done here, and each
# kind of connection is then asked for its end in the manner in which its peer can see
# it coming:
#
# - HTTP/1.1 has no frame for it. The next response is the last and says so (Connection:
#   close, RFC 9112 section 9.6). A connection that is idle gets DRAIN_IDLE_TIMEOUT for
#   a request that may be on its way already, and is then closed.
# - A connection that has never sent anything gets FIRST_INPUT_GRACE at the least,
#   however short that setting is: its client has connected in order to send.
# - HTTP/2 has GOAWAY (RFC 9113 section 6.8): streams that have begun are completed, and
#   the client knows which ones were not.
# - A WebSocket gets a Close frame with code 1012. All at once, they would come back all
#   at once, to the other workers or to the next server. They are spread over
#   WEBSOCKET_DRAIN_TIME, those inside of HTTP/2 among them.
#
# Everything has to be over in ``timeout``. Each of the times above is therefore at most
# half of it: the other half is left for what they have started.
#
# A close happens one turn of the loop after it was decided, and connections are closed
# one a turn. In between, the loop reads what has arrived. A request that was in the
# kernel's buffer when the time was over is answered, and not destroyed by the reset
# that follows a close with unread bytes.

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeGuard

from djserve.protocols.http1.connection import HTTP1Connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from djserve.conf.schema import DrainConfig
    from djserve.interfaces import Connection
    from djserve.protocols.http2.connection import HTTP2Connection

# Seconds between looks at handshakes: one that fails tells nobody.
OPENING_INTERVAL = 0.05

# Seconds for what a peer sends first, however soon idle connections are to end: clients
# do not ask again what a new connection has never answered.
FIRST_INPUT_GRACE = 1.0


class Drain:
    """Ask each of ``connections`` for its end; know how long to wait for it.

    Connections may send some more requests for a moment. WebSockets are closed one
    after the other, so that not all clients come back at once. The set may still grow,
    by what was accepted before: give each newcomer to ``retire``.
    """

    def __init__(
        self, connections: set[Connection], config: DrainConfig, timeout: float
    ) -> None:
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._gone = asyncio.Event()
        self._is_ending_idle = False
        longest = timeout / 2
        self._grace = min(config.drain_idle_timeout, longest)
        self._first_grace = max(self._grace, min(FIRST_INPUT_GRACE, longest))
        self._spread = min(config.websocket_drain_time, longest)

    async def run(self, count_opening: Callable[[], int]) -> None:
        """Wait until the last connection has gone.

        ``count_opening`` returns how many were accepted and are still to come.
        """
        timers = self._begin()
        try:
            while self._connections or count_opening():
                self._gone.clear()
                if self._connections:
                    await self._gone.wait()
                else:
                    await asyncio.sleep(OPENING_INTERVAL)
        finally:
            for timer in timers:
                timer.cancel()

    def retire(self, connection: Connection) -> None:
        """Let a connection end by itself, after a request that is on its way."""
        if self._is_ending_idle:
            # Late, with its own time.
            self._end_later(self._first_grace, connection)
        if isinstance(connection, HTTP1Connection) or _is_http2(connection):
            connection.retire()

    def connection_lost(self) -> None:
        """Record that a connection has left the set."""
        if not self._connections:
            self._gone.set()

    def _begin(self) -> list[asyncio.TimerHandle]:
        upgraded = {c for c in self._connections if _is_upgraded(c)}
        sockets = [connection.drain for connection in upgraded]
        for connection in self._connections:
            if _is_http2(connection):
                sockets += connection.defer_drains()
        for connection in self._connections - upgraded:
            self.retire(connection)
        timers = [
            self._loop.call_later(self._spread * index / len(sockets), drain_socket)
            for index, drain_socket in enumerate(sockets)
        ]
        timers.append(self._loop.call_later(self._grace, self._end_idle, upgraded))
        return timers

    def _end_idle(self, upgraded: set[Connection]) -> None:
        """Drain what is left, each connection in its own turn of the loop.

        What peers have sent is then read first: to a peer, a close that meets its
        request looks like a failure, and with many connections in one turn some would.
        """
        self._is_ending_idle = True
        left = list(self._connections - upgraded)

        def drain_next() -> None:
            if left:
                self._end_or_wait(left.pop())
                self._loop.call_soon(drain_next)

        self._loop.call_soon(self._loop.call_soon, drain_next)

    def _end_or_wait(self, connection: Connection) -> None:
        rest = self._first_grace - self._grace
        if rest and not connection.mark:
            self._end_later(rest, connection)
        else:
            self._end(connection)

    def _end_later(self, delay: float, connection: Connection) -> None:
        # In the turn after: what has come until then is read first.
        self._loop.call_later(delay, self._loop.call_soon, self._end, connection)

    def _end(self, connection: Connection) -> None:
        if connection in self._connections:
            connection.drain()


def _is_http2(connection: Connection) -> TypeGuard[HTTP2Connection]:
    # Without its class, which may not be there.
    return not isinstance(connection, HTTP1Connection)


def _is_upgraded(connection: Connection) -> bool:
    return isinstance(connection, HTTP1Connection) and connection.is_upgraded

"""Every timeout of an HTTP/1.1 connection, on a clock that is handed in.

The connection counts its changes in ``mark``; a tick that finds the count changed takes
the time, so that the path of a request never reads a clock. A timeout therefore ends up
to one interval of the sweep late, never early.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from djserve.errors import ProtocolError

if TYPE_CHECKING:
    from djserve.conf.schema import HTTPConfig
    from djserve.protocols.http1.connection import HTTP1Connection

# Seconds for a peer to read a last response before its connection is closed.
LINGER_TIMEOUT = 2.0


class HTTP1Timeouts:
    """Close what waits too long: silent, idle, trickling and stalled peers.

    Each tick is handed the connection: a reference to it would be a cycle, which only
    the garbage collector ends (benchmark: http1_new).
    """

    __slots__ = (
        "_body_since",
        "_body_size",
        "_config",
        "_is_put_off",
        "_mark",
        "_since",
        "_write_key",
        "_write_since",
        "pauses",
    )

    def __init__(self, config: HTTPConfig) -> None:
        self._config = config
        self._is_put_off = False
        self._mark = -1
        self._since = 0.0
        self._body_size = 0
        self._body_since = 0.0
        self._write_key = (0, 0)
        self._write_since = 0.0
        self.pauses = 0

    def tick(self, connection: HTTP1Connection, now: float) -> None:
        """Act on what is overdue at the monotonic time ``now``."""
        if self._is_write_stalled(connection, now):
            connection.abort_transport()
        elif self._mark != connection.mark:
            self._mark = connection.mark
            self._since = self._body_since = now
            self._body_size = connection.body_size
        elif connection.is_lingering:
            if now - self._since >= LINGER_TIMEOUT:
                connection.close()
        elif connection.is_idle:
            self._check_idle(connection, now - self._since)
        elif connection.is_reading_head:
            if now - self._since >= self._config.header_timeout:
                connection.refuse(
                    ProtocolError(
                        "The request head is late", 408, setting="HEADER_TIMEOUT"
                    )
                )
        elif connection.is_reading_body:
            self._check_body_rate(connection, now)
        else:
            self._body_since = now
            self._body_size = connection.body_size

    def quiet_since(self, connection: HTTP1Connection) -> float | None:
        """Return since when nothing has changed; None if it did after the last tick."""
        return self._since if self._mark == connection.mark else None

    def _check_idle(self, connection: HTTP1Connection, waited: float) -> None:
        limit = (
            self._config.keep_alive_timeout
            if connection.request_count
            else self._config.header_timeout
        )
        if waited >= limit or self._is_put_off:
            self.end_idle(connection)

    def end_idle(self, connection: HTTP1Connection) -> None:
        """Close an idle connection; at the next tick where its peer has sent something.

        To a peer, a close that meets its request looks like a failure. The response to
        that is the last one, and what is no request puts off the end only once.
        """
        connection.retire()
        if self._is_put_off or not connection.has_input:
            connection.end()
        self._is_put_off = True

    def _check_body_rate(self, connection: HTTP1Connection, now: float) -> None:
        elapsed = now - self._body_since
        if elapsed < self._config.body_timeout:
            return
        size = connection.body_size
        if size - self._body_size < self._config.body_min_rate * elapsed:
            connection.refuse(
                ProtocolError("The content is too slow", 408, setting="BODY_MIN_RATE")
            )
        self._body_since = now
        self._body_size = size

    def _is_write_stalled(self, connection: HTTP1Connection, now: float) -> bool:
        """Whether the peer has taken no byte of what is buffered for too long.

        The buffer only shrinks while writing is paused, so an unchanged size within one
        pause means that nothing moved.
        """
        key = (self.pauses, connection.get_write_buffer_size())
        if key != self._write_key or key[1] == 0:
            self._write_key = key
            self._write_since = now
            return False
        return now - self._write_since >= self._config.write_timeout

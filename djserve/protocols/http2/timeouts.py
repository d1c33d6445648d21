"""Every timeout of an HTTP/2 connection and its streams, on a clock that is handed in.

Nothing on a request's path reads a clock: a tick compares counts with those of the last
one. A timeout therefore ends up to one interval of the sweep late, never early.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2.errors import ErrorCodes

from djserve.errors import ProtocolError
from djserve.protocols.http2.errors import HTTP2Error

if TYPE_CHECKING:
    from djserve.conf.schema import HTTP2Config, HTTPConfig
    from djserve.protocols.http2.connection import HTTP2Connection
    from djserve.protocols.http2.stream import HTTP2Stream

# Seconds for a peer to read a last GOAWAY before its connection is closed.
LINGER_TIMEOUT = 2.0

# Seconds for the streams that were on their way when the drain began.
DRAIN_GRACE = 1.0


class StreamTimeouts:
    """Stop what waits too long on one stream: slow content, windows never opened."""

    __slots__ = ("_body_since", "_body_size", "_sent_size", "_stalled_since")

    def __init__(self) -> None:
        self._body_since: float | None = None
        self._body_size = 0
        self._sent_size = -1
        self._stalled_since = 0.0

    def check(
        self, stream: HTTP2Stream, now: float, http: HTTPConfig
    ) -> ProtocolError | None:
        """Return what is overdue at the monotonic time ``now``, if anything."""
        if self._is_stalled(stream, now, http.write_timeout):
            return HTTP2Error(
                "The client takes nothing of a response",
                ErrorCodes.ENHANCE_YOUR_CALM,
                setting="WRITE_TIMEOUT",
            )
        if not stream.is_receiving or not http.body_min_rate:
            self._body_since = None
        elif self._body_since is None:
            self._body_since = now
            self._body_size = stream.received_size
        elif now - self._body_since >= http.body_timeout:
            elapsed = now - self._body_since
            size = stream.received_size - self._body_size
            self._body_since = None
            if size < http.body_min_rate * elapsed:
                return ProtocolError(
                    "The content is too slow", 408, setting="BODY_MIN_RATE"
                )
        return None

    def _is_stalled(self, stream: HTTP2Stream, now: float, timeout: float) -> bool:
        """Whether content waits for a window that the peer does not open."""
        if not stream.queue.size or self._sent_size != stream.sent_size:
            self._sent_size = stream.sent_size
            self._stalled_since = now
            return False
        return now - self._stalled_since >= timeout


class ConnectionTimeouts:
    """Close what waits too long: silent, idle, stalled and dead peers."""

    __slots__ = (
        "_begun_at",
        "_block_since",
        "_config",
        "_connection",
        "_drain_since",
        "_ended_count",
        "_http",
        "_is_put_off",
        "_last_tick",
        "_linger_since",
        "_mark",
        "_pinged_at",
        "_silent_since",
        "_write_key",
        "_write_since",
        "idle_since",
    )

    def __init__(
        self, connection: HTTP2Connection, http: HTTPConfig, config: HTTP2Config
    ) -> None:
        self._connection = connection
        self._http = http
        self._config = config
        self._mark = -1
        self._begun_at: float | None = None
        self._last_tick = 0.0
        self._block_since: float | None = None
        self._drain_since: float | None = None
        self._ended_count = 0
        self.idle_since: float | None = None
        self._is_put_off = False
        self._linger_since: float | None = None
        self._pinged_at: float | None = None
        self._silent_since = 0.0
        self._write_key = (0, 0)
        self._write_since = 0.0

    def tick(self, now: float) -> None:
        """Act on what is overdue at the monotonic time ``now``."""
        connection = self._connection
        if self._begun_at is None:
            self._begun_at = self._silent_since = now
        else:
            connection.refill(now - self._last_tick)
        self._last_tick = now
        if self._mark != connection.mark:
            self._mark = connection.mark
            self._silent_since = now
            self._pinged_at = None
        if self._is_write_stalled(now):
            connection.abort_transport()
        elif connection.is_lingering:
            self._check_linger(now)
        else:
            self._check_drain(now)
            error = self._find_overdue(now, now - self._begun_at)
            if error is not None:
                connection.fail(error)
            else:
                self._check_idle(now)

    def _find_overdue(self, now: float, age: float) -> HTTP2Error | None:
        connection, config = self._connection, self._config
        if connection.awaits_settings and age >= config.http2_settings_timeout:
            return HTTP2Error(
                "The SETTINGS are not acknowledged", ErrorCodes.SETTINGS_TIMEOUT
            )
        if not connection.is_reading_head:
            self._block_since = None
        elif self._block_since is None:
            self._block_since = now
        elif now - self._block_since >= self._http.header_timeout:
            return HTTP2Error(
                "A request's head is late",
                ErrorCodes.ENHANCE_YOUR_CALM,
                setting="HEADER_TIMEOUT",
            )
        return self._find_dead(now)

    def _find_dead(self, now: float) -> HTTP2Error | None:
        """Ask a peer with open streams that is silent; give it up if it stays so."""
        connection, config = self._connection, self._config
        if self._pinged_at is not None:
            if now - self._pinged_at >= config.http2_ping_timeout:
                return HTTP2Error("No answer to a PING", ErrorCodes.NO_ERROR)
        elif (
            connection.has_streams
            and 0 < config.http2_ping_interval <= now - self._silent_since
        ):
            self._pinged_at = now
            connection.ping()
        return None

    def _check_idle(self, now: float) -> None:
        connection = self._connection
        if connection.has_streams:
            self.idle_since = None
            return
        if self.idle_since is None or self._ended_count != connection.ended_count:
            self._ended_count = connection.ended_count
            self.idle_since = now
            self._is_put_off = False
        limit = (
            self._http.keep_alive_timeout
            if connection.request_count
            else self._http.header_timeout
        )
        if now - self.idle_since < limit:
            return
        # Many clients fail a request that crosses with GOAWAY.
        if self._is_put_off or not connection.has_input:
            connection.close()
        self._is_put_off = True

    def _check_linger(self, now: float) -> None:
        if self._linger_since is None:
            self._linger_since = now
        elif now - self._linger_since >= LINGER_TIMEOUT:
            self._connection.close_transport()

    def _check_drain(self, now: float) -> None:
        if not self._connection.awaits_drain:
            return
        if self._drain_since is None:
            self._drain_since = now
        elif now - self._drain_since >= DRAIN_GRACE:
            self._connection.finish_drain()

    def _is_write_stalled(self, now: float) -> bool:
        """Whether the peer has taken no byte of what is buffered for too long.

        While writing is paused the buffer mostly shrinks, so an unchanged size within
        one pause means that nothing moved.
        """
        output = self._connection.output
        key = (output.pauses, output.waiting_size)
        if key != self._write_key or key[1] == 0:
            self._write_key = key
            self._write_since = now
            return False
        return now - self._write_since >= self._http.write_timeout

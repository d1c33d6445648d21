"""How an HTTP/3 connection ends, and when it is too idle to be kept.

The endings, in their order; none is left for an earlier one:

    OPEN        serves whatever comes
    ANNOUNCED   a GOAWAY has said that the end comes, without naming a last stream, and
                a PING behind it is not answered yet: streams that crossed are taken
    NAMED       a second GOAWAY has named the last stream (RFC 9114 section 5.2): later
                ones are rejected, and the connection ends with the last that is open
    LINGERING   all streams have ended, and the peer has not confirmed all bytes yet
    LOST        the connection is gone

Time comes from the server's sweep, about once a second, as in HTTP/2. What a peer that
is gone costs is bounded by QUIC's idle timeout; one that has streams open is kept alive
by a PING.
"""

from __future__ import annotations

from enum import Enum, IntEnum, auto
from typing import TYPE_CHECKING, Protocol

from djserve.protocols.limits import LINGER_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from djserve.conf.schema import HTTP2Config, HTTPConfig

# Seconds for the streams that were on their way when the drain began.
DRAIN_GRACE = 1.0

# Clients give a silent connection up after 30 seconds, many of them.
PING_INTERVAL = 15.0


class Ending(IntEnum):
    """How far a connection is on the way to its end; see above."""

    OPEN = 0
    ANNOUNCED = 1
    NAMED = 2
    LINGERING = 3
    LOST = 4


class Overdue(Enum):
    """What is due."""

    LAST_STREAM = auto()
    """The peer has had the time to send what was on its way."""
    PING = auto()
    """It has been silent for so long that it is asked."""
    REQUEST = auto()
    """It has been idle for too long."""
    END = auto()
    """It has had the time to confirm what it was sent."""


class ConnectionFacts(Protocol):
    """What a check asks of a connection beside its ending."""

    @property
    def mark(self) -> int:
        """Counts the datagrams that the peer sends."""

    @property
    def has_streams(self) -> bool: ...
    @property
    def request_count(self) -> int: ...
    @property
    def ended_count(self) -> int: ...


class ConnectionTimeouts:
    """Find what waits too long.

    ``idle_since`` is the time of the first check that found no stream, if one did.
    """

    __slots__ = (
        "_announced_at",
        "_ended_count",
        "_http",
        "_interval",
        "_last_check",
        "_linger_since",
        "_mark",
        "_silent_since",
        "idle_since",
    )

    def __init__(self, http: HTTPConfig, limits: HTTP2Config) -> None:
        self._http = http
        interval = limits.http2_ping_interval
        self._interval = min(interval, PING_INTERVAL) if interval else 0.0
        self._announced_at: float | None = None
        self._linger_since: float | None = None
        self._last_check: float | None = None
        self._mark = -1
        self._silent_since = 0.0
        self._ended_count = 0
        self.idle_since: float | None = None

    def begin(self, facts: ConnectionFacts, now: float) -> float:
        """Take the time for a check; return the seconds since the last one."""
        elapsed = 0.0 if self._last_check is None else now - self._last_check
        self._last_check = now
        if self._mark != facts.mark:
            self._mark = facts.mark
            self._silent_since = now
        return elapsed

    def check(
        self, ending: Ending, facts: ConnectionFacts, now: float
    ) -> Iterator[Overdue]:
        """Give what is overdue at the monotonic time ``now``; ``begin`` comes first."""
        if ending is Ending.LINGERING:
            if self._linger_since is None:
                self._linger_since = now
            if now - self._linger_since >= LINGER_TIMEOUT:
                yield Overdue.END
            return
        if ending is Ending.ANNOUNCED:
            if self._announced_at is None:
                self._announced_at = now
            if now - self._announced_at >= DRAIN_GRACE:
                yield Overdue.LAST_STREAM
        if facts.has_streams and 0 < self._interval <= now - self._silent_since:
            self._silent_since = now
            yield Overdue.PING
        if self._is_idle_too_long(facts, now):
            yield Overdue.REQUEST

    def _is_idle_too_long(self, facts: ConnectionFacts, now: float) -> bool:
        if facts.has_streams:
            self.idle_since = None
            return False
        if self.idle_since is None or self._ended_count != facts.ended_count:
            self._ended_count = facts.ended_count
            self.idle_since = now
        limit = (
            self._http.keep_alive_timeout
            if facts.request_count
            else self._http.header_timeout
        )
        return now - self.idle_since >= limit

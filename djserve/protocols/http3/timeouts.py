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
from typing import TYPE_CHECKING

from djserve.protocols.limits import LINGER_TIMEOUT
from djserve.protocols.multiplexed.timeouts import DRAIN_GRACE, ConnectionClock, Wait

if TYPE_CHECKING:
    from collections.abc import Iterator

    from djserve.conf.schema import HTTP2Config, HTTPConfig
    from djserve.protocols.multiplexed.timeouts import ConnectionFacts

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


class ConnectionTimeouts:
    """Find what waits too long on a connection."""

    __slots__ = ("_clock", "_grace", "_interval", "_linger")

    def __init__(self, http: HTTPConfig, limits: HTTP2Config) -> None:
        interval = limits.http2_ping_interval
        self._interval = min(interval, PING_INTERVAL) if interval else 0.0
        self._clock = ConnectionClock(http)
        self._grace = Wait()
        self._linger = Wait()

    @property
    def idle_since(self) -> float | None:
        """The time of the first check that found no stream, if one did."""
        return self._clock.idle_since

    def begin(self, facts: ConnectionFacts, now: float) -> float:
        """Take the time for a check; return the seconds since the last one."""
        return self._clock.begin(facts, now)

    def check(
        self, ending: Ending, facts: ConnectionFacts, now: float
    ) -> Iterator[Overdue]:
        """Give what is overdue at the monotonic time ``now``; ``begin`` comes first."""
        clock = self._clock
        if ending is Ending.LINGERING:
            if self._linger.is_over(now, LINGER_TIMEOUT):
                yield Overdue.END
            return
        if ending is Ending.ANNOUNCED and self._grace.is_over(now, DRAIN_GRACE):
            yield Overdue.LAST_STREAM
        if facts.has_streams and 0 < self._interval <= now - clock.silent_since:
            clock.silent_since = now
            yield Overdue.PING
        if clock.is_idle_too_long(facts, now):
            yield Overdue.REQUEST

"""How an HTTP/2 connection ends, and what is overdue on it and on its streams.

The endings, in their order; ``HTTP2Connection._enter`` is the only way from one to the
next, and none is left for an earlier one:

    OPEN        serves whatever comes
    RETIRING    is to end after a request that may be on its way
    ANNOUNCED   a GOAWAY has said that the end comes, without naming a last stream, and
                a PING behind it is not answered yet: streams that crossed are taken
    NAMED       a second GOAWAY has named the last stream (RFC 9113 section 6.8): later
                ones are ignored, and the connection ends with the last that is open
    LINGERING   all is said; what still comes is dropped, so that a reset does not
                destroy the GOAWAY before the peer has read it
    LOST        the transport is gone

    OPEN -> RETIRING -> ANNOUNCED -> NAMED -> LINGERING -> LOST

An idle connection skips ANNOUNCED; a peer's fault leads to LINGERING from anywhere.
RETIRING is there for the many clients, those on h2 among them, that fail whatever is
under way when a GOAWAY comes. To a peer that asks for one thing after the other the end
is announced when no stream is open and a PING has shown that it has read all responses;
what crosses then may safely be asked again, as GOAWAY names the last stream that was
taken. A peer with several streams at once has no such moment, so its end is announced
in the two steps as soon as it is seen to be one.

Time comes from the server's sweep, about once a second, and never from a clock: a check
compares counts with those of the last one. A timeout therefore ends up to one interval
of the sweep late, never early. The limits:

    any             the peer takes no byte of what is buffered: WRITE_TIMEOUT
    LINGERING       LINGER_TIMEOUT
    ANNOUNCED       DRAIN_GRACE, for a peer that answers no PING
    before NAMED    SETTINGS unacknowledged: HTTP2_SETTINGS_TIMEOUT; a head, or any
    and in it       frame, that has begun: HEADER_TIMEOUT; silence with open streams:
                    HTTP2_PING_INTERVAL, then HTTP2_PING_TIMEOUT; no stream at all:
                    HEADER_TIMEOUT before the first request, then KEEP_ALIVE_TIMEOUT
    a stream        content that comes too slowly: BODY_MIN_RATE over BODY_TIMEOUT;
                    content that waits for a window: WRITE_TIMEOUT

What is checked here acts on nothing: the connection and the stream table do.
"""

from __future__ import annotations

from enum import Enum, IntEnum, auto
from typing import TYPE_CHECKING, Protocol

from h2.errors import ErrorCodes

from djserve.protocols.http2.errors import HTTP2Error
from djserve.protocols.limits import LINGER_TIMEOUT
from djserve.protocols.multiplexed import timeouts
from djserve.protocols.multiplexed.timeouts import DRAIN_GRACE, ConnectionClock, Wait

if TYPE_CHECKING:
    from collections.abc import Iterator

    from djserve.conf.schema import HTTP2Config, HTTPConfig


class Ending(IntEnum):
    """How far a connection is on the way to its end; see above."""

    OPEN = 0
    RETIRING = 1
    ANNOUNCED = 2
    NAMED = 3
    LINGERING = 4
    LOST = 5


class Overdue(Enum):
    """What is due apart from the peer's faults."""

    READING = auto()
    """The peer takes nothing of what is buffered."""
    END = auto()
    """It has had the time to read the last GOAWAY."""
    LAST_STREAM = auto()
    """It has had the time to send what was on its way."""
    PING = auto()
    """It has been silent for so long that it is asked."""
    REQUEST = auto()
    """It has been idle for too long."""


class ConnectionFacts(timeouts.ConnectionFacts, Protocol):
    """What a check asks of a connection in addition to its ending."""

    @property
    def pauses(self) -> int:
        """How often the transport was full."""

    @property
    def waiting_size(self) -> int:
        """The bytes that the transport has not yet sent."""

    @property
    def awaits_settings(self) -> bool:
        """Whether our SETTINGS are not acknowledged yet."""

    @property
    def is_reading_head(self) -> bool:
        """Whether a part of a request's head, or of any frame, has come."""

    @property
    def has_input(self) -> bool:
        """Whether the peer has sent what has not come up yet."""


class ConnectionTimeouts:
    """Find silent, idle, stalled and dead peers."""

    __slots__ = (
        "_clock",
        "_config",
        "_grace",
        "_http",
        "_linger",
        "_pinged_at",
        "_put_off",
        "_reading_head",
        "_write_key",
        "_write_since",
    )

    def __init__(self, http: HTTPConfig, config: HTTP2Config) -> None:
        self._http = http
        self._config = config
        self._clock = ConnectionClock(http)
        self._reading_head = Wait()
        self._grace = Wait()
        self._linger = Wait()
        # The idle time whose end was put off once: the one that began then.
        self._put_off: float | None = None
        self._pinged_at: float | None = None
        self._write_key = (0, 0)
        self._write_since = 0.0

    @property
    def idle_since(self) -> float | None:
        """The time of the first check that found no stream, if one did."""
        return self._clock.idle_since

    def begin(self, facts: ConnectionFacts, now: float) -> float:
        """Take the time for a check; return the seconds since the last one."""
        elapsed = self._clock.begin(facts, now)
        if self._clock.silent_since == now:
            self._pinged_at = None
        return elapsed

    def check(
        self, ending: Ending, facts: ConnectionFacts, now: float
    ) -> Iterator[Overdue | HTTP2Error]:
        """Give what is overdue at the monotonic time ``now``, in seconds.

        ``begin`` comes first. Each is to be acted on before the next is asked for; an
        HTTP2Error, which is a fault of the peer's, is the last.
        """
        if self._is_write_stalled(facts, now):
            yield Overdue.READING
        elif ending >= Ending.LINGERING:
            if self._linger.is_over(now, LINGER_TIMEOUT):
                yield Overdue.END
        else:
            if ending is Ending.ANNOUNCED and self._grace.is_over(now, DRAIN_GRACE):
                yield Overdue.LAST_STREAM
            error = self._find_late(facts, now) or self._find_dead(now)
            if error is not None:
                yield error
                return
            if self._is_ping_due(facts, now):
                yield Overdue.PING
            if self._is_idle_too_long(facts, now):
                yield Overdue.REQUEST

    def _find_late(self, facts: ConnectionFacts, now: float) -> HTTP2Error | None:
        timeout = self._config.http2_settings_timeout
        if facts.awaits_settings and self._clock.age >= timeout:
            return HTTP2Error(
                "The SETTINGS are not acknowledged", ErrorCodes.SETTINGS_TIMEOUT
            )
        if not facts.is_reading_head:
            self._reading_head.stop()
        elif self._reading_head.is_over(now, self._http.header_timeout):
            return HTTP2Error(
                "A request's head is late",
                ErrorCodes.ENHANCE_YOUR_CALM,
                setting="HEADER_TIMEOUT",
            )
        return None

    def _find_dead(self, now: float) -> HTTP2Error | None:
        if self._pinged_at is None:
            return None
        if now - self._pinged_at < self._config.http2_ping_timeout:
            return None
        return HTTP2Error("No answer to a PING", ErrorCodes.NO_ERROR)

    def _is_ping_due(self, facts: ConnectionFacts, now: float) -> bool:
        """Return whether a peer with open streams has been silent for long."""
        if self._pinged_at is not None or not facts.has_streams:
            return False
        if not 0 < self._config.http2_ping_interval <= now - self._clock.silent_since:
            return False
        self._pinged_at = now
        return True

    def _is_idle_too_long(self, facts: ConnectionFacts, now: float) -> bool:
        """Return whether to end; put off once if the peer has sent what is unread.

        Many clients fail a request that crosses with GOAWAY.
        """
        if not self._clock.is_idle_too_long(facts, now):
            return False
        was_put_off = self._put_off == self.idle_since
        self._put_off = self.idle_since
        return was_put_off or not facts.has_input

    def _is_write_stalled(self, facts: ConnectionFacts, now: float) -> bool:
        """Return whether the peer has taken no byte of what is buffered for too long.

        While writing is paused the buffer mostly shrinks, so an unchanged size within
        one pause means that nothing moved.
        """
        key = (facts.pauses, facts.waiting_size)
        if key != self._write_key or key[1] == 0:
            self._write_key = key
            self._write_since = now
            return False
        return now - self._write_since >= self._http.write_timeout

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

from djserve.errors import ProtocolError
from djserve.protocols.http2.errors import HTTP2Error
from djserve.protocols.limits import LINGER_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from djserve.conf.schema import HTTP2Config, HTTPConfig

# Seconds for the streams that were on their way when the drain began.
DRAIN_GRACE = 1.0


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


class StreamFacts(Protocol):
    """What a check asks of a stream."""

    @property
    def is_receiving(self) -> bool:
        """Whether the peer is expected to send content now."""

    @property
    def received_size(self) -> int: ...
    @property
    def sent_size(self) -> int: ...
    @property
    def waiting_size(self) -> int:
        """Bytes of content that wait for the windows."""


class ConnectionFacts(Protocol):
    """What a check asks of a connection in addition to its ending."""

    @property
    def mark(self) -> int:
        """Counts the chunks that the peer sends."""

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
    def has_streams(self) -> bool: ...
    @property
    def has_input(self) -> bool:
        """Whether the peer has sent what has not come up yet."""

    @property
    def request_count(self) -> int: ...
    @property
    def ended_count(self) -> int:
        """How many streams have ended."""


class StreamTimeouts:
    """Find what waits too long on one stream: slow content, windows never opened."""

    __slots__ = ("_body_since", "_body_size", "_sent_size", "_stalled_since")

    def __init__(self) -> None:
        self._body_since: float | None = None
        self._body_size = 0
        self._sent_size = -1
        self._stalled_since = 0.0

    def check(
        self, stream: StreamFacts, now: float, http: HTTPConfig
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

    def _is_stalled(self, stream: StreamFacts, now: float, timeout: float) -> bool:
        """Return whether content waits for a window that the peer does not open."""
        if not stream.waiting_size or self._sent_size != stream.sent_size:
            self._sent_size = stream.sent_size
            self._stalled_since = now
            return False
        return now - self._stalled_since >= timeout


class ConnectionTimeouts:
    """Find what waits too long on a connection: silent, idle, stalled and dead peers.

    ``idle_since`` is the time of the first check that found no stream, if one did.
    """

    __slots__ = (
        "_announced_at",
        "_begun_at",
        "_block_since",
        "_config",
        "_ended_count",
        "_http",
        "_is_put_off",
        "_last_check",
        "_linger_since",
        "_mark",
        "_pinged_at",
        "_silent_since",
        "_write_key",
        "_write_since",
        "idle_since",
    )

    def __init__(self, http: HTTPConfig, config: HTTP2Config) -> None:
        self._http = http
        self._config = config
        self._mark = -1
        self._begun_at: float | None = None
        self._last_check = 0.0
        self._block_since: float | None = None
        self._announced_at: float | None = None
        self._ended_count = 0
        self.idle_since: float | None = None
        self._is_put_off = False
        self._linger_since: float | None = None
        self._pinged_at: float | None = None
        self._silent_since = 0.0
        self._write_key = (0, 0)
        self._write_since = 0.0

    def begin(self, facts: ConnectionFacts, now: float) -> float:
        """Take the time for a check; return the seconds since the last one."""
        elapsed = 0.0
        if self._begun_at is None:
            self._begun_at = self._silent_since = now
        else:
            elapsed = now - self._last_check
        self._last_check = now
        if self._mark != facts.mark:
            self._mark = facts.mark
            self._silent_since = now
            self._pinged_at = None
        return elapsed

    def check(
        self, ending: Ending, facts: ConnectionFacts, now: float
    ) -> Iterator[Overdue | HTTP2Error]:
        """Give what is overdue at the monotonic time ``now``, in seconds.

        ``begin`` comes first. Each is to be acted on before the next is asked for; an
        HTTP2Error, which is a fault of the peer's, is the last.
        """
        assert self._begun_at is not None
        if self._is_write_stalled(facts, now):
            yield Overdue.READING
        elif ending >= Ending.LINGERING:
            if self._is_lingering_over(now):
                yield Overdue.END
        else:
            if ending is Ending.ANNOUNCED and self._is_grace_over(now):
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
        assert self._begun_at is not None
        age = now - self._begun_at
        if facts.awaits_settings and age >= self._config.http2_settings_timeout:
            return HTTP2Error(
                "The SETTINGS are not acknowledged", ErrorCodes.SETTINGS_TIMEOUT
            )
        if not facts.is_reading_head:
            self._block_since = None
        elif self._block_since is None:
            self._block_since = now
        elif now - self._block_since >= self._http.header_timeout:
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
        if not 0 < self._config.http2_ping_interval <= now - self._silent_since:
            return False
        self._pinged_at = now
        return True

    def _is_idle_too_long(self, facts: ConnectionFacts, now: float) -> bool:
        if facts.has_streams:
            self.idle_since = None
            return False
        if self.idle_since is None or self._ended_count != facts.ended_count:
            self._ended_count = facts.ended_count
            self.idle_since = now
            self._is_put_off = False
        limit = (
            self._http.keep_alive_timeout
            if facts.request_count
            else self._http.header_timeout
        )
        if now - self.idle_since < limit:
            return False
        # Many clients fail a request that crosses with GOAWAY.
        was_put_off, self._is_put_off = self._is_put_off, True
        return was_put_off or not facts.has_input

    def _is_lingering_over(self, now: float) -> bool:
        if self._linger_since is None:
            self._linger_since = now
        return now - self._linger_since >= LINGER_TIMEOUT

    def _is_grace_over(self, now: float) -> bool:
        if self._announced_at is None:
            self._announced_at = now
        return now - self._announced_at >= DRAIN_GRACE

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

"""What is overdue on a connection of streams, or on one stream, in either protocol.

Time comes from the server's sweep, about once a second, and never from a clock: a check
compares counts with those of the last one. A timeout therefore ends up to one interval
of the sweep late, never early.
"""

# Why counts and not times
#
# Nothing on a request's way reads a clock or starts a timer: both cost more than what
# they guard, and most timers are cancelled unused. The sweep looks at each connection
# about once a second instead, and sees progress as a count that has changed since the
# last look: bytes that came, bytes that were sent, chunks, streams that ended. So the
# work of a timeout is done by the sweep alone, and costs a connection the same whether
# it carries one request a minute or ten thousand a second.
#
# What it gives up is precision, in one direction: something that began right after a
# look is seen a second later, and its time runs from there. No peer is cut off early.

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from djserve.errors import ProtocolError

if TYPE_CHECKING:
    from djserve.conf.schema import HTTPConfig

# Seconds for the streams that were on their way when the drain began.
DRAIN_GRACE = 1.0


class ResponseStalled(ProtocolError):
    """The peer opens no window for a response: its stream is reset."""


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
    """What a check asks of a connection in either protocol."""

    @property
    def mark(self) -> int:
        """Counts what the peer sends: chunks, or datagrams."""

    @property
    def has_streams(self) -> bool: ...
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
            return ResponseStalled(
                "The client takes nothing of a response", setting="WRITE_TIMEOUT"
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


class Wait:
    """How long a state has lasted, from the first check that found it."""

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since: float | None = None

    def is_over(self, now: float, limit: float) -> bool:
        """Return whether it has lasted ``limit`` seconds; the first call starts it."""
        if self._since is None:
            self._since = now
        return now - self._since >= limit

    def stop(self) -> None:
        """Let the next call start it again."""
        self._since = None


class ConnectionClock:
    """Count the time of one connection: its checks, its silence, its idleness.

    ``idle_since`` is the time of the first check that found no stream, if one did.
    """

    __slots__ = (
        "_begun_at",
        "_ended_count",
        "_http",
        "_last_check",
        "_mark",
        "idle_since",
        "silent_since",
    )

    def __init__(self, http: HTTPConfig) -> None:
        self._http = http
        self._begun_at: float | None = None
        self._last_check = 0.0
        self._mark = -1
        self._ended_count = 0
        self.silent_since = 0.0
        self.idle_since: float | None = None

    def begin(self, facts: ConnectionFacts, now: float) -> float:
        """Take the time for a check; return the seconds since the last one."""
        elapsed = 0.0
        if self._begun_at is None:
            self._begun_at = now
        else:
            elapsed = now - self._last_check
        self._last_check = now
        if self._mark != facts.mark:
            self._mark = facts.mark
            self.silent_since = now
        return elapsed

    @property
    def age(self) -> float:
        """Seconds from the first check to the last."""
        return 0.0 if self._begun_at is None else self._last_check - self._begun_at

    def is_idle_too_long(self, facts: ConnectionFacts, now: float) -> bool:
        """Return whether there has been no stream for longer than a setting allows.

        A stream that came and went between two checks starts the time again.
        """
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

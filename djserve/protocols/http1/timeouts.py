"""The states of an HTTP/1.1 connection, and what is overdue in each of them.

A connection is always in one of nine states, and ``HTTP1Connection._enter`` is the only
way into them:

    IDLE                nothing of a request has come, or one byte at most: that may be
                        the first half of an empty line, which a peer may send at any
                        time (RFC 9112 section 2.2) and which must not keep a connection
    READING_HEAD        a part of a request head has come
    AWAITING_CONTINUE   an exchange runs; the client holds the content back until it
                        sees 100 Continue (RFC 9110 section 10.1.1)
    RECEIVING           an exchange runs and its content is coming
    ANSWERING           an exchange runs and its request is complete
    DISCARDING          the response is complete, the content is not: what still comes
                        of it is dropped, then the next request may follow
    LINGERING           we have ended our side; the peer's last bytes are dropped until
                        it closes too (RFC 9112 section 9.6)
    UPGRADED            the bytes are another protocol's
    CLOSED              the transport is gone; nothing leaves this state

    IDLE <-> READING_HEAD -> AWAITING_CONTINUE -> RECEIVING -> ANSWERING -> IDLE
                                                      \\-> DISCARDING -> IDLE
    any but CLOSED -> LINGERING -> CLOSED, AWAITING_CONTINUE to ANSWERING -> UPGRADED

What the peer sends ahead while an exchange runs is held, and starts the next request
once the state is IDLE again. A peer that does not read the last response gets no
further one: the state is IDLE, but nothing is taken while ``is_writable`` is False.

Time comes from the server's sweep, about once a second, and never from a clock. Each
change of state adds one to the connection's ``mark``; a ``check`` that finds the mark
changed only takes the time. So the path of a request costs an addition, and a timeout
ends up to one interval of the sweep late, never early. Each state has its limit:

    any                 the peer takes no byte of what is buffered: WRITE_TIMEOUT
    IDLE                HEADER_TIMEOUT before the first request, then KEEP_ALIVE_TIMEOUT
    READING_HEAD        HEADER_TIMEOUT from the first bytes, however they trickle
    RECEIVING,          BODY_MIN_RATE over each BODY_TIMEOUT, but not while reading is
    DISCARDING          paused: then it is the application that is slow
    LINGERING           LINGER_TIMEOUT

The others have none here: they wait for the application, whose own limit is the
exchange's, or for the protocol switched to, which is handed the ticks.
"""

from __future__ import annotations

from enum import Enum, IntEnum, auto
from typing import TYPE_CHECKING, ClassVar, Protocol

from djserve.protocols.limits import LINGER_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable

    from djserve.conf.schema import HTTPConfig


class ConnectionState(IntEnum):
    """What a connection waits for; see above."""

    IDLE = 0
    READING_HEAD = 1
    AWAITING_CONTINUE = 2
    RECEIVING = 3
    ANSWERING = 4
    DISCARDING = 5
    LINGERING = 6
    UPGRADED = 7
    CLOSED = 8


class Overdue(Enum):
    """What a peer is too late with."""

    READING = auto()
    """It reads nothing of what is buffered for it."""
    REQUEST = auto()
    """It has been idle for too long."""
    HEAD = auto()
    CONTENT = auto()
    END = auto()
    """It has had the time to read the last response."""


class Facts(Protocol):
    """What a check asks of the connection in addition to its state."""

    @property
    def mark(self) -> int:
        """Counts the changes of what the connection waits for."""

    @property
    def pauses(self) -> int:
        """How often the transport was full."""

    @property
    def request_count(self) -> int: ...
    @property
    def body_size(self) -> int:
        """Bytes of the request's content that have come, framing included."""

    @property
    def is_writable(self) -> bool: ...
    @property
    def is_reading_paused(self) -> bool: ...
    @property
    def is_put_off(self) -> bool:
        """Whether an idle connection was to end, and ends with the next check."""

    def get_write_buffer_size(self) -> int: ...


class HTTP1Timeouts:
    """Find silent, idle, trickling and stalled peers.

    It keeps the times alone, and acts on nothing. Each check is handed the connection's
    facts: a reference to it would be a cycle, which only the garbage collector ends
    (benchmark: http1_new).
    """

    __slots__ = (
        "_body_since",
        "_body_size",
        "_config",
        "_mark",
        "_since",
        "_write_key",
        "_write_since",
    )

    def __init__(self, config: HTTPConfig) -> None:
        self._config = config
        self._mark = -1
        self._since = 0.0
        self._body_size = 0
        self._body_since = 0.0
        self._write_key = (0, 0)
        self._write_since = 0.0

    def check(self, state: ConnectionState, facts: Facts, now: float) -> Overdue | None:
        """Return what is overdue at the monotonic time ``now``, in seconds."""
        if self._is_write_stalled(facts, now):
            return Overdue.READING
        if self._mark != facts.mark:
            self._mark = facts.mark
            self._since = now
            self._restart_body(facts, now)
            return None
        check = self._CHECKS.get(state)
        return None if check is None else check(self, facts, now)

    def quiet_since(self, mark: int) -> float | None:
        """Return since when nothing has changed; None if it has since a check."""
        return self._since if self._mark == mark else None

    def _check_idle(self, facts: Facts, now: float) -> Overdue | None:
        if not facts.is_writable:
            # Its response is still to be read, in the time of the write timeout.
            return None
        config = self._config
        limit = (
            config.keep_alive_timeout if facts.request_count else config.header_timeout
        )
        is_overdue = facts.is_put_off or now - self._since >= limit
        return Overdue.REQUEST if is_overdue else None

    def _check_head(self, facts: Facts, now: float) -> Overdue | None:
        is_overdue = (
            facts.is_writable and now - self._since >= self._config.header_timeout
        )
        return Overdue.HEAD if is_overdue else None

    def _check_body(self, facts: Facts, now: float) -> Overdue | None:
        if facts.is_reading_paused:
            self._restart_body(facts, now)
            return None
        elapsed = now - self._body_since
        if elapsed < self._config.body_timeout:
            return None
        received = facts.body_size - self._body_size
        self._restart_body(facts, now)
        is_slow = received < self._config.body_min_rate * elapsed
        return Overdue.CONTENT if is_slow else None

    def _check_linger(self, facts: Facts, now: float) -> Overdue | None:
        return Overdue.END if now - self._since >= LINGER_TIMEOUT else None

    def _restart_body(self, facts: Facts, now: float) -> None:
        self._body_since = now
        self._body_size = facts.body_size

    _CHECKS: ClassVar[
        dict[
            ConnectionState,
            Callable[[HTTP1Timeouts, Facts, float], Overdue | None],
        ]
    ] = {
        ConnectionState.IDLE: _check_idle,
        ConnectionState.READING_HEAD: _check_head,
        ConnectionState.RECEIVING: _check_body,
        ConnectionState.DISCARDING: _check_body,
        ConnectionState.LINGERING: _check_linger,
    }

    def _is_write_stalled(self, facts: Facts, now: float) -> bool:
        """Return whether the peer has taken no byte of what is buffered for too long.

        The buffer only shrinks while writing is paused, so an unchanged size within one
        pause means that nothing moved.
        """
        key = (facts.pauses, facts.get_write_buffer_size())
        if key != self._write_key or key[1] == 0:
            self._write_key = key
            self._write_since = now
            return False
        return now - self._write_since >= self._config.write_timeout

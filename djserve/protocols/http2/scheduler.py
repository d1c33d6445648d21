"""Who sends next: streams with data by urgency, and those of one urgency in turns.

RFC 9218 section 10 leaves the algorithm to the server. Taken literally, one long
download would keep every later response of its urgency waiting, and all of lower
urgency; here none waits for ever:

- A non-incremental stream goes first in its urgency until it is complete or has had
  its long turn. From then on it lets all shorter ones by, and shares frame by frame
  with others like it. Small responses fit in one turn: they are sent whole, in order,
  and at once however many downloads go on beside them.
- An incremental stream's turn is one frame.
- Every few turns the next lower level (a later urgency, or the long ones of the same)
  with anything to send gets one.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from djserve.protocols.http2.responder import Responder

# Bytes that a response may have sent and still be a short one.
LONG_TURN = 128 * 1024

# Of so many turns, one goes to a lower level.
COURTESY_INTERVAL = 8

# Each urgency has two levels: the short ones, then the long ones.
_LEVELS = 16


class Scheduler:
    """Keep the streams that have something to send and may send it."""

    __slots__ = ("_levels", "_queues", "_turns")

    def __init__(self) -> None:
        self._queues: list[deque[Responder]] = [deque() for _ in range(_LEVELS)]
        # A bit for each level that has a stream (benchmark: http2_mixed_download).
        self._levels = 0
        self._turns = 0

    def __bool__(self) -> bool:
        return self._levels > 0

    @property
    def has_one(self) -> bool:
        """Whether a single stream is queued."""
        levels = self._levels
        return not levels & (levels - 1) and (
            len(self._queues[levels.bit_length() - 1]) == 1
        )

    def add(self, stream: Responder) -> None:
        """Put a stream last of its level; nothing happens if it is queued."""
        if stream.level is None:
            stream.level = _level_of(stream)
            self._queues[stream.level].append(stream)
            self._levels |= 1 << stream.level

    def discard(self, stream: Responder) -> None:
        """Take a stream out, wherever it stands."""
        if stream.level is not None:
            queue = self._queues[stream.level]
            queue.remove(stream)
            if not queue:
                self._levels ^= 1 << stream.level
            stream.level = None

    def next(self) -> Responder:
        """Return the stream whose turn it is; it stays queued. There must be one."""
        self._turns += 1
        highest = self._levels & -self._levels
        lower_levels = self._levels ^ highest
        if lower_levels and self._turns % COURTESY_INTERVAL == 0:
            # The courtesy goes round among the lower levels.
            waiting = [queue for queue in self._queues if queue]
            lower = self._turns // COURTESY_INTERVAL % (len(waiting) - 1)
            return waiting[1 + lower][0]
        return self._queues[highest.bit_length() - 1][0]

    def sent(self, stream: Responder) -> None:
        """Note that a queued stream sent a frame and has more to send."""
        if stream.priority.incremental or stream.sent_size >= LONG_TURN:
            level = _level_of(stream)
            if level != stream.level or len(self._queues[level]) > 1:
                self.discard(stream)
                self.add(stream)


def _level_of(stream: Responder) -> int:
    return stream.priority.urgency * 2 + (stream.sent_size >= LONG_TURN)

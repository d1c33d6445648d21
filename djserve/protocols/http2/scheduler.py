"""Who sends next: streams with data by urgency, and those of one urgency in turns.

RFC 9218 section 10 leaves the algorithm to the server. Taken literally, one long
download would keep every later response of its urgency waiting, and all of lower
urgency; here none waits for ever:

- A non-incremental stream goes first in its urgency until it is complete or has had a
  long turn; then the others get theirs. Small responses fit in one turn, so they are
  sent whole and in order.
- An incremental stream's turn is one frame.
- Every few turns the next lower urgency with anything to send gets one.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from djserve.protocols.http2.responder import Responder

# Bytes in a non-incremental stream's turn.
LONG_TURN = 128 * 1024

# Of so many turns, one goes to a lower urgency.
COURTESY_INTERVAL = 8


class Scheduler:
    """Keep the streams that have something to send and may send it."""

    __slots__ = ("_queues", "_turns")

    def __init__(self) -> None:
        self._queues: list[deque[Responder]] = [deque() for _ in range(8)]
        self._turns = 0

    def __bool__(self) -> bool:
        return any(self._queues)

    def add(self, stream: Responder) -> None:
        """Put a stream last of its urgency; nothing happens if it is queued."""
        if not stream.is_queued:
            stream.is_queued = True
            stream.turn = 0
            self._queues[stream.priority.urgency].append(stream)

    def discard(self, stream: Responder) -> None:
        """Take a stream out, wherever it stands."""
        if stream.is_queued:
            stream.is_queued = False
            self._queues[stream.priority.urgency].remove(stream)

    def next(self) -> Responder:
        """Return the stream whose turn it is; it stays queued. There must be one."""
        self._turns += 1
        waiting = [queue for queue in self._queues if queue]
        if len(waiting) > 1 and self._turns % COURTESY_INTERVAL == 0:
            # The courtesy goes round among the lower urgencies.
            lower = self._turns // COURTESY_INTERVAL % (len(waiting) - 1)
            return waiting[1 + lower][0]
        return waiting[0][0]

    def sent(self, stream: Responder, size: int) -> None:
        """Note that a queued stream sent a frame and has more to send."""
        stream.turn += size
        if stream.priority.incremental or stream.turn >= LONG_TURN:
            stream.turn = 0
            queue = self._queues[stream.priority.urgency]
            if queue[0] is stream:
                queue.rotate(-1)

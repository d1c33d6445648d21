"""Connections whose peer has sent what takes long to read, and who is read on next.

A loop hands on all that a peer has sent, up to 8 MB in one turn (uvloop), and that may
be a million chunks or frames of one byte. A connection reads a few milliseconds' worth
of such; for the rest it waits here, and one that waits is read on in each turn, however
many there are, so that all other connections are served in between.
"""

# Why reading takes turns
#
# The loop calls a connection with what the system had for it, and does not return to
# the others before that call does. A peer chooses what is in it. Six kilobytes can be
# one piece of content or a thousand chunks of one byte, and the second costs many times
# as much (RFC 9112 section 7.1 sets no least size, nor does HTTP/2 for its frames). So
# there are two bounds: bytes are bounded by back-pressure, and work is bounded by this
# queue.
#
# A connection counts what it does by its own measure, stops at a bound of a few
# milliseconds, keeps the rest, pauses its transport and calls ``wait``. Pausing
# matters: the rest would grow otherwise while it waits.
#
# One connection is read on in each turn of the loop, and not all that wait. The others
# served in a turn then wait for one such piece of work at the most, however many peers
# send in this way; those peers share what is left, each in its order. A thousand of
# them are slow together, and no one else is slowed by more than one of them.

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class ReadingQueue:
    """The connections of one loop that wait to be read on."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_scheduled = False

    def wait(self, proceed: Callable[[], None]) -> None:
        """Have ``proceed`` called in a later turn, behind those that wait already."""
        self._waiting.append(proceed)
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._is_scheduled:
            self._is_scheduled = True
            self._call_soon(self._begin)

    def _begin(self) -> None:
        self._is_scheduled = False
        proceed = self._waiting.popleft()
        # First, so that a fault in one leaves the others their turn.
        self._schedule()
        proceed()

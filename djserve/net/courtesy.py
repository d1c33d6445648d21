"""Connections that come at the same time, shared with the other workers of a socket.

The kernel wakes all workers that wait for a socket, and a connection is the first one's
to accept. On a machine with little to do that is the one that is awake already: it came
to nine of ten connections of a burst (``benchmarks.workers_fairness``), which it then
kept. A socket for each worker would spread them, but those that wait in the queue of
one that is blocked, or ends, would wait with it or be lost.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_NAP = 0.00005
"""Seconds; the kernel makes twice that of it. Another worker needs less to be awake."""

_WINDOW = 0.25

# Of the connections that a worker has, what it may take more without a nap. So ten
# thousand that stay cost a hundred naps.
_SHARE = 16


class Courtesy:
    """Let others accept while this process has more connections than it had lately.

    ``count_held`` returns how many it has. Connections that end soon after leave their
    number as it is, and cost no nap: a few in each quarter of a second, which is how
    long the largest number counts.
    """

    __slots__ = ("_clock", "_count_held", "_ends_at", "_most", "_sleep")

    def __init__(
        self,
        count_held: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._count_held = count_held
        self._clock = clock
        self._sleep = sleep
        self._most = 0
        self._ends_at = 0.0

    def connection_accepted(self) -> None:
        """Note one more connection, before it is among those held."""
        now = self._clock()
        count = self._count_held() + 1
        if now >= self._ends_at:
            self._ends_at = now + _WINDOW
            self._most = count
        elif count > self._most:
            self._most = count + count // _SHARE
            # libfaketime makes it raise when the clock jumps. It is a courtesy, and the
            # connection must be served.
            with suppress(OSError):
                self._sleep(_NAP)

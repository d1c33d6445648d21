"""Every timeout on one clock: a sweep over what waits, not a timer for each."""

# Why a sweep and no timers
#
# A request would start a timer for its head, one for its content, one for the response
# and one for keep-alive, and cancel nearly all of them: two operations on the loop's
# heap each, and a reading of the clock, for something that almost never happens. Here a
# request changes a counter that the protocols have anyway (``mark``), and once in an
# interval all connections are asked. What has not changed since the last time is what
# is late.
#
# The price is precision: a timeout ends up to one interval late, never early. The
# interval is a quarter of the shortest timeout, and at most a second, so a limit of a
# minute is kept to within two per cent.
#
# Time that the loop did not run is not the peer's. If the process was stopped, or a
# callback has blocked the loop, then all deadlines would be over at once, with the
# bytes that prove the peers alive still in the kernel's buffers. Such a gap counts as
# one interval, and the sweep is put off for some turns, in which the loop reads what
# has come in the meantime.

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from djserve.interfaces import Ticking

logger = logging.getLogger("djserve.error")

# Seconds between sweeps: the most that a timeout may be late, unless it is so short
# that a quarter of it is less.
LONGEST_INTERVAL = 1.0
SHORTEST_INTERVAL = 0.02


def choose_interval(timeouts: Iterable[float | None]) -> float:
    """Return the seconds between sweeps that suit the shortest timeout."""
    shortest = min((value for value in timeouts if value), default=LONGEST_INTERVAL)
    return min(LONGEST_INTERVAL, max(SHORTEST_INTERVAL, shortest / 4))


# Turns of the loop for what has arrived meanwhile: TLS and HTTP/2 need some.
SETTLING_TURNS = 5


class Sweep:
    """Call ``tick`` of all that ``targets`` returns, once in ``interval`` seconds.

    ``clock`` is monotonic, in seconds. A time for which the loop was blocked, or the
    process was stopped, counts as one interval: no peer could be heard in it. What one
    target raises is logged and does not keep the others from their turn.
    """

    def __init__(
        self,
        targets: Callable[[], Iterable[Ticking]],
        interval: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._targets = targets
        self._interval = interval
        self._clock = clock
        self._handle: asyncio.TimerHandle | None = None
        self._swept_at: float | None = None
        self._blocked = 0.0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Sweep from now on, until ``stop``."""

        def sweep() -> None:
            self._handle = loop.call_later(self._interval, sweep)
            if self._was_blocked():
                settle(SETTLING_TURNS)
            else:
                self.run()

        def settle(turns: int) -> None:
            if turns:
                loop.call_soon(settle, turns - 1)
            elif self._handle is not None:
                self.run()

        sweep()

    def _was_blocked(self) -> bool:
        """Take the time since the last sweep; return whether it came far too late."""
        now = self._clock()
        gap = 0.0 if self._swept_at is None else now - self._swept_at
        self._swept_at = now
        if gap <= 2 * self._interval:
            return False
        self._blocked += gap - self._interval
        return True

    def stop(self) -> None:
        """Sweep no more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def run(self) -> None:
        """Sweep once."""
        now = self._clock() - self._blocked
        for target in list(self._targets()):
            try:
                target.tick(now)
            except Exception:
                logger.exception("A timeout check failed for %r", target)

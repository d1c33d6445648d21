"""Every timeout on one clock: a sweep over what waits, not a timer for each."""

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


class Sweep:
    """Call ``tick`` of all that ``targets`` returns, once in ``interval`` seconds.

    ``clock`` is monotonic, in seconds. What one target raises is logged and does not
    keep the others from their turn.
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

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Sweep from now on, until ``stop``."""

        def sweep() -> None:
            self._handle = loop.call_later(self._interval, sweep)
            self.run()

        sweep()

    def stop(self) -> None:
        """Sweep no more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def run(self) -> None:
        """Sweep once."""
        now = self._clock()
        for target in list(self._targets()):
            try:
                target.tick(now)
            except Exception:
                logger.exception("A timeout check failed for %r", target)

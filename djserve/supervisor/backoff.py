"""When a worker that ended by itself may be started again."""

from __future__ import annotations

SHORT_LIFE = 1.0
"""Seconds: a worker that served for longer is replaced at once."""

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
STORM_COUNT = 5
"""Short lives in a row that are called a storm in the log."""


class Backoff:
    """Delays that double with each worker that does not live, up to half a minute.

    A crash of a worker that has served costs no delay: the others need it back. Only
    an application that cannot start, or dies at once, is held back.
    """

    def __init__(self) -> None:
        self._short_lives = 0
        self._next_start = 0.0

    @property
    def is_storm(self) -> bool:
        """Whether workers have kept on ending at once."""
        return self._short_lives >= STORM_COUNT

    def worker_ended(self, served: float, now: float) -> float:
        """Note an unexpected end after ``served`` seconds; return the delay."""
        if served > SHORT_LIFE:
            self._short_lives = 0
            return 0.0
        delay: float = min(LONGEST_DELAY, FIRST_DELAY * 2**self._short_lives)
        self._short_lives += 1
        self._next_start = now + delay
        return delay

    def wait(self, now: float) -> float:
        """Return the seconds until the next start is allowed, 0 where it is now."""
        return max(0.0, self._next_start - now)

    def reset(self) -> None:
        """Forget the past: the operator has brought new code."""
        self._short_lives = 0
        self._next_start = 0.0

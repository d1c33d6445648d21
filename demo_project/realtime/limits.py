"""How often one connection, or one person, may do something."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable


class TokenBucket:
    """Allow ``burst`` uses at once and ``rate`` a second after that."""

    __slots__ = ("_burst", "_clock", "_filled_at", "_rate", "_tokens")

    def __init__(
        self,
        burst: float,
        rate: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._burst = burst
        self._rate = rate
        self._clock = clock
        self._tokens = burst
        self._filled_at = clock()

    def take(self) -> bool:
        """Use one token; False where none is left."""
        now = self._clock()
        gained = (now - self._filled_at) * self._rate
        self._tokens = min(self._burst, self._tokens + gained)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    @property
    def is_full(self) -> bool:
        """Whether it is as good as a new one."""
        gained = (self._clock() - self._filled_at) * self._rate
        return self._tokens + gained >= self._burst


class SharedBuckets:
    """A bucket for each person, over all connections of this process.

    Another tab is no way around a limit. With several workers each has its own.
    """

    def __init__(self, burst: float, rate: float, keep: int = 1000) -> None:
        self._burst = burst
        self._rate = rate
        self._keep = keep
        self._buckets: dict[Hashable, TokenBucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, whose: Hashable) -> bool:
        """Use a token of somebody's; False if none is left."""
        bucket = self._buckets.get(whose)
        if bucket is None:
            if len(self._buckets) >= self._keep:
                self._drop_full()
            bucket = self._buckets[whose] = TokenBucket(self._burst, self._rate)
        return bucket.take()

    def clear(self) -> None:
        """Forget what was used."""
        self._buckets.clear()

    def _drop_full(self) -> None:
        used = {key: one for key, one in self._buckets.items() if not one.is_full}
        # Twice as many next time, if so many are in use: else each would look at all.
        self._keep = max(self._keep, 2 * len(used))
        self._buckets = used

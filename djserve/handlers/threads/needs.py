"""Which views ask for a database's connection early, and have run short of it.

A job that has begun is bound to its thread, and so is a connection. If it then waits
for one, what another thread has open must be closed for it, and opened again here. A
job that stays in the queue instead begins in the thread whose connection comes free.
So the jobs of such views begin only while there is a connection for them.

What a view does is learnt from its jobs, and forgotten when they do so no more. One
that is late to ask is not held back: it waits for something else first, and others may
do so at the same time. Knows neither the threads nor the database.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

EARLY = 0.5
"""Up to this share of a job's time, its first query is an early one."""

CERTAIN = 8
"""Jobs that do without, one after the other, until a view is forgotten, at most."""


@dataclass(slots=True)
class Use:
    """A job's first use of a connection, or the last that it has waited for."""

    alias: str
    limit: int
    """How many connections there may be."""
    asked_at: float
    waited: float = 0.0
    """Seconds."""


@dataclass(slots=True)
class _Need:
    alias: str
    limit: int
    certainty: int = CERTAIN // 2


class Needs:
    """What is known of views; one of them gets ``share`` of the connections."""

    def __init__(self, share: float = 1.0) -> None:
        self.spare = 0
        """How many jobs more may begin, since so many wait for what has not begun."""
        self._share = share
        self._known: dict[Hashable, _Need] = {}

    def __bool__(self) -> bool:
        """Return whether any view is known."""
        return bool(self._known)

    def __contains__(self, view: Hashable) -> bool:
        """Return whether the jobs of a view need a connection early."""
        return view in self._known

    def alias_of(self, view: Hashable) -> str:
        """Return the database that a view needs; it must be known."""
        return self._known[view].alias

    def allow(self, view: Hashable, running: Mapping[Hashable, int]) -> bool:
        """Return whether a job may begin beside those that run, by their views."""
        need = self._known.get(view)
        if need is None:
            return True
        total = sum(
            count for other, count in running.items() if self._share_one(other, need)
        )
        free = need.limit + self.spare - total
        if free <= 0:
            return False
        count = running.get(view, 0)
        return (
            not count or self._share >= 1 or is_within_share(count, free, self._share)
        )

    def learn(self, view: Hashable | None, use: Use | None, begun: float) -> None:
        """Count a job that ends now, and its use of a connection, if any."""
        need = self._known.get(view)
        is_early = use is not None and _is_early(use, begun)
        if need is None:
            if is_early and use is not None and use.waited and view is not None:
                self._known[view] = _Need(use.alias, use.limit)
            return
        if use is None or not is_early:
            need.certainty -= 1
            if not need.certainty:
                del self._known[view]
            return
        need.certainty = min(CERTAIN, need.certainty + 1)
        if use.waited:
            need.alias, need.limit = use.alias, use.limit

    def _share_one(self, view: Hashable, need: _Need) -> bool:
        other = self._known.get(view)
        return other is not None and other.alias == need.alias


def _is_early(use: Use, begun: float) -> bool:
    worked = time.monotonic() - begun - use.waited
    return use.asked_at - begun <= EARLY * worked


def is_within_share(count: int, free: int, share: float) -> bool:
    """Return whether one that has ``count`` may have one more of ``free``."""
    return (count + 1) * (1 - share) <= share * (free - 1) + 1e-9

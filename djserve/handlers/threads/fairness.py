"""The queue for threads: which job begins next, and which has to wait.

Jobs start in the order in which they have come, save those of a view that has its
share: they wait behind the others', so that one slow view leaves room for the rest.
Those of a view that needs a database's connection wait until there is one.
Knows neither threads nor databases.
"""

# The share of a view
#
# It depends on what is left. A view may start one more job if the threads that it then
# has are at most ``share / (1 - share)`` times those that stay free. So with 0.8 one
# view ends up with four fifths of the room, two slow ones with four ninths each, and
# however many there are, some room stays for one that has no job running: that one may
# always start if there is any room at all. The same holds, among the threads that may
# compute, for the jobs of a view that are not known to only wait.
#
# Connections to databases
#
# A job that has begun is bound to its thread, and so is a connection. If it then waits
# for one, what another thread has open must be closed for it, and opened again here. A
# job that stays in the queue instead begins in the thread whose connection comes free.
# So the jobs of views that ask early, and have run short, begin only while there is a
# connection for them (``Needs``).
#
# What a view does is learnt from its jobs, and forgotten when they do so no more. One
# that is late to ask is not held back: it waits for something else first, and others
# may do so at the same time.

from __future__ import annotations

import time
from collections import deque
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

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


class Waiting(Protocol):
    """What waits: ``view`` is None if no share applies, ``worker`` if none is held."""

    place: int

    @property
    def view(self) -> Hashable | None: ...

    @property
    def worker(self) -> object | None: ...


W = TypeVar("W", bound=Waiting)


class FairQueue(Generic[W]):
    """Waiting jobs by view, and how many jobs of each view run."""

    def __init__(self, share: float = 1.0) -> None:
        self.needs = Needs(share)
        self._share = share
        # By view, and apart from those that have begun.
        self._lines: dict[tuple[Hashable | None, bool], deque[W]] = {}
        self._running: dict[Hashable, int] = {}
        self._idling: dict[Hashable, int] = {}
        self.length = 0
        """How many wait; an attribute, since the pool asks at each job."""
        self._places = 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[W]:
        for line in self._lines.values():
            yield from line

    @property
    def oldest(self) -> W | None:
        """What has waited for longest."""
        heads = (line[0] for line in self._lines.values())
        return min(heads, key=_place, default=None)

    def count_running(self, view: Hashable) -> int:
        """Return how many jobs of a view run."""
        return self._running.get(view, 0)

    def count_waiting(self, view: Hashable) -> int:
        """Return how many jobs of a view wait."""
        return sum(len(self._lines.get((view, begun), ())) for begun in (False, True))

    def views(self) -> set[Hashable]:
        """Return the views that have jobs running or waiting."""
        return {*self._running, *(view for view, _ in self._lines)} - {None}

    def begin(self, view: Hashable | None) -> None:
        """A job of this view has started."""
        if view is not None:
            self._running[view] = self._running.get(view, 0) + 1

    def end(self, view: Hashable | None) -> None:
        """A job of this view has ended."""
        if view is None:
            return
        count = self._running[view] - 1
        if count:
            self._running[view] = count
        else:
            del self._running[view]

    def mark(self, view: Hashable | None, *, is_waiting: bool) -> None:
        """A running job of this view is known to only wait, or not so any more."""
        if view is not None:
            count = self._idling.get(view, 0) + (1 if is_waiting else -1)
            if count:
                self._idling[view] = count
            else:
                del self._idling[view]

    def may_start(
        self, view: Hashable | None, free: int, free_to_compute: int | None = None
    ) -> bool:
        """Whether a view may have one more of ``free`` threads, of which it is one.

        ``free_to_compute`` of them are not reserved for what only waits.
        """
        if view is None or self._share >= 1:
            return True
        count = self._running.get(view)
        if count is None:
            return True
        if not is_within_share(count, free, self._share):
            return False
        if free_to_compute is None:
            return True
        computing = count - self._idling.get(view, 0)
        return not computing or is_within_share(computing, free_to_compute, self._share)

    def is_supplied(self, waiting: W) -> bool:
        """Return whether there is a connection for one that needs it to begin."""
        return waiting.worker is not None or self.needs.allow(
            waiting.view, self._running
        )

    @property
    def is_short(self) -> bool:
        """Return whether all that wait do so for connections."""
        return bool(self.needs) and not any(
            self.is_supplied(line[0]) for line in self._lines.values()
        )

    def append(self, waiting: W) -> None:
        """Put what waits at the end."""
        self._places += 1
        waiting.place = self._places
        self._lines.setdefault(_line_of(waiting), deque()).append(waiting)
        self.length += 1

    def next(self, free: int, free_to_compute: int | None = None) -> W | None:
        """Return what comes next with so many threads free; None if all must wait.

        It stays in the queue until it is removed.
        """
        heads = (
            line[0]
            for (view, _), line in self._lines.items()
            if self.may_start(view, free, free_to_compute)
            and (not self.needs or self.is_supplied(line[0]))
        )
        return min(heads, key=_place, default=None)

    def remove(self, waiting: W) -> None:
        """Take out what need not wait any more."""
        name = _line_of(waiting)
        line = self._lines[name]
        if line[0] is waiting:
            line.popleft()
        else:
            line.remove(waiting)
        if not line:
            del self._lines[name]
        self.length -= 1
        waiting.place = 0


def _line_of(waiting: Waiting) -> tuple[Hashable | None, bool]:
    return waiting.view, waiting.worker is not None


def _place(waiting: Waiting) -> int:
    return waiting.place

"""The queue for threads, and how many of them one view may have.

Jobs start in the order in which they have come, save those of a view that has its
share: they wait behind the others', so that one slow view leaves room for the rest.
Knows neither threads nor time.

The share depends on what is left. A view may start one more job if the threads that
it then has are at most ``share / (1 - share)`` times those that stay free. So with 0.8
one view ends up with four fifths of the room, two slow ones with four ninths each, and
however many there are, some room stays for one that has no job running: that one may
always start if there is any room at all. The same holds, among the threads that may
compute, for the jobs of a view that are not known to only wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from typing import Generic, Protocol, TypeVar

from djserve.handlers.threads.needs import Needs, is_within_share


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

"""What a pool of threads tells of itself, for logs, metrics and the status page."""

from __future__ import annotations

from collections.abc import Mapping

from djserve.values import Values


class ViewStats(Values):
    """How many threads one view has, and how many of its jobs wait for one."""

    running: int
    queued: int


class PoolStats(Values):
    """One look at a pool: its threads, its queue, and how long jobs had to wait.

    ``size`` is the bound on threads that compute at the same time, ``ceiling`` the one
    on those at work, ``threads`` those that exist. Of the ``running`` ones ``waiting``
    only wait for something; ``parked`` ones are held for their next job. ``waits``
    counts the jobs that had to queue, ``wait_seconds`` is the sum of their waits,
    ``longest_wait`` the worst and ``oldest_wait`` that of who waits now.
    """

    size: int
    ceiling: int
    threads: int
    running: int
    waiting: int
    parked: int
    queued: int
    waits: int
    wait_seconds: float
    longest_wait: float
    oldest_wait: float
    views: Mapping[str, ViewStats]

    @property
    def by_view(self) -> Mapping[str, tuple[int, int]]:
        """Threads of each view, and its calls that wait."""
        return {name: (view.running, view.queued) for name, view in self.views.items()}

    @property
    def computing(self) -> int:
        """How many threads run and do not wait."""
        return self.running - self.waiting

"""Worker threads that live on: how many run at a time, and who waits for one.

Only threads that run a job count against the pool's size. A thread that is held but
idle is *parked*: another may run in its place, so that nobody waits for a thread that
does nothing. Knows neither Django nor the event loop.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from djserve.handlers.leases import Action, Lease, Worker
from djserve.handlers.width import LockProbe, Width

CountBlocked: TypeAlias = Callable[[Iterable[int]], int]

WATCH_INTERVAL = 0.05
"""Seconds that a job waits before the pool asks which of its threads are blocked."""

PACE = 0.002
"""Seconds between looks at a queue that another thread might be allowed to serve."""

SLOW = 0.005
"""Seconds after which a job no longer counts as one that is about to end."""

KEPT_TIME = 1.0
"""Seconds after which a thread that is kept asks whether it still must be.

What it is kept for may be dropped without another job, by the garbage collector.
"""

SPARE_TIME = 5.0
"""Seconds that a thread beyond the pool's size is kept, idle, before it ends."""


@dataclass(frozen=True, slots=True)
class PoolStats:
    """One look at a pool: its threads, its queue, and how long jobs had to wait.

    ``size`` is the bound on threads that run at the same time, ``threads`` those that
    exist, ``running`` and ``parked`` what they do. ``waits`` counts the jobs that had
    to queue, ``wait_seconds`` is the sum of their waits and ``longest_wait`` the worst.
    """

    size: int
    threads: int
    running: int
    parked: int
    queued: int
    waits: int
    wait_seconds: float
    longest_wait: float


class ThreadPool:
    """At most ``size`` threads at work, a queue of leases, and what both cost.

    Fewer run where more would only take turns (``width``). Jobs that are slow do not
    count against that, only against the size: they hold nobody up.
    ``count_blocked`` tells how many of some threads wait for the event loop; each of
    them lets one more thread run, or the coroutine that they wait for might wait for
    a thread in turn. ``on_thread_end`` runs in each thread before it ends.
    Everything but ``stats`` and ``close`` is called by leases and workers alone, with
    ``lock`` taken, save for ``finish``.
    """

    def __init__(
        self,
        size: int,
        *,
        count_blocked: CountBlocked | None = None,
        on_thread_end: Action | None = None,
    ) -> None:
        self.size = size
        self.lock = threading.Lock()
        self.on_thread_end = on_thread_end
        self._count_blocked = count_blocked
        self._capacity = size
        # With the time when each began with what it runs.
        self._busy: dict[Worker, float] = {}
        self._parked = 0
        self._started = 0
        self.arriving = 0
        """How many leases have jobs and are about to be admitted."""
        self._closed = False
        self._workers: set[Worker] = set()
        # With the time of their return, in its order. The last is taken first: its
        # connections are warm, and those that are not needed stay idle.
        self._idle: dict[Worker, float] = {}
        self._queue: deque[Lease] = deque()
        self._kept: set[Lease] = set()
        self._waits = 0
        self._wait_seconds = 0.0
        self._longest_wait = 0.0
        self._width = Width(size)
        self._contended = threading.Event()
        self._watcher: threading.Thread | None = None

    @property
    def queued(self) -> int:
        """How many leases wait for a thread."""
        return len(self._queue)

    @property
    def excess(self) -> int:
        """How many leases would wait even if ``size`` threads ran."""
        waiting = len(self._queue) + self.arriving
        return max(0, waiting - max(0, self.size - len(self._busy)))

    def stats(self) -> PoolStats:
        """Return the figures of this moment."""
        with self.lock:
            return PoolStats(
                size=self.size,
                threads=len(self._workers),
                running=len(self._busy),
                parked=self._parked,
                queued=len(self._queue),
                waits=self._waits,
                wait_seconds=self._wait_seconds,
                longest_wait=self._longest_wait,
            )

    def close(self, timeout: float | None = None) -> bool:
        """End the idle threads, and the others as soon as they are idle; wait for them.

        True where all have ended in time. Jobs posted later still run.
        """
        with self.lock:
            self._closed = True
            # The watcher ends too.
            self._kept.clear()
            self._contended.set()
            threads = [worker.thread for worker in self._workers]
            for worker in self._idle:
                self._retire(worker)
            self._idle.clear()
        deadline = None if timeout is None else time.monotonic() + timeout
        for thread in threads:
            thread.join(
                None if deadline is None else max(0, deadline - time.monotonic())
            )
        return not any(thread.is_alive() for thread in threads)

    def admit(self, lease: Lease) -> None:
        """Start a lease that has jobs, or queue it."""
        if not self._queue and self._has_room():
            self._start(lease)
            return
        lease.queued_at = time.monotonic()
        self._queue.append(lease)
        if not self._contended.is_set():
            self._wake_watcher()

    def finish(self, worker: Worker, lease: Lease) -> Lease | None:
        """Take note that a worker has run a lease's jobs; return what it runs next.

        That is the same lease where it has more, or one from the queue: a thread that
        is awake need not be woken.
        """
        with self.lock:
            if lease.has_jobs:
                self._busy[worker] = time.monotonic()
                return lease
            lease.is_active = False
            del self._busy[worker]
            if lease.is_held or lease.is_kept:
                self._parked += 1
                if lease.is_kept:
                    self._keep(lease)
                self._dispatch()
                return None
            lease.worker = None
            return self._hand_over(worker)

    def unpark(self, lease: Lease) -> None:
        """Take a parked thread back from its lease."""
        worker, lease.worker = lease.worker, None
        self._parked -= 1
        if worker is not None:
            self._settle(worker)

    def _start(self, lease: Lease) -> None:
        worker = lease.worker
        if worker is None:
            worker = lease.worker = lease.last_worker = self._take(lease.last_worker)
        else:
            self._parked -= 1
        self._busy[worker] = time.monotonic()
        worker.assign(lease)

    def _take(self, preferred: Worker | None) -> Worker:
        if preferred is not None and preferred in self._idle:
            del self._idle[preferred]
            return preferred
        if self._idle:
            return self._idle.popitem()[0]
        self._started += 1
        worker = Worker(self, self._started)
        self._workers.add(worker)
        return worker

    def _settle(self, worker: Worker) -> None:
        if self._closed:
            self._retire(worker)
            return
        self._idle[worker] = now = time.monotonic()
        if len(self._workers) > self.size:
            oldest = next(iter(self._idle))
            if now - self._idle[oldest] > SPARE_TIME:
                del self._idle[oldest]
                self._retire(oldest)

    def _retire(self, worker: Worker) -> None:
        self._workers.discard(worker)
        worker.assign(None)

    def _hand_over(self, worker: Worker) -> Lease | None:
        """Return the lease that a worker goes on with; None where it is idle now."""
        if self._queue and self._has_room() and self._suits(worker, self._queue[0]):
            lease = self._next_in_queue()
            lease.worker = lease.last_worker = worker
            self._busy[worker] = time.monotonic()
            return lease
        self._settle(worker)
        self._dispatch()
        return None

    def _suits(self, worker: Worker, lease: Lease) -> bool:
        """Whether a lease may run in a thread, and would not rather have another."""
        last = lease.last_worker
        return lease.worker is None and (last is worker or last not in self._idle)

    def _has_room(self) -> bool:
        """Whether another job may start beside those that run."""
        running = len(self._busy)
        width = self._width.value
        return running < self._capacity and (
            running < width or running < width + self._slow()
        )

    def _slow(self) -> int:
        """Count the jobs that run for long: they compute much, or they wait."""
        since = time.monotonic() - SLOW
        return sum(begun < since for begun in self._busy.values())

    def _dispatch(self) -> None:
        while self._queue and self._has_room():
            self._start(self._next_in_queue())

    def _next_in_queue(self) -> Lease:
        lease = self._queue.popleft()
        waited = time.monotonic() - lease.queued_at
        self._waits += 1
        self._wait_seconds += waited
        self._longest_wait = max(self._longest_wait, waited)
        return lease

    def _keep(self, lease: Lease) -> None:
        if self._closed:
            # Its watcher is gone; the lease gives the thread back at its own end.
            return
        if not self._kept:
            self._wake_watcher()
        self._kept.add(lease)

    def _wake_watcher(self) -> None:
        self._contended.set()
        if self._watcher is None:
            self._watcher = threading.Thread(
                target=self._watch, name="djserve-watch", daemon=True
            )
            self._watcher.start()

    def _watch(self) -> None:
        probe = LockProbe()
        while self._is_watched():
            if self._contended.wait(KEPT_TIME if self._kept else None):
                self._look(probe)
                self._revise()
            else:
                self._ask_kept()
        probe.close()

    def _ask_kept(self) -> None:
        with self.lock:
            kept, self._kept = self._kept, set()
        for lease in kept:
            lease.ask_again()

    def _is_watched(self) -> bool:
        with self.lock:
            if not self._closed or self._queue:
                return True
            self._watcher = None
            return False

    def _look(self, probe: LockProbe) -> None:
        # No hurry where all threads wait, and no other may start anyway; nor where one
        # is enough, since each look takes the lock from it (benchmark: django_session).
        if probe.was_held:
            is_calm = self._width.value == 1
        else:
            is_calm = len(self._busy) >= self._capacity
        was_held = probe.nap(4 * PACE if is_calm else PACE)
        if probe.can_tell:
            self._width.take_note(was_held)

    def _revise(self) -> None:
        """Let more threads run where those that do get too little done."""
        with self.lock:
            if not self._queue:
                self._capacity = self.size
                if not self._closed:
                    self._contended.clear()
                return
            self._dispatch()
            if not self._queue or not self._is_overdue():
                return
            idents = [worker.thread.ident or 0 for worker in self._workers]
        # Let a thread run for each one that is blocked, as long as jobs wait.
        blocked = self._count_blocked(idents) if self._count_blocked else 0
        with self.lock:
            self._capacity = self.size + blocked
            self._dispatch()

    def _is_overdue(self) -> bool:
        return time.monotonic() - self._queue[0].queued_at >= WATCH_INTERVAL

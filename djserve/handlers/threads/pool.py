"""Worker threads that live on: how many run at a time, and who waits for one.

Only threads that run a job count against the pool's bounds. A thread that is held but
idle is *parked*: another may run in its place, so that none waits for a thread that
does nothing. Knows neither Django nor the event loop.

The two ways of a call
----------------------

A call comes from an event loop and its result goes back there, in one of two ways:

- With a task: a coroutine makes a ``Call`` (``hops``), posts it and awaits it. Every
  ``sync_to_async``, every hook and view in a thread, and each part of a stream goes
  this way; asgiref's own functions end in ``Lease.submit`` instead, a future.
- Without a task: the direct lane posts a ``Call`` and returns to the loop. Nothing
  waits; the end of the call is a plain function that the loop calls.

From there on they are one::

    loop      Mailbox.post          enlists the job in its lease
              Mailbox._begin        next turn: admits the leases, all together
              ThreadPool.admit      takes a thread, or the lease joins the queue
    thread    PoolThread._serve     runs the lease's next job, the Call
              Lease.prepare_return  leaves the thread tidy, unless it is held
              ThreadPool.finish     next job, next lease, parked or idle
              Mailbox.put           tells the loop; results share one wake-up
    loop      Call._finish          calls ``on_finish``, or wakes who awaits

Who may cancel
--------------

A thread cannot be stopped, so no one does more than this:

- Before it has begun, a call is withdrawn by who has posted it (``Lease.withdraw``).
  The client may be gone, the server may end the call, or it has waited for
  ``wait_limit``: then the pool's watcher calls ``on_overdue``, which asks the loop to
  withdraw it. A job leaves its lease once only: either to a thread or to the one who
  withdraws it.
- Once it runs, only the coroutine that it waits for by ``async_to_sync`` is cancelled
  (``Call.cancel_coroutine``), by the same ones. The job then goes on as it likes.
- Who has awaited the call waits on to its end, even if it is cancelled itself
  (``Call.abandon``): the thread is still at work with what it was given.
- A lease that is released keeps the jobs that it has. The pool cancels nothing; when
  it is closed, its threads end once they are idle.

What waits for what, and why it comes to an end
-----------------------------------------------

1. ``ThreadPool.lock`` guards the books: queue, idle and busy threads, leases. It is
   held for some microseconds, never while a job runs, and no other lock is taken under
   it but that of a worker that is woken (``PoolThread.assign``, which never waits).
2. A call in the queue waits for a thread at work to end, to park or to be found
   waiting. The watcher looks every few milliseconds while there is a queue, so room
   that comes from threads that only wait is used without any of them ending.
3. A thread at work may itself wait for a call in the queue, through the event loop
   (``async_to_sync``). At the ceiling each such thread lets one more run.
4. A thread at work may wait for a database connection that a parked or idle thread
   has. ``interrupt`` has that thread close it at once, outside of all bounds: were it
   to wait for its turn, both would wait for each other. The bound on connections takes
   its own lock (``places.Ledger``), then the pool's, never the other way round.
5. A held lease in the queue waits for its turn like any other, since the thread that
   it holds counts only while it runs. If that thread has a connection, and others wait
   for one, its job begins at once, outside of all bounds (``hasten``): those who wait
   may have all the room that there is.

What is left are calls that wait for each other by other means (a lock, a request to
this process) with all threads of the ceiling taken; ``wait_limit`` ends those waits for
requests that have not begun.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from operator import itemgetter
from typing import TypeAlias

from djserve.handlers.threads.concurrency import (
    ConcurrencyLimit,
    LockProbe,
    judge,
    read_clock,
)
from djserve.handlers.threads.fairness import FairQueue, Needs
from djserve.handlers.threads.leases import (
    Action,
    Job,
    Lease,
    PoolThread,
    pools,
    run_safely,
)
from djserve.handlers.threads.stats import PoolStats, ViewStats

logger = logging.getLogger("djserve.handlers")

now = time.monotonic

CountBlocked: TypeAlias = Callable[[Iterable[int]], int]

WATCH_INTERVAL = 0.05
"""Seconds that a job waits before the pool asks which of its threads are blocked."""

INQUIRY_PAUSE = 0.02
"""Seconds between two such questions, each of which asks for all threads' frames."""

PACE = 0.002
"""Seconds between looks at a queue that another thread might be allowed to serve."""

SLOW = 0.005
"""Seconds after which a job no longer counts as one that is about to end."""

LONG = 1.0
"""Seconds of waiting that are worth a line in the log."""

REPORT_PAUSE = 60.0
"""Seconds between two such lines."""

KEPT_TIME = 1.0
"""Seconds after which a thread that is kept asks whether it still must be.

What it is kept for may be dropped without another job, by the garbage collector.
"""

SPARE_TIME = 5.0
"""Seconds that a thread beyond the pool's size is kept, idle, before it ends."""


class ThreadPool:
    """Threads at work, a queue of leases, and what both cost.

    At most ``size`` threads compute at a time, and as many more may be at work as only
    wait (``judge``), up to ``ceiling`` in all. Fewer run if more would only take
    turns (``concurrency``). Jobs that are slow do not count against that, only against
    the size: they delay no other. One view gets ``share`` of the room (``fairness``).
    Jobs that are known to need a database connection first begin only while there is
    one for them (``needs``).
    ``count_blocked`` tells how many of some threads wait for the event loop; at the
    ceiling each of them lets one more thread run, or the coroutine that they wait for
    might wait for a thread in turn. A lease that has waited for ``wait_limit`` seconds
    with its first job is told so, and waits no more. ``on_thread_end`` runs in each
    thread before it ends. Fewer threads run at once while the process uses more than
    ``full`` of its CPUs, which is a share.

    Everything but ``stats`` and ``close`` is called by leases and workers alone, with
    ``lock`` taken, save for ``finish``.
    """

    is_parents = False

    def __init__(
        self,
        size: int,
        *,
        ceiling: int | None = None,
        share: float = 1.0,
        wait_limit: float | None = None,
        count_blocked: CountBlocked | None = None,
        on_thread_end: Action | None = None,
        full: float | None = None,
    ) -> None:
        self.size = size
        self.ceiling = max(size, size if ceiling is None else ceiling)
        self.share = share
        self.lock = threading.Lock()
        self.on_thread_end = on_thread_end
        self.on_return: Action | None = None
        """Called in each thread after a job, while there is one."""
        self._wait_limit = wait_limit
        self._count_blocked = count_blocked
        self._full = full
        # How many threads may be at work: grows with those that wait.
        self._capacity = size
        self._waiting = 0
        self._blocked = 0
        # With the time when each began with what it runs.
        self._busy: dict[PoolThread, float] = {}
        self._parked = 0
        self._started = 0
        self.arriving = 0
        """How many leases have jobs and are about to be admitted."""
        self._closed = False
        self._workers: set[PoolThread] = set()
        # With the time of their return, in its order. The last is taken first: its
        # connections are warm, and those that are not needed stay idle.
        self._idle: dict[str, dict[PoolThread, float]] = {}
        self._queue: FairQueue[Lease] = FairQueue(share)
        self._kept: set[Lease] = set()
        self._names: dict[Hashable, str] = {}
        self._named: set[Hashable] = set()
        self._next_report = self._next_inquiry = 0.0
        self._waits = self._waits_seen = 0
        self._wait_seconds = 0.0
        self._longest_wait = 0.0
        self._limit = ConcurrencyLimit(size)
        self._contended = threading.Event()
        self._watcher: threading.Thread | None = None
        pools.add(self)

    @property
    def queued(self) -> int:
        """How many leases wait for a thread."""
        return len(self._queue)

    @property
    def needs(self) -> Needs:
        """Which views begin only while there is a database connection for them."""
        return self._queue.needs

    @property
    def excess(self) -> int:
        """How many leases would wait even if all threads ran that may."""
        waiting = len(self._queue) + self.arriving
        # What waits for a connection could do so in a thread as well.
        most = self.ceiling if self._queue.needs else self._capacity
        return max(0, waiting - max(0, most - len(self._busy)))

    def stats(self) -> PoolStats:
        """Return the figures of this moment."""
        with self.lock:
            oldest = self._queue.oldest
            views = {
                self._names.get(view) or str(view): ViewStats(
                    self._queue.count_running(view), self._queue.count_waiting(view)
                )
                for view in self._queue.views()
            }
            return PoolStats(
                size=self.size,
                ceiling=self.ceiling,
                threads=len(self._workers),
                running=len(self._busy),
                waiting=self._waiting,
                parked=self._parked,
                queued=len(self._queue),
                waits=self._waits,
                wait_seconds=self._wait_seconds,
                longest_wait=self._longest_wait,
                oldest_wait=0.0 if oldest is None else now() - oldest.queued_at,
                views=views,
            )

    def close(self, timeout: float | None = None) -> bool:
        """End the idle threads, and the others as soon as they are idle; wait for them.

        True if all have ended in time. Jobs posted later still run.
        """
        with self.lock:
            self._closed = True
            # The watcher ends too.
            self._kept.clear()
            self._contended.set()
            threads = [worker.thread for worker in self._workers]
            for idle in self._idle.values():
                for worker in idle:
                    self._retire(worker)
            self._idle.clear()
        deadline = None if timeout is None else now() + timeout
        for thread in threads:
            thread.join(None if deadline is None else max(0, deadline - now()))
        return not any(thread.is_alive() for thread in threads)

    def admit(self, lease: Lease) -> None:
        """Start a lease that has jobs, or queue it."""
        has_turn = not self._queue.length and self._has_room()
        if (has_turn and self._is_within_share(lease)) or self._is_urgent(lease):
            self._start(lease)
            return
        lease.queued_at = now()
        self._queue.append(lease)
        if self._has_room():
            # What waits may do so for its view's share only.
            self._dispatch()
        if self._queue and not self._contended.is_set():
            self._wake_watcher()

    def finish(self, worker: PoolThread, lease: Lease) -> Lease | None:
        """Enter into the books that a worker has run a job; return what it runs next.

        That is the same lease if it has more, or one from the queue: a thread that
        is awake need not be woken.
        """
        with self.lock:
            if worker.is_waiting:
                self._mark(worker, is_waiting=False)
            begun = self._busy[worker]
            if worker.use is not None or self._queue.needs:
                use, worker.use = worker.use, None
                self._queue.needs.learn(worker.view, use, begun)
            if lease.has_jobs:
                self._busy[worker] = now()
                return lease
            lease.is_active = False
            del self._busy[worker]
            self._queue.end(worker.view)
            if lease.is_held or lease.is_kept:
                self._parked += 1
                if lease.is_kept:
                    self._keep(lease)
                self._dispatch()
                return None
            lease.worker = None
            return self._hand_over(worker)

    def is_busy(self, worker: PoolThread) -> bool:
        """Return whether a thread runs a job; asked without the lock."""
        return worker in self._busy

    def interrupt(self, worker: PoolThread, job: Job) -> bool:
        """Have a thread that is idle or parked run a job now; False if it is busy.

        It takes no account of the bounds: what others wait for may depend on the job.
        """
        with self.lock:
            if worker in self._busy or worker not in self._workers:
                return False
            idle = self._idle.get(worker.group, {})
            if worker in idle:
                del idle[worker]
                lease = Lease(self, held=False, group=worker.group)
                lease.put_first(job)
                lease.worker = worker
                self._begin(worker, lease)
                worker.assign(lease)
                return True
            parked = worker.lease
            if parked is None or parked.worker is not worker:
                return False
            if parked.place:
                self._leave_queue(parked)
            elif parked.is_active:
                # About to be admitted.
                return False
            parked.put_first(job)
            self._start(parked)
            return True

    def hasten(self) -> None:
        """Begin the jobs whose threads have connections, which others wait for now."""
        with self.lock:
            for lease in filter(self._is_urgent, [*self._queue]):
                self._leave_queue(lease)
                self._start(lease)

    def _is_urgent(self, lease: Lease) -> bool:
        return self.on_return is not None and lease.holds_connection

    def unpark(self, lease: Lease) -> None:
        """Take a parked thread back from its lease."""
        worker, lease.worker = lease.worker, None
        self._parked -= 1
        if worker is not None:
            self._settle(worker)

    def _start(self, lease: Lease) -> None:
        worker = lease.worker
        if worker is None:
            worker = lease.worker = lease.last_worker = self._take(lease)
        else:
            self._parked -= 1
        self._begin(worker, lease)
        worker.assign(lease)

    def _begin(self, worker: PoolThread, lease: Lease) -> None:
        worker.lease = lease
        worker.view = view = lease.view
        self._queue.begin(view)
        if view not in self._names:
            self._names[view] = lease.view_name
        self._busy[worker] = now()

    def _take(self, lease: Lease) -> PoolThread:
        idle = self._idle.get(lease.group)
        if idle:
            preferred = lease.last_worker
            if preferred is not None and preferred in idle:
                del idle[preferred]
                return preferred
            if self._queue.needs:
                return self._pick(idle, lease)
            return idle.popitem()[0]
        if len(self._workers) >= self.size:
            # A thread of another group is of no use to this one.
            self._retire_one_idle()
        self._started += 1
        worker = PoolThread(self, self._started, lease.group)
        self._workers.add(worker)
        if len(self._workers) == self.size + 1:
            # The watcher ends it when it is not needed any more.
            self._wake_watcher()
        return worker

    def _pick(self, idle: dict[PoolThread, float], lease: Lease) -> PoolThread:
        """Take a thread that is connected, if a view is known to need that; or not."""
        suitable = (worker for worker in reversed(idle) if self._fits(worker, lease))
        worker = next(suitable, None)
        if worker is None:
            return idle.popitem()[0]
        del idle[worker]
        return worker

    def _fits(self, worker: PoolThread, lease: Lease) -> bool:
        """Return whether a thread has a connection just if a lease needs one."""
        return (worker.places > 0) == (lease.view in self._queue.needs)

    def _settle(self, worker: PoolThread) -> None:
        if self._closed:
            self._retire(worker)
        else:
            self._idle.setdefault(worker.group, {})[worker] = now()

    def _retire_one_idle(self, age: float = 0.0) -> bool:
        """End the thread that has been idle for longest, if for so many seconds."""
        groups = [idle for idle in self._idle.values() if idle]
        if not groups:
            return False
        idle = min(groups, key=lambda idle: next(iter(idle.values())))
        oldest, since = next(iter(idle.items()))
        if now() - since < age:
            return False
        del idle[oldest]
        self._retire(oldest)
        return True

    def _retire(self, worker: PoolThread) -> None:
        self._workers.discard(worker)
        worker.assign(None)

    def _hand_over(self, worker: PoolThread) -> Lease | None:
        """Return the lease that a worker serves next; None if it is idle now."""
        if not self._queue.length:
            self._settle(worker)
            return None
        lease = self._next_to_start()
        if lease is not None and self._suits(worker, lease):
            self._leave_queue(lease)
            lease.worker = lease.last_worker = worker
            self._begin(worker, lease)
            return lease
        self._settle(worker)
        self._dispatch()
        return None

    def _suits(self, worker: PoolThread, lease: Lease) -> bool:
        """Whether a lease may run in a thread, and would not rather have another."""
        if lease.worker is not None or lease.group != worker.group:
            return False
        last, idle = lease.last_worker, self._idle.get(lease.group, {})
        if last is worker:
            return True
        if self._queue.needs and not self._fits(worker, lease):
            return not any(self._fits(other, lease) for other in idle)
        return last not in idle

    def _has_room(self) -> bool:
        """Whether another job may start in addition to those that run."""
        running = len(self._busy)
        if running >= self._capacity:
            return False
        limit = self._limit.value + self._waiting
        return running < limit or running < limit + self._slow()

    def _is_within_share(self, lease: Lease) -> bool:
        if self._queue.needs and not self._queue.is_supplied(lease):
            return False
        if self._queue.count_running(lease.view) == 0:
            return True
        return self._queue.may_start(lease.view, *self._free())

    def _free(self) -> tuple[int, int]:
        """Return how many threads are free in all, and how many of them to compute."""
        running = len(self._busy)
        return max(self.ceiling, self._capacity) - running, self._capacity - running

    def _slow(self) -> int:
        """Count the jobs that compute for long, or wait and are not known to."""
        since = now() - SLOW
        return sum(
            begun < since and not worker.is_waiting
            for worker, begun in self._busy.items()
        )

    def _dispatch(self) -> None:
        while (lease := self._next_to_start()) is not None:
            self._leave_queue(lease)
            self._start(lease)

    def _next_to_start(self) -> Lease | None:
        while self._queue.length and self._has_room():
            lease = self._queue.next(*self._free())
            if lease is None or lease.has_jobs or lease.worker is not None:
                return lease
            # What it had to run has been withdrawn.
            self._queue.remove(lease)
            lease.is_active = False
        return None

    def _leave_queue(self, lease: Lease) -> None:
        self._queue.remove(lease)
        waited = now() - lease.queued_at
        lease.waited += waited
        self._waits += 1
        self._wait_seconds += waited
        self._longest_wait = max(self._longest_wait, waited)

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
        probe = LockProbe(full=self._full)
        while self._is_watched():
            if self._contended.wait(self._patience()):
                self._look(probe)
                self._revise()
            else:
                self._ask_kept()
                self._retire_spare()
        probe.close()

    def _patience(self) -> float | None:
        """Return how long the watcher may sleep while nothing waits."""
        return KEPT_TIME if self._kept or len(self._workers) > self.size else None

    def _ask_kept(self) -> None:
        with self.lock:
            kept, self._kept = self._kept, set()
        for lease in kept:
            lease.ask_again()

    def _retire_spare(self) -> None:
        with self.lock:
            while len(self._workers) > self.size:
                if not self._retire_one_idle(SPARE_TIME):
                    return

    def _is_watched(self) -> bool:
        with self.lock:
            if not self._closed or self._queue:
                return True
            self._watcher = None
            return False

    def _look(self, probe: LockProbe) -> None:
        # No hurry if all threads wait, and no other may start anyway; nor if one is
        # enough, and busy or at another job by now, since each look takes the lock
        # from it (benchmark: django_session).
        is_one_enough = self._limit.value == self._limit.least
        has_moved, self._waits_seen = self._waits != self._waits_seen, self._waits
        if probe.was_held:
            is_calm = is_one_enough
        else:
            is_calm = len(self._busy) >= self.ceiling or (has_moved and is_one_enough)
        with self.lock:
            is_calm = is_calm or self._queue.is_short
            busy = [*self._busy.items()] if self._may_grow() else []
        before = [
            None if worker.is_waiting else read_clock(worker) for worker, _ in busy
        ]
        looked_at = now()
        was_held = probe.nap(4 * PACE if is_calm else PACE)
        if probe.can_tell:
            self._limit.take_note(was_held)
        if not busy:
            return
        elapsed = now() - looked_at
        verdicts = [
            judge(worker, cpu, begun, elapsed, was_busy=probe.was_busy)
            for (worker, begun), cpu in zip(busy, before, strict=True)
        ]
        with self.lock:
            for (worker, begun), is_waiting in zip(busy, verdicts, strict=True):
                if self._busy.get(worker) == begun and worker.is_waiting != is_waiting:
                    self._mark(worker, is_waiting=is_waiting)

    def _may_grow(self) -> bool:
        """Whether more could run if the pool knew that some only wait."""
        return self._waiting > 0 or 2 * len(self._busy) >= self.size

    def _mark(self, worker: PoolThread, *, is_waiting: bool) -> None:
        worker.is_waiting = is_waiting
        self._queue.mark(worker.view, is_waiting=is_waiting)
        self._waiting += 1 if is_waiting else -1
        self._set_capacity()

    def _set_capacity(self) -> None:
        wanted = self.size + self._waiting
        if wanted < self.ceiling:
            self._capacity = wanted
        else:
            self._capacity = self.ceiling + self._blocked

    def _revise(self) -> None:
        """Let more threads run if those that do get too little done."""
        with self.lock:
            self._dispatch()
            if not self._queue:
                self._blocked = self._queue.needs.spare = 0
                self._set_capacity()
                if not self._closed:
                    self._contended.clear()
                return
            if not self._is_overdue() or now() < self._next_inquiry:
                return
            self._next_inquiry = now() + INQUIRY_PAUSE
            late = self._take_late()
            self._report()
            idents = [worker.thread.ident or 0 for worker in self._workers]
        for lease in late:
            run_safely(lease.on_overdue)
        # Let a thread run for each one that is blocked, as long as jobs wait.
        blocked = self._count_blocked(idents) if self._count_blocked else 0
        with self.lock:
            self._blocked = self._queue.needs.spare = blocked
            self._set_capacity()
            self._dispatch()

    def _is_overdue(self) -> bool:
        oldest = self._queue.oldest
        return oldest is not None and now() - oldest.queued_at >= WATCH_INTERVAL

    def _take_late(self) -> list[Lease]:
        """Take those out of the queue that have waited for too long."""
        if self._wait_limit is None:
            return []
        since = now() - self._wait_limit
        late = [
            lease
            for lease in self._queue
            if lease.queued_at < since
            and lease.on_overdue is not None
            and lease.last_worker is None
        ]
        for lease in late:
            self._leave_queue(lease)
            lease.is_active = False
        return late

    def _report(self) -> None:
        """Log, seldom, that jobs wait for long, and what has the threads."""
        oldest = self._queue.oldest
        if oldest is None:
            return
        self._report_share(oldest)
        waited = now() - oldest.queued_at
        if waited < LONG or now() < self._next_report:
            return
        self._next_report = now() + REPORT_PAUSE
        counts = {
            self._names.get(view) or view: self._queue.count_running(view)
            for view in self._queue.views()
        }
        busiest = sorted(counts.items(), key=itemgetter(1), reverse=True)[:3]
        logger.warning(
            "%d calls wait for a thread%s, the first for %.1f s; %d threads are at "
            "work (%s)",
            len(self._queue),
            self._shortage(oldest),
            waited,
            len(self._busy),
            ", ".join(f"{name}: {count}" for name, count in busiest if count),
        )

    def _shortage(self, lease: Lease) -> str:
        """Return for the log what a lease waits for beside a thread."""
        if self._queue.is_supplied(lease):
            return ""
        alias = self._queue.needs.alias_of(lease.view)
        return (
            f" that is connected to the database {alias!r} (DATABASE_CONNECTIONS "
            "bounds them)"
        )

    def _report_share(self, oldest: Lease) -> None:
        """Log once for each view that it has its share, and waits behind others."""
        view = oldest.view
        if view is None or view in self._named:
            return
        if not self._queue.may_start(view, self._free()[0]):
            self._named.add(view)
            logger.warning(
                "The view %s holds %d of at most %d threads, and %d more of its calls "
                "wait: other views come first (THREAD_SHARE)",
                oldest.view_name or view,
                self._queue.count_running(view),
                self.ceiling,
                self._queue.count_waiting(view),
            )

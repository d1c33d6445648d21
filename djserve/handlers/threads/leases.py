"""Leases of worker threads, and the workers that run their jobs.

A lease runs its jobs one after the other. While it is held, all of them run in the one
thread that ran the first; a lease that is not held gives its thread back whenever it
has no job. Knows neither Django nor the event loop.
"""

# What a lease promises
#
# Code in a thread leaves things there: connections to databases, transactions, values
# of ``threading.local``. So the parts of one request that need a thread have to run in
# one thread, one after the other, and two requests must never run in it in turns.
# asgiref has an executor of one thread for that. A lease gives the same order without a
# thread that stands idle: its jobs queue in the lease, and the lease queues for a
# thread.
#
# Between two jobs a lease is in one of three states:
#
# - *Held*: the thread is parked with it, since more jobs are expected to need what is
#   there (``is_held``). It does not count as running, so another may run in its place.
# - *Kept*: it is not held, but ``must_keep`` found the thread in the middle of
#   something, such as an open cursor (``is_kept``). The thread stays until
#   ``must_keep`` says no, which the pool asks again from time to time: what it is kept
#   for may end without a job.
# - Otherwise the thread goes back, tidied by ``on_idle`` (old connections are closed),
#   and the next job may run in another. ``last_worker`` is preferred, for its
#   connections are warm.
#
# A job leaves the deque once, by ``popleft`` in the worker or by ``remove`` in
# ``withdraw``, so it is either run or withdrawn and never both. ``popleft`` takes no
# lock: only the one worker that serves the lease calls it, and a deque's operations are
# atomic.
#
# What a job returns is called when the thread has been given back. Who is told of the
# end of a job then finds the thread idle, and a burst of requests one after the other
# runs in one thread, not in as many as there are.
#
# ``Lease`` is an ``Executor`` because asgiref's thread-sensitive contexts take one. So
# ``sync_to_async`` anywhere below a request, also in code that knows nothing of
# djserve, ends up in the thread of that request.

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, NoReturn, ParamSpec, Protocol, TypeAlias, TypeVar

from djserve.handlers.threads.concurrency import open_clock
from djserve.handlers.threads.fairness import Use
from djserve.net.forks import end_stray_child
from djserve.system import CAN_FORK

logger = logging.getLogger("djserve.handlers")

REQUESTS = "requests"
CONSUMERS = "consumers"
"""The groups of leases: what a request leaves in its thread is seen by no consumer."""

P = ParamSpec("P")
T = TypeVar("T")

Action: TypeAlias = Callable[[], object]
Job: TypeAlias = Callable[[], Action | None]
"""Runs in a thread; what it returns is called there once the thread is free again, so
that who is told of the job's end finds the thread idle."""


class Pool(Protocol):
    """What leases and workers need of the pool that owns them."""

    lock: threading.Lock
    """Guards all below, and the jobs of each lease."""
    is_parents: bool
    """Whether this is a forked child, and the threads are in its parent."""
    arriving: int
    on_thread_end: Action | None
    on_return: Action | None

    @property
    def queued(self) -> int:
        """How many leases wait for a thread."""

    def admit(self, lease: Lease) -> None:
        """Start a lease that has jobs, or queue it; ``lock`` is taken."""

    def finish(self, worker: PoolThread, lease: Lease) -> Lease | None:
        """Enter the end of a job; return what the worker runs next."""

    def unpark(self, lease: Lease) -> None:
        """Take a parked thread back from its lease; ``lock`` is taken."""


_here = threading.local()

pools: weakref.WeakSet[Pool] = weakref.WeakSet()
"""Those of this process, each of which puts itself in."""


def current_worker() -> PoolThread | None:
    """Return the worker that this thread is; None in any other thread."""
    return getattr(_here, "worker", None)


class _Thread(threading.Thread):
    """A daemon to the interpreter, whose end waits for no view, but to nothing else.

    Threads take that over from the one that begins them: what a view begins in the
    background would be broken off at the server's end. Under other servers views run
    in threads of executors, which are no daemons.
    """

    is_begun = False

    @property
    def daemon(self) -> bool:  # type: ignore[override]
        """Whether it is one: asked when it starts, and by threads that it makes."""
        return not self.is_begun

    def run(self) -> None:
        """Run as a thread that is none to its own."""
        self.is_begun = True
        super().run()


class PoolThread:
    """One thread: sleeps until it is given a lease, then runs that lease's jobs.

    ``group`` is that of the leases which it serves. ``view`` is what it is at work for,
    in the pool's books.
    """

    def __init__(self, pool: Pool, number: int, group: str) -> None:
        self.group = group
        self.view: Hashable | None = None
        self.turn = 1
        """Counts the jobs."""
        self.clock: int | None = None
        self.is_waiting = False
        self.cpu_seen = self.moved_at = 0.0
        self.places = 0
        """How many databases it is connected to, of those whose places are counted."""
        self.use: Use | None = None
        """What the running job has done with one of them."""
        self.pool = pool
        self.lease: Lease | None = None
        """What it is at work for, or parked with; stale while it is idle."""
        self._lease: Lease | None = None
        # A bare lock as a semaphore of one: a third of the cost of an Event.
        self._wake = threading.Lock()
        self._wake.acquire()
        self.thread = _Thread(target=self._run, name=f"djserve-{number}")
        self.thread.start()

    def assign(self, lease: Lease | None) -> None:
        """Wake the thread for a lease, or for its end (None)."""
        self._lease = lease
        self._wake.release()

    def _run(self) -> None:
        _here.worker = self
        self.clock = open_clock(threading.get_ident())
        while True:
            self._wake.acquire()
            lease = self._lease
            if lease is None:
                run_safely(self.pool.on_thread_end)
                return
            while lease is not None:
                lease = self._serve(lease)

    def _serve(self, lease: Lease) -> Lease | None:
        """Run a lease's next job; return the lease to go on with, if any."""
        self.turn += 1
        then = run_safely(lease.next_job())
        if self.pool.is_parents:
            # Before what it does next, which it would do with the parent's connections.
            end_stray_child()
        if self.pool.on_return is not None and not lease.has_jobs:
            run_safely(self.pool.on_return)
        if not lease.is_held and not lease.has_jobs:
            lease.prepare_return()
        following = self.pool.finish(self, lease)
        run_safely(then)
        return following


class Lease(Executor):
    """The right to a thread of the pool, for one request or one connection.

    ``held`` says whether the thread stays with the lease between its jobs. Threads are
    shared by leases of one ``group`` only. The jobs count as those of ``view``, which
    ``view_name`` names for people; None is bound by no share.
    ``on_first`` runs in the thread before the first job; ``on_idle`` runs in it before
    it is given back. ``must_keep`` is asked there before that: while it returns True,
    the thread stays with the lease all the same, until it is released. As an
    ``Executor`` it fits asgiref's thread-sensitive contexts: one call at a time.
    """

    # On the class: most leases end without any of them set (benchmark: django_sync).
    place = 0
    """Where it stands in the queue, 0 outside of it; the queue's own."""
    is_kept = False
    """Whether the thread stays because it is in the middle of something."""
    is_active = False
    worker: PoolThread | None = None
    last_worker: PoolThread | None = None
    queued_at = 0.0
    databases: frozenset[str] = frozenset()
    """Those in which its jobs have used a session."""
    waited = 0.0
    """Seconds that it has stood in the queue so far, or waited for a database."""
    on_overdue: Action | None = None
    """Called, in any thread, when the first job has waited for too long; the lease
    does not stand in the queue any more."""
    is_tidy = False
    """Set by a job that has done already what ``on_idle`` is for."""
    _waits_since = 0.0

    def __init__(
        self,
        pool: Pool,
        *,
        held: bool,
        on_first: Action | None = None,
        on_idle: Action | None = None,
        must_keep: Callable[[], bool] | None = None,
        group: str = REQUESTS,
        view: Hashable | None = None,
        view_name: str = "",
    ) -> None:
        self.group = group
        self.view = view
        self.view_name = view_name
        self.pool = pool
        self._jobs: deque[Job] = deque()
        self.is_held = held
        self.on_idle = on_idle
        self._must_keep = must_keep
        if on_first is not None:
            self._jobs.append(partial(_call, on_first))

    @property
    def was_used(self) -> bool:
        """Whether a thread has ever been taken."""
        return self.last_worker is not None or self.is_active

    def waiting_time(self) -> float:
        """Return the seconds for which the server let jobs wait, until now."""
        since = self.queued_at if self.place else self._waits_since
        return self.waited + (time.monotonic() - since if since else 0.0)

    def begin_waiting(self) -> None:
        """A job waits for a database connection that it may not have yet."""
        self._waits_since = time.monotonic()

    def end_waiting(self) -> None:
        """It has waited."""
        since, self._waits_since = self._waits_since, 0.0
        self.waited += time.monotonic() - since

    @property
    def holds_connection(self) -> bool:
        """Whether the thread that it holds is connected to a database."""
        return self.worker is not None and self.worker.places > 0

    @property
    def has_jobs(self) -> bool:
        return bool(self._jobs)

    def post(self, job: Job) -> None:
        """Have ``job`` run after the lease's earlier ones; it must not raise."""
        with self.pool.lock:
            self._jobs.append(job)
            if not self.is_active:
                self._activate()

    def enlist(self, job: Job) -> bool:
        """Take a job without waking a thread; True if ``begin`` must follow."""
        with self.pool.lock:
            self._jobs.append(job)
            if self.is_active:
                return False
            self.is_active = True
            self.pool.arriving += 1
            return True

    def begin(self) -> None:
        """Have the jobs run that ``enlist`` has taken."""
        with self.pool.lock:
            self.pool.arriving -= 1
            self.pool.admit(self)

    def precede(self, job: Job) -> None:
        """Have ``job`` run in the thread before the next one; takes none by itself.

        Asked for again before that, it still runs once.
        """
        with self.pool.lock:
            if not self._jobs or self._jobs[-1] != job:
                self._jobs.append(job)

    def put_first(self, job: Job) -> None:
        """Have ``job`` run before all others; the pool's lock is taken."""
        self._jobs.appendleft(job)
        self.is_active = True

    def withdraw(self, job: Job) -> bool:
        """Take back a job; False if it runs already or has run."""
        with self.pool.lock:
            try:
                self._jobs.remove(job)
            except ValueError:
                return False
            return True

    def next_job(self) -> Job | None:
        """Called by the worker: its next job, if none has been withdrawn since."""
        try:
            return self._jobs.popleft()
        except IndexError:
            return None

    def prepare_return(self) -> None:
        """Called by the worker: tidy the thread, unless it must be kept."""
        if self.is_tidy:
            self.is_tidy = self.is_kept = False
            return
        self.is_kept = self._must_keep is not None and bool(run_safely(self._must_keep))
        if not self.is_kept:
            run_safely(self.on_idle)

    def relax(self) -> None:
        """Hold the thread no longer than it must be kept."""
        with self.pool.lock:
            self.is_held = False
            if self.worker is not None and not self.is_active:
                self._ask_again()

    def ask_again(self) -> None:
        """Give a kept thread back if it need not be kept any more."""
        with self.pool.lock:
            if self.is_kept and not self.is_active:
                self._ask_again()

    def release(self) -> None:
        """Hold the thread no longer: it goes back now, or after the running job.

        Jobs that are posted later still run, each burst of them in any thread.
        """
        if not (self.is_held or self.is_kept):
            return
        with self.pool.lock:
            was_kept, self.is_held, self.is_kept = self.is_kept, False, False
            if self.worker is None or self.is_active:
                return
            if was_kept and self.on_idle is not None:
                self._jobs.append(partial(_call, self.on_idle))
                self.is_tidy = True
                self._activate()
            else:
                self.pool.unpark(self)

    def _ask_again(self) -> None:
        self._jobs.append(_do_nothing)
        self._activate()

    def _activate(self) -> None:
        self.is_active = True
        self.pool.admit(self)

    def submit(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Run a call as a job; the executor's interface, for asgiref."""
        future: Future[T] = Future()

        def job() -> Action | None:
            if not future.set_running_or_notify_cancel():
                return None
            try:
                return partial(future.set_result, fn(*args, **kwargs))
            except StopIteration as error:
                return partial(future.set_exception, as_runtime_error(error))
            except BaseException as error:
                return partial(future.set_exception, error)

        self.post(job)
        return future


def run_safely(action: Callable[[], T] | None) -> T | None:
    """Call what must not raise; what it raises against its promise is logged."""
    if action is None:
        return None
    try:
        return action()
    except BaseException:
        logger.exception("A job raised in a worker thread")
        return None


def _call(action: Action) -> None:
    action()


def _do_nothing() -> None:
    """Have the worker ask whether its thread must be kept."""


class _ParentsLock:
    """What a forked child has of a pool's lock.

    None of the pool's threads is there, and one of them may have held the lock.
    """

    def __enter__(self) -> NoReturn:
        end_stray_child()
        raise RuntimeError(
            "This process was forked from a server, and the threads for synchronous "
            "code are its parent's"
        )

    def __exit__(self, *error: object) -> None:
        pass


def _leave_pools() -> None:
    """Be a forked child, which can have nothing run in the pools' threads."""
    lock: Any = _ParentsLock()
    for pool in [*pools]:
        pool.is_parents, pool.lock = True, lock


if CAN_FORK:
    os.register_at_fork(after_in_child=_leave_pools)


def as_runtime_error(error: StopIteration) -> RuntimeError:
    """Return what Python makes of StopIteration that leaves a coroutine (PEP 479).

    asyncio's futures refuse StopIteration: before Python 3.12, who waits for one would
    wait for ever. Every way out of a thread judges it here.
    """
    raised = RuntimeError("A synchronous call raised StopIteration")
    raised.__cause__ = error
    return raised

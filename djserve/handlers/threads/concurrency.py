"""How many threads are worth running at once, and which of them only wait.

Python runs one thread at a time, and a CPU too. If jobs compute, a second thread
adds nothing but turns to take, and threads that write to one database wait for each
other's locks in naps; if jobs wait for something else, each thread adds its share.
Python without its lock (a free-threaded build) runs a thread on each CPU: there the
CPUs alone are looked at, and each keeps one.

A thread that waits (for a socket, a lock, a database, in a sleep) uses no CPU. One that
wants the interpreter's lock uses next to none, but wakes after each switch interval
(5 ms) to ask for it. So a short look is enough only if the process had time to spare
during it; else the clock of a thread must stand still for several such intervals.
Knows neither jobs nor queues.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from djserve.cpus import count_cpus, measure_cpus
from djserve.system import READ, read_at

IDLE_SHARE = 0.2
"""Up to here, as a share of the time of a look, a thread counts as waiting."""

STANDSTILL = 0.03
"""Seconds without any CPU time after which a thread waits, whichever has the lock."""

REST = 0.001
"""Seconds of CPU time after which a thread that waited counts as one that computes."""


class Member(Protocol):
    """A thread at work; the last two are for ``judge`` alone."""

    clock: int | None
    is_waiting: bool
    cpu_seen: float
    moved_at: float


def open_clock(ident: int) -> int | None:
    """Return the CPU clock of a thread that lives; None if there are none."""
    open_it = getattr(time, "pthread_getcpuclockid", None)
    return None if open_it is None else open_it(ident)


def read_clock(member: Member) -> float | None:
    """Return the seconds of CPU time that a thread has used; None if it has ended."""
    if member.clock is None:
        return None
    try:
        return time.clock_gettime(member.clock)
    except OSError:
        return None


def judge(
    member: Member,
    before: float | None,
    begun: float,
    elapsed: float,
    *,
    was_busy: bool,
) -> bool:
    """Return whether a thread waits, after a look of ``elapsed`` seconds.

    ``before`` is what its clock said at the look's start, ``begun`` when it began with
    what it runs, ``was_busy`` whether threads may have waited for their turns.
    """
    now = monotonic()
    after = read_clock(member)
    if after is not None and member.is_waiting:
        return after - member.cpu_seen <= REST
    if before is None or after is None:
        # Without clocks: what takes long while there is nothing to take turns for.
        return not was_busy and now - begun > STANDSTILL
    used = after - before
    if not was_busy:
        member.cpu_seen = after
        return used < IDLE_SHARE * elapsed
    if after > member.cpu_seen or member.moved_at < begun:
        member.cpu_seen, member.moved_at = after, now
        return False
    return now - member.moved_at > STANDSTILL


SCHEDULE = "/proc/thread-self/schedstat"
"""Nanoseconds that a thread has run, and has waited for a CPU (Linux)."""

GRACE = 0.0002
"""Seconds that a wake-up may be late by itself; a timer alone takes a third of it."""

FULL = 0.8
"""Share of the CPUs that this process may use, from which on it has no more to gain.

For Python without its lock. With it, fewer threads would leave the rest of the CPUs
unused where jobs wait for a database (benchmark: django_session_postgresql).
"""

OFTEN = 0.9
"""From here on lock or CPU is always wanted: one thread less would lose nothing."""

SELDOM = 0.6
"""Up to here there is time in which no thread runs: one more could use it."""

NEITHER = (OFTEN + SELDOM) / 2

MEMORY = 12
"""Looks that weigh in the average."""


class ConcurrencyLimit:
    """A number of threads from 1 to ``most``, by looks at the lock and the CPUs.

    Without the lock it is not below the number of CPUs.
    """

    def __init__(self, most: int) -> None:
        self.value = self._most = most
        self.least = 1 if has_interpreter_lock() else min(most, count_cpus())
        self._held = NEITHER

    def take_note(self, was_held: bool) -> None:
        """Adapt to one look: whether one more thread would only have had to wait."""
        self._held += (was_held - self._held) / MEMORY
        if self._held > OFTEN:
            self.value = max(self.least, 3 * self.value // 4)
            # What this does must show before the next step.
            self._held = NEITHER
        elif self._held < SELDOM and self.value < self._most:
            self.value = min(self._most, 2 * self.value)
            self._held = NEITHER


class LockProbe:
    """A thread that naps, and learns when it wakes whether Python has been busy.

    To be used in one thread, and closed. ``full`` is the share of the CPUs from which
    on one more thread would only wait, even if the lock is free.
    """

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.process_time,
        full: float | None = None,
    ) -> None:
        self.was_held = False
        """What the last nap found."""
        self.was_busy = False
        """Whether this process used more than half of a CPU in that time: then a thread
        that used none may only have waited for its turn."""
        self._now = now
        self._used = used
        self._cpus = measure_cpus().share
        self._has_lock = has_interpreter_lock()
        if full is None:
            full = math.inf if self._has_lock else FULL
        self._full = full
        self._schedule = open_schedule() if self._has_lock else None

    @property
    def can_tell(self) -> bool:
        """Whether waiting for the lock can be told from waiting for a CPU."""
        return self._schedule is not None or not self._has_lock

    def nap(self, seconds: float) -> bool:
        """Sleep; True if there was no use for another thread of this process.

        The sleeper needs the interpreter's lock when it wakes: it is as late as it had
        to wait for that, and for a CPU.
        """
        begun, waited, used = self._now(), self._waited_for_cpu(), self._used()
        time.sleep(seconds)
        elapsed, used = self._now() - begun, self._used() - used
        self.was_busy = used > elapsed / 2
        wait = elapsed - seconds - (self._waited_for_cpu() - waited)
        is_full = used > self._full * elapsed * self._cpus
        self.was_held = is_full or (self._has_lock and wait > GRACE)
        return self.was_held

    def close(self) -> None:
        if self._schedule is not None:
            os.close(self._schedule)

    def _waited_for_cpu(self) -> float:
        if self._schedule is None:
            return 0.0
        return int(read_at(self._schedule, 64, 0).split()[1]) / 1e9


def open_schedule() -> int | None:
    """Return a file descriptor for this thread's figures, None if there are none."""
    try:
        return os.open(SCHEDULE, READ)
    except OSError:
        return None


def has_interpreter_lock() -> bool:
    """Whether one thread at a time runs Python; not so in free-threaded builds."""
    is_enabled: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
    return is_enabled()

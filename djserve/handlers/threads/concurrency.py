"""How many threads are worth running at once, by how sought lock and CPU are.

Python runs one thread at a time, and a CPU too. Where jobs compute, a second thread
adds nothing but turns to take, and threads that write to one database wait for each
other's locks in naps; where jobs wait for something else, each thread adds its share.
Python without its lock (a free-threaded build) runs a thread on each CPU: there the
CPUs alone are looked at, and each keeps one. Knows neither jobs nor queues.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from djserve.system import READ, count_cpus, read_at

SCHEDULE = "/proc/thread-self/schedstat"
"""Nanoseconds that a thread has run, and has waited for a CPU (Linux)."""

GRACE = 0.0002
"""Seconds that a wake-up may be late by itself; a timer alone takes a third of it."""

FULL = 0.8
"""Share of the CPUs that this process may use, from which on it has no more to gain.

What is left would make up for less than what threads lose to each other where they
write to one SQLite file (benchmark: django_session).
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

    To be used in one thread, and closed.
    """

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.process_time,
    ) -> None:
        self.was_held = False
        """What the last nap found."""
        self.was_busy = False
        """Whether this process used more than half of a CPU in that time: then a thread
        that used none may only have waited for its turn."""
        self._now = now
        self._used = used
        self._cpus = count_cpus()
        self._has_lock = has_interpreter_lock()
        self._schedule = open_schedule() if self._has_lock else None

    @property
    def can_tell(self) -> bool:
        """Whether waiting for the lock can be told from waiting for a CPU."""
        return self._schedule is not None or not self._has_lock

    def nap(self, seconds: float) -> bool:
        """Sleep; True where there was no use for another thread of this process.

        The sleeper needs the interpreter's lock when it wakes: it is as late as it had
        to wait for that, and for a CPU that other processes use. Code without the lock
        (SQLite's) may keep all CPUs busy too.
        """
        begun, waited, used = self._now(), self._waited_for_cpu(), self._used()
        time.sleep(seconds)
        elapsed, used = self._now() - begun, self._used() - used
        self.was_busy = used > elapsed / 2
        wait = elapsed - seconds - (self._waited_for_cpu() - waited)
        is_full = used > FULL * elapsed * self._cpus
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
    """Return a file descriptor for this thread's figures, None where there are none."""
    try:
        return os.open(SCHEDULE, READ)
    except OSError:
        return None


def has_interpreter_lock() -> bool:
    """Whether one thread at a time runs Python; not so in free-threaded builds."""
    is_enabled: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
    return is_enabled()

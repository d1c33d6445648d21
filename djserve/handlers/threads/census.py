"""Which of the threads at work compute, and which only wait for something.

A thread that waits (for a socket, a lock, a database, in a sleep) uses no CPU. One that
wants the interpreter's lock uses next to none, but wakes after each switch interval
(5 ms) to ask for it. So a short look is enough only if the process had time to spare
during it; else the clock of a thread must stand still for several such intervals.
"""

from __future__ import annotations

import time
from time import monotonic
from typing import Protocol

IDLE_SHARE = 0.2
"""Up to here, as a share of the time of a look, a thread counts as waiting."""

STANDSTILL = 0.03
"""Seconds without any CPU time after which a thread waits, whichever has the lock."""

REST = 0.001
"""Seconds of CPU time after which a thread that waited counts as one that computes."""


class Member(Protocol):
    """A thread at work; the last two are the census' own."""

    clock: int | None
    is_waiting: bool
    cpu_seen: float
    moved_at: float


def open_clock(ident: int) -> int | None:
    """Return the CPU clock of a thread that lives; None where there are none."""
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

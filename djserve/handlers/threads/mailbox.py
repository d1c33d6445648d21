"""What one event loop and the threads hand to each other, many things at a time.

Each hand-over by itself costs switches between the loop's thread and another, which
want the interpreter's lock in turns. Knows neither requests nor Django.
"""

# Why hand-overs are gathered
#
# The event loop's thread and a worker's thread share one interpreter lock. A thread
# that is woken asks for the lock, waits up to a switch interval for it, and takes it
# from a loop that is in the middle of its turn; so does the loop that is woken for a
# result. With a wake-up for each request and another for each response, the two would
# interrupt each other all the time. Both directions are gathered, in two ways, since
# one end is the loop and the other any thread:
#
# - Down, only the loop calls ``post``. A lease takes the job at once, so that it can be
#   withdrawn, but no thread is woken before the loop has read all that had arrived in
#   this turn. ``pool.arriving`` counts what has been enlisted and not yet admitted, so
#   that a thread that ends a job in between knows that others want it.
# - Up, any thread calls ``put``. The deque needs no lock of its own (its operations are
#   atomic), and ``_woken`` allows one wake-up until the loop has run. Two threads that
#   see it unset at the same time wake the loop twice, which does no harm.
#
# No result is left behind. A thread appends before it reads ``_woken``, and the loop
# clears ``_woken`` before it empties the deque: a thread that still finds it set has
# appended before the loop takes anything out.
#
# A result is delivered in an empty context. The context of ``call_soon_threadsafe``
# would otherwise be that of the first request of the batch, and what one request has in
# its context variables must never be seen by the code of another.

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context

from djserve.handlers.threads.leases import Job, Lease
from djserve.net.forks import end_stray_child


class Mailbox:
    """Jobs of one turn of the loop go together; many results share one wake-up."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._leases: list[Lease] = []
        self._deliveries: deque[Callable[[], None]] = deque()
        self._woken = False
        self._context = Context()

    def post(self, lease: Lease, job: Job) -> None:
        """Have a lease run ``job``, from the loop's next turn on; called by the loop.

        A thread that wakes for the first of many requests takes the interpreter's lock
        as soon as the loop reads the second (benchmark: django_sync).
        """
        if lease.enlist(job):
            if not self._leases:
                self.loop.call_soon(self._begin)
            self._leases.append(lease)

    def put(self, delivery: Callable[[], None]) -> None:
        """Have ``delivery`` called by the loop; from any thread."""
        self._deliveries.append(delivery)
        if self._woken:
            return
        self._woken = True
        try:
            # In no request's context, least of all in that of who happens to be first.
            self.loop.call_soon_threadsafe(self._deliver, context=self._context)
        except RuntimeError:
            # The loop is closed: nobody is left to wait for the result. Or a view has
            # forked, and this is the child.
            self._deliveries.clear()
            end_stray_child()

    def _begin(self) -> None:
        leases, self._leases = self._leases, []
        for lease in leases:
            lease.begin()

    def _deliver(self) -> None:
        # Cleared first: what is put from now on wakes the loop again.
        self._woken = False
        deliveries = self._deliveries
        try:
            while deliveries:
                deliveries.popleft()()
        finally:
            if deliveries:
                # One has raised; the others have nothing to do with that.
                self.loop.call_soon(self._deliver)

"""What one event loop and the threads hand to each other, many things at a time.

Each hand-over by itself costs switches between the loop's thread and another, which
want the interpreter's lock in turns. Knows neither requests nor Django.
"""

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

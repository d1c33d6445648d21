"""Places of databases: taken by threads, shared by views, waited for in order.

A job takes a place before its first use of a connection, be it open already or not. One
view gets its share of the places, as of the threads (``fairness``), or a report that
queries and then waits would hold up the login page all the same. The threads that do
nothing with their connections give them back: ``ThreadPool.interrupt`` has idle and
parked ones do so, and one that an earlier job has left open is taken away.

A job may hold places of one database while it waits for one of another. If all that
hold places of a database wait in such a way for each other, the first that waits gets
one beyond the bound: in the middle of transactions, nothing else would end it.

Knows neither Django nor drivers.
"""

# What the books say, and how a wait ends
#
# A holder has a place as long as its connection is open. It is *active* if the job that
# runs in its thread has used it, or if it is in the middle of something; all others are
# open but unused, and may be closed for somebody else. Shares are counted over the
# active ones alone.
#
# A wait ends in one of four ways:
#
# - A place comes free (``give``), and goes to the first in the queue that may have it.
#   A view at its share is passed over, not waited for.
# - A waiting thread reclaims one itself (``_reclaim``): an idle or parked thread is
#   asked for its connection, and a busy one that has not used it in this job loses it.
#   What an ended request has left open goes to the waiting thread as it is
#   (``hand_on``), since to open one costs more than many requests do. As many are
#   asked as there are waiters that could use one, so a burst does not close connections
#   that will be needed again.
# - All that hold places of this database wait for each other (``is_stuck``), directly
#   or through other databases. Nothing would end that but a timeout, and the
#   transactions would hold their locks until then. One more than the bound is allowed.
# - The time is over, and the job gets an error.
#
# What holds a place may need a thread before it gives it back: a stream between two of
# its parts, an async view between two queries. If all threads wait for places, it would
# get none. So while any thread waits, such jobs begin outside of the pool's bounds
# (``ThreadPool.hasten``). There are no more of them than places.
#
# The first that waits looks again every PACE seconds, for all. The end of a job changes
# the shares even if no connection is closed; to report each end here would cost every
# job a lock, also on sites where nothing ever waits. If all looked, a hundred that wait
# would keep a CPU busy with that.
#
# A request may leave a cursor open that is garbage, but in a cycle: its thread is idle
# or kept then, with a connection that is in use. While any thread waits, garbage is
# collected for that (``_collect_garbage``): first what has been made lately, where most
# such cursors are, then all, which a large process takes a second for. Each of the two
# gets at most a fiftieth of the time.
#
# A connection that is in the middle of something never waits for the place that it
# already has: nothing else could free it.

from __future__ import annotations

import gc
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable
from operator import itemgetter
from typing import Any, Protocol

from djserve.handlers.threads.fairness import Use, is_within_share
from djserve.handlers.threads.leases import PoolThread

logger = logging.getLogger("djserve.handlers")

PACE = 0.05
"""Seconds between two looks for a thread that could give its connection back."""

LONG = 1.0
"""Seconds of waiting that are worth a line in the log."""

REPORT_PAUSE = 60.0
"""Seconds between two such lines."""

COLLECTION_PAUSE = 50.0
"""Between two collections of a generation, as so many times what one has taken."""


class PlaceError(Exception):
    """No place has come free in time."""


class Holder(Protocol):
    """One thread's connection to one database."""

    worker: PoolThread
    used_at: int
    """The worker's turn in which it was last taken."""

    def is_idle(self) -> bool:
        """Return whether there is a connection that could be closed."""

    def is_in_use(self) -> bool:
        """Return whether the connection is in the middle of something."""

    def accepts(self) -> bool:
        """Return whether a connection of another thread is of use to it."""

    def detach(self) -> Callable[[], object] | None:
        """Give the connection up, in any thread; return what closes it."""

    def part(self) -> object | None:
        """Return the connection for another thread; None if it must be closed."""

    def forget(self) -> None:
        """Leave the connection to the thread that has got it."""


class Waiter:
    """A job that waits for a place.

    ``gift`` is the connection that came with it, if its holder accepts one.
    ``event`` is set once it has got it, and when it is the first of those that wait.
    """

    gift: object | None = None
    _has_place = False

    def __init__(self, holder: Holder) -> None:
        self.holder = holder
        self.since = time.monotonic()
        self.event = threading.Event()

    def has_place(self) -> bool:
        """Return whether it need not wait any more."""
        return self._has_place

    def end(self) -> None:
        """It has got its place."""
        self._has_place = True
        self.event.set()


class Ledger:
    """The places of all databases for the threads of one pool."""

    def __init__(self, pool: Any, timeout: float) -> None:
        self.pool = pool
        self.timeout = timeout
        # One for all, to see who waits for whom. An object that the garbage collector
        # ends may give its place back while the same thread is in here.
        self.lock = threading.RLock()
        self.waiting: dict[PoolThread, Places] = {}
        """What each thread waits for, that waits."""
        self._places: dict[str, Places] = {}

    def places_of(self, alias: str, limit: int) -> Places:
        """Return the places of a database, so many of them."""
        with self.lock:
            places = self._places.get(alias)
            if places is None:
                places = self._places[alias] = Places(self, alias, limit)
            return places

    @property
    def is_wanted(self) -> bool:
        """Whether a thread waits for any place."""
        return bool(self.waiting)

    def is_stuck(self, wanted: Places) -> bool:
        """Whether all that hold places of a database wait for others that do so too."""
        active = {places: places.active() for places in self._places.values()}
        live: set[Places | None] = {None}
        while True:
            # What a thread waits for that does not wait is None.
            more = {
                places
                for places, holders in active.items()
                if not holders
                or any(self.waiting.get(holder.worker) in live for holder in holders)
            }
            if more <= live:
                return wanted not in live
            live |= more


class Places:
    """The places of one database."""

    def __init__(self, ledger: Ledger, alias: str, limit: int) -> None:
        self._ledger = ledger
        self.lock = ledger.lock
        self._pool = ledger.pool
        self.alias = alias
        self.limit = limit
        self._waiters: list[Waiter] = []
        self._holders: dict[Holder, None] = {}
        self._next_report = 0.0
        # By what they collect: the generations of young objects, or all objects.
        self._next_collections = {1: 0.0, 2: 0.0}

    def has(self, holder: Holder) -> bool:
        """Return whether this connection has a place."""
        return holder in self._holders

    def take(self, holder: Holder, give_back: Callable[[], object]) -> object | None:
        """Return once there is a place for what a job does with a connection.

        Raises PlaceError if none comes free in time. ``give_back`` is called, in
        threads that have ended a job or do nothing, for them to give theirs up. What
        another has given up is returned if the holder accepts it.
        """
        worker = holder.worker
        asked_at = time.monotonic()
        with self.lock:
            if worker.use is None:
                worker.use = Use(self.alias, self.limit, asked_at)
            if not self._waiters and self._fits(holder):
                self._enter(holder)
                return None
            if holder in self._holders and holder.is_in_use():
                # It is in the middle of something, and would wait for itself.
                self._enter(holder)
                return None
            waiter = Waiter(holder)
            self._waiters.append(waiter)
            self._ledger.waiting[worker] = self
            self._dispatch()
        lease = worker.lease
        if lease is not None:
            lease.begin_waiting()
        try:
            self._wait(waiter, give_back)
        finally:
            with self.lock:
                self._ledger.waiting.pop(worker, None)
                if waiter in self._waiters:
                    self._remove(waiter)
            waited = time.monotonic() - asked_at
            worker.use = Use(self.alias, self.limit, asked_at, waited)
            if lease is not None:
                lease.end_waiting()
        return waiter.gift

    def hand_on(self, holder: Holder, gift: object) -> bool:
        """Give a holder's place to the first that can use its connection as well.

        False if no one can: then it is to be closed, and the place given back.
        """
        with self.lock:
            if holder not in self._holders:
                return False
            self._leave(holder)
            active = self.active()
            for waiter in self._waiters:
                if (
                    # No consumer gets what a request has set.
                    waiter.holder.worker.group == holder.worker.group
                    and waiter.holder.accepts()
                    and self._fits(waiter.holder, active)
                ):
                    waiter.gift = gift
                    self._grant(waiter)
                    return True
            self._join(holder)
            return False

    def end_use(self, holder: Holder) -> None:
        """The job has ended that has used a connection: it does not count any more."""
        with self.lock:
            holder.used_at = 0
            self._dispatch()

    def has_use_for(self, holder: Holder) -> bool:
        """Return whether a holder's place would go to another if it were given back."""
        with self.lock:
            if holder not in self._holders:
                return False
            if len(self._holders) > self.limit:
                return True
            self._leave(holder)
            active = self.active()
            try:
                return any(
                    waiter.holder not in self._holders
                    and self._fits(waiter.holder, active)
                    for waiter in self._waiters
                )
            finally:
                self._join(holder)

    def give(self, holder: Holder) -> None:
        """Take a place back, for who has waited for longest."""
        with self.lock:
            if holder in self._holders:
                self._leave(holder)
            self._dispatch()

    @property
    def is_wanted(self) -> bool:
        """Whether a thread waits for a place."""
        return bool(self._waiters)

    def active(self) -> list[Holder]:
        """Return the connections that running jobs have used, or that are in use."""
        return [
            holder
            for holder in [*self._holders]
            if self._is_used(holder) or holder.is_in_use()
        ]

    def _is_used(self, holder: Holder) -> bool:
        worker = holder.worker
        return holder.used_at == worker.turn and self._pool.is_busy(worker)

    def _fits(self, holder: Holder, active: list[Holder] | None = None) -> bool:
        """Whether a place may be taken: there is one, and it is within the share.

        ``active`` spares who asks for many the same count for each.
        """
        if len(self._holders) >= self.limit and holder not in self._holders:
            return False
        return self._is_within_share(holder, active)

    def _is_within_share(
        self, holder: Holder, active: list[Holder] | None = None
    ) -> bool:
        view = holder.worker.view
        share = self._pool.share
        if view is None or share >= 1:
            return True
        if active is None:
            active = self.active()
        others = [other.worker.view for other in active if other is not holder]
        count = others.count(view)
        return not count or is_within_share(count, self.limit - len(others), share)

    def _enter(self, holder: Holder) -> None:
        if holder not in self._holders:
            self._join(holder)
        holder.used_at = holder.worker.turn

    def _join(self, holder: Holder) -> None:
        self._holders[holder] = None
        holder.worker.places += 1

    def _leave(self, holder: Holder) -> None:
        del self._holders[holder]
        holder.worker.places -= 1

    def _dispatch(self) -> None:
        if not self._waiters:
            return
        active = self.active()
        for waiter in [*self._waiters]:
            # One may have got it meanwhile: the garbage collector gives places back.
            if not waiter.has_place() and self._fits(waiter.holder, active):
                self._grant(waiter)
                active = self.active()

    def _grant(self, waiter: Waiter) -> None:
        self._remove(waiter)
        self._ledger.waiting.pop(waiter.holder.worker, None)
        self._enter(waiter.holder)
        waiter.end()

    def _remove(self, waiter: Waiter) -> None:
        was_first = self._waiters[0] is waiter
        self._waiters.remove(waiter)
        if was_first and self._waiters:
            # It looks for all from now on.
            self._waiters[0].event.set()

    def _wait(self, waiter: Waiter, give_back: Callable[[], object]) -> None:
        deadline = waiter.since + self._ledger.timeout
        while not waiter.has_place():
            self._pool.on_return = give_back
            self._pool.hasten()
            self._reclaim(give_back)
            self._collect_garbage()
            left = deadline - time.monotonic()
            pause = min(PACE, left) if self._is_first(waiter) else left
            waiter.event.wait(max(0.0, pause))
            with self.lock:
                if waiter.has_place():
                    return
                waiter.event.clear()
                # Jobs may have ended that have left their connections open.
                self._dispatch()
                self._rescue()
                if waiter.has_place():
                    return
                if left <= 0:
                    # While none can be granted any more.
                    self._remove(waiter)
                    raise PlaceError
                self._report()

    def _is_first(self, waiter: Waiter) -> bool:
        with self.lock:
            return bool(self._waiters) and self._waiters[0] is waiter

    def _rescue(self) -> None:
        """Let one more connect if all that are connected wait for each other."""
        if self._waiters and self._ledger.is_stuck(self):
            self._grant(self._waiters[0])

    def _reclaim(self, give_back: Callable[[], object]) -> None:
        """Ask as many idle threads for their connections as threads wait for one."""
        with self.lock:
            active = self.active()
            wanted = len(self._holders) - self.limit
            wanted += sum(
                waiter.holder not in self._holders
                and self._is_within_share(waiter.holder, active)
                for waiter in self._waiters
            )
            holders = [*self._holders]
        for holder in holders:
            if wanted <= 0:
                return
            if holder.is_idle() and (
                self._pool.interrupt(holder.worker, give_back)
                or self._take_away(holder)
            ):
                wanted -= 1

    def _collect_garbage(self) -> None:
        """Collect garbage if that alone may keep a connection in use, but seldom."""
        for generation, due in [*self._next_collections.items()]:
            now = time.monotonic()
            if now >= due and any(map(self._is_left, [*self._holders])):
                gc.collect(generation)
                took = time.monotonic() - now
                self._next_collections[generation] = now + took * COLLECTION_PAUSE

    def _is_left(self, holder: Holder) -> bool:
        """Return whether a connection is in use without a job that is known to be."""
        worker, lease = holder.worker, holder.worker.lease
        return (
            not self._pool.is_busy(worker)
            and (lease is None or lease.worker is not worker or lease.is_kept)
            and holder.is_in_use()
        )

    def _take_away(self, holder: Holder) -> bool:
        """Take a connection that the thread's job has not used so far."""
        with self.lock:
            if (
                holder not in self._holders
                or holder.used_at == holder.worker.turn
                or not holder.is_idle()
                or not self.has_use_for(holder)
            ):
                return False
            gift = holder.part()
            if gift is not None and self.hand_on(holder, gift):
                holder.forget()
                return True
            close = holder.detach()
            if close is None:
                return False
        close()
        self.give(holder)
        return True

    def _report(self) -> None:
        """Log, seldom, that jobs wait for long, and what has the connections."""
        now = time.monotonic()
        waited = now - self._waiters[0].since
        if waited < LONG or now < self._next_report:
            return
        self._next_report = now + REPORT_PAUSE
        names: Counter[Hashable] = Counter(
            getattr(holder.worker.lease, "view_name", "") or holder.worker.view
            for holder in self.active()
        )
        busiest = sorted(names.items(), key=itemgetter(1), reverse=True)[:3]
        logger.warning(
            "%d calls wait for a connection to the database %r, the first for %.1f s; "
            "%d of at most %d are in use (%s): DATABASE_CONNECTIONS bounds them",
            len(self._waiters),
            self.alias,
            waited,
            names.total(),
            self.limit,
            ", ".join(f"{name}: {count}" for name, count in busiest),
        )

"""How many threads of a pool may be connected to one database at a time.

A thread that wants a connection beyond that waits for one, in order of arrival, and the
threads that do nothing with theirs give them back: those that are idle, parked between
two jobs, or done with one close them. One that an earlier job has left open is taken
from a thread whose job has not asked for it. A connection in the middle of rows or of a
transaction stays.

Django makes a connection object for each thread and alias (``create_connection``). In
a pool's threads such an object gets ``connect``, ``_close`` and ``_cursor`` that count;
Django's classes stay as they are. Django's pool of connections (``OPTIONS["pool"]``) is
asked only once a place has been found here, so it is not emptied by idle threads.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from django.db import OperationalError, connections

from djserve.handlers.cursors import is_connection_in_use
from djserve.handlers.leases import Worker, current_worker
from djserve.handlers.threads import ThreadPool

logger = logging.getLogger("djserve.handlers")

PACE = 0.05
"""Seconds between two looks for a thread that could give its connection back."""

_bounds: weakref.WeakKeyDictionary[ThreadPool, ConnectionBound] = (
    weakref.WeakKeyDictionary()
)


def bound_connections(pool: ThreadPool, most: int | None, timeout: float) -> None:
    """Let at most ``most`` threads of a pool connect to each database.

    By default that is as many as may compute at a time, save for SQLite, whose
    connections cost nobody anything.
    """
    _bounds[pool] = ConnectionBound(pool, most, timeout)
    if not isinstance(connections.__dict__.get("create_connection"), _Creation):
        connections.create_connection = _Creation(  # type: ignore[method-assign]
            connections.create_connection
        )


class _Creation:
    """Takes the place of ``connections.create_connection``."""

    def __init__(self, create: Callable[[str], Any]) -> None:
        self._create = create

    def __call__(self, alias: str) -> Any:
        connection = self._create(alias)
        worker = current_worker()
        bound = None if worker is None else _bounds.get(worker.pool)
        if worker is not None and bound is not None:
            bound.attach(connection, worker)
        return connection


class ConnectionBound:
    """The places of each database for the threads of one pool."""

    def __init__(self, pool: ThreadPool, most: int | None, timeout: float) -> None:
        self._pool = weakref.proxy(pool)
        self._default = pool.size
        self._most = most
        self._timeout = timeout
        self._lock = threading.Lock()
        self._places: dict[str, Places] = {}

    def attach(self, connection: Any, worker: Worker) -> None:
        """Have a thread's connection object ask for a place before it connects."""
        places = self._places_of(connection)
        if places is not None:
            place = _Place(connection, worker, places)
            connection.connect = place.connect
            connection._close = place.close
            connection._cursor = place.cursor

    @property
    def is_wanted(self) -> bool:
        """Whether a thread waits for a place."""
        return any(places.is_wanted for places in [*self._places.values()])

    def _places_of(self, connection: Any) -> Places | None:
        limit = self._limit(connection)
        if limit is None:
            return None
        with self._lock:
            places = self._places.get(connection.alias)
            if places is None:
                places = Places(self._pool, connection.alias, limit, self._timeout)
                self._places[connection.alias] = places
            return places

    def _limit(self, connection: Any) -> int | None:
        if connection.vendor == "sqlite":
            # One in memory is never closed.
            return None if connection.is_in_memory_db() else self._most
        limit = self._default if self._most is None else self._most
        size = pool_size(connection.settings_dict)
        return limit if size is None else min(limit, size)


class Places:
    """The places of one database: taken, given back, and waited for in order."""

    def __init__(self, pool: Any, alias: str, limit: int, timeout: float) -> None:
        self._pool = pool
        self._alias = alias
        self._limit = self._free = limit
        self._timeout = timeout
        # An object that the garbage collector ends may give its place back while the
        # same thread is in here.
        self._lock = threading.RLock()
        self._waiters: deque[threading.Event] = deque()
        self._holders: dict[_Place, None] = {}

    def take(self, place: _Place) -> None:
        """Return once there is a place; raises OperationalError if none comes free."""
        with self._lock:
            self._holders[place] = None
            if self._free and not self._waiters:
                self._free -= 1
                return
            waiter = threading.Event()
            self._waiters.append(waiter)
        try:
            self._wait(waiter)
        except BaseException:
            with self._lock:
                del self._holders[place]
            raise

    def give(self, place: _Place) -> None:
        """Take a place back, for who has waited for longest."""
        with self._lock:
            self._holders.pop(place, None)
            if self._waiters:
                self._waiters.popleft().set()
            else:
                self._free += 1

    @property
    def is_wanted(self) -> bool:
        """Whether a thread waits for a place."""
        return bool(self._waiters)

    def _wait(self, waiter: threading.Event) -> None:
        deadline = time.monotonic() + self._timeout
        while not waiter.is_set():
            self._pool.on_return = _give_back
            self._reclaim()
            left = deadline - time.monotonic()
            if waiter.wait(max(0.0, min(PACE, left))):
                return
            if left <= 0 and self._give_up(waiter):
                raise OperationalError(
                    f"No connection to the database {self._alias!r} has come free in "
                    f"{self._timeout:g} seconds: all {self._limit} that "
                    "DATABASE_CONNECTIONS allows in this process are in use"
                )

    def _give_up(self, waiter: threading.Event) -> bool:
        with self._lock:
            if waiter.is_set():
                return False
            self._waiters.remove(waiter)
            return True

    def _reclaim(self) -> None:
        """Ask as many idle threads for their connections as threads wait for one."""
        with self._lock:
            wanted, holders = len(self._waiters), [*self._holders]
        for place in holders:
            if wanted <= 0:
                return
            if place.is_idle() and (
                self._pool.interrupt(place.worker, _give_back) or place.take_away()
            ):
                wanted -= 1


class _Place:
    """What counts one thread's connection to one database."""

    def __init__(self, connection: Any, worker: Worker, places: Places) -> None:
        self.worker = worker
        self.places = places
        # Strong, it would make a cycle.
        self._connection = weakref.ref(connection)
        self._is_taken = False
        self._used_at = 0
        # Not Lock: the garbage collector may come here, too.
        self._lock = threading.RLock()
        weakref.finalize(connection, self._free).atexit = False
        connection.__dict__["_djserve_place"] = self

    def connect(self) -> None:
        """Connect as the connection's class does, once there is a place."""
        connection: Any = self._connection()
        if not self._is_taken:
            self.places.take(self)
            self._is_taken = True
        try:
            type(connection).connect(connection)
        except BaseException:
            self._free()
            raise

    def cursor(self, name: str | None = None) -> Any:
        """Make a cursor as the connection's class does: the job uses the connection."""
        connection: Any = self._connection()
        with self._lock:
            self._used_at = self.worker.turn
        return type(connection)._cursor(connection, name)

    def close(self) -> None:
        """Close as the connection's class does, and give the place back."""
        connection: Any = self._connection()
        try:
            with self._lock:
                type(connection)._close(connection)
        finally:
            self._free()

    def take_away(self) -> bool:
        """Close a connection that the thread's job has not used so far; any thread."""
        connection: Any = self._connection()
        with self._lock:
            if self._used_at == self.worker.turn or not self.is_idle():
                return False
            if pool_size(connection.settings_dict) is not None:
                # Django's pool must get its connections back, and leaves none open.
                return False
            driver, connection.connection = connection.connection, None
        try:
            driver.close()
        except Exception:
            logger.exception("A database connection could not be closed")
        self._free()
        return True

    def is_idle(self) -> bool:
        """Whether there is a connection that could be closed, as far as one can see."""
        connection = self._connection()
        return (
            connection is not None
            and connection.connection is not None
            and not is_connection_in_use(connection)
        )

    def _free(self) -> None:
        with self._lock:
            was_taken, self._is_taken = self._is_taken, False
        if was_taken:
            self.places.give(self)


def _give_back() -> None:
    """Close the connections of this thread that others wait for, if it can do so."""
    for connection in connections.all(initialized_only=True):
        place: _Place | None = connection.__dict__.get("_djserve_place")
        if (
            place is not None
            and place.places.is_wanted
            and not is_connection_in_use(connection)
        ):
            connection.close()
    worker = current_worker()
    bound = None if worker is None else _bounds.get(worker.pool)
    if worker is not None and not (bound is not None and bound.is_wanted):
        # Set again by the next that waits, every few moments.
        worker.pool.on_return = None


def pool_size(database: dict[str, Any]) -> int | None:
    """Return the most connections that a database's pool opens; None without one."""
    pool = database.get("OPTIONS", {}).get("pool")
    if not pool:
        return None
    options = pool if isinstance(pool, dict) else {}
    smallest: int = options.get("min_size", DEFAULT_POOL_SIZE)
    largest: int | None = options.get("max_size")
    return smallest if largest is None else largest


# What Django's pool has by default: that of psycopg_pool.ConnectionPool.
DEFAULT_POOL_SIZE = 4

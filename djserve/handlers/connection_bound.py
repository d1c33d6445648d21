"""How many threads of a pool may be connected to one database at a time.

Who gets one, and who waits, is a matter of ``places``: in order, view by view. Here it
is tied to Django's connections.

Django makes a connection object for each thread and alias (``create_connection``). In
a pool's threads such an object gets ``connect``, ``set_autocommit``, ``_close`` and
``_cursor`` that ask for places; Django's classes stay as they are. Django's pool of
connections (``OPTIONS["pool"]``) is asked only once a place has been found here, so it
is not emptied by idle threads.
"""

# Why connections are bounded, and not only threads
#
# A pool has more threads than views that compute, since most views wait for something.
# Django gives each thread its own connection, and PostgreSQL has 100 in all by default,
# for all workers, each of them a process. Without a bound, a burst of slow requests
# makes the database refuse: to the site's other workers, and to its administrators.
#
# The bound must not be reached by threads that do nothing with a connection. Django
# keeps one open for CONN_MAX_AGE, and a view that has made its queries and now waits
# for a mail server holds one too. So a place belongs to the use and not to the
# connection (``_Place._take``): it is asked for before the first use in each job, also
# of a connection that is already open. Who waits has idle threads close theirs, or
# takes one away (``places``). Only a connection in the middle of something, with open
# cursors or inside a transaction, stays where it is.
#
# A thread that waits for a place uses no processor. The pool sees that by the thread's
# clock, as of any other wait, and lets another run in its stead. ``begin_waiting`` has
# the time counted as a wait of the job.
#
# A session may hold what a request has set in it: a role, a search path, the user for
# row-level security. A request that begins finds what the last one has left, as with
# Django's persistent connections, and its middleware sets what is its own. One that
# goes on in another session does not set it again, so that must be new, or renewed
# (``_has_lost``).
#
# The database may still refuse, because someone else uses it as well. That is no error
# of the request: it is tried again until DATABASE_CONNECTION_TIMEOUT, as the old
# workers of a rollout may be about to give theirs up. A refusal is told from other
# failures by the driver's code or by PostgreSQL's text. What is not recognised is
# raised at once.
#
# All of this is put on instances, in the pool's threads only. A connection that is made
# elsewhere, in a management command or by asynchronous code in another executor, is
# Django's own, without a bound. So are those of a process that a view forks: the books
# there are a copy, in which the parent's threads would never give a place back.

from __future__ import annotations

import logging
import os
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from django.db import OperationalError, connections

from djserve.handlers.cursors import (
    close_cursors,
    has_postponed_cursors,
    is_connection_in_use,
    untrack,
)
from djserve.handlers.threads.leases import (
    REQUESTS,
    Lease,
    Pool,
    PoolThread,
    current_worker,
)
from djserve.handlers.threads.places import REPORT_PAUSE, Ledger, PlaceError, Places
from djserve.handlers.threads.pool import ThreadPool
from djserve.system import CAN_FORK

logger = logging.getLogger("djserve.handlers")

RETRY, LONGEST_RETRY = 0.1, 1.0
"""Seconds after which a database is asked again that had no connection left: twice as
many each time, since every refusal costs it a process and a line in its log."""

MYSQL_CODES = (1040, 1203, 1226)
"""Too many connections: of all, of a user, of an account."""

POSTGRESQL_TEXTS = (
    "too many clients already",
    "too many connections for",
    "remaining connection slots are reserved",
)
"""Of all, of a role or database, save those that are reserved."""

STATELESS_BACKENDS = (
    "dj_db_conn_pool.",
    "django_cockroachdb",
    "django_prometheus.",
    "mssql",
    "psqlextra.",
)
"""Backends beside Django's that keep nothing of a request in a connection object."""

_REPLACED = (
    "connect",
    "set_autocommit",
    "_close",
    "_cursor",
    "ensure_connection",
    "get_autocommit",
)
"""The methods of a connection that are replaced by those of its ``_Place``."""

_bounds: weakref.WeakKeyDictionary[Pool, ConnectionBound] = weakref.WeakKeyDictionary()


def bound_connections(pool: ThreadPool, most: int | None, timeout: float) -> None:
    """Let at most ``most`` threads of a pool connect to each database.

    By default that is as many as may compute at a time, save for SQLite, whose
    connections cost nothing.
    """
    _bounds[pool] = ConnectionBound(pool, most, timeout)
    if not isinstance(connections.__dict__.get("create_connection"), _Creation):
        connections.create_connection = _Creation(  # type: ignore[method-assign]
            connections.create_connection
        )
        if CAN_FORK:
            os.register_at_fork(after_in_child=_unbind)


def _unbind() -> None:
    """Leave this thread's connections to Django: this is a forked child."""
    _bounds.clear()
    for connection in connections.all(initialized_only=True):
        untrack(connection)
        place: _Place | None = connection.__dict__.pop("_djserve_place", None)
        if place is not None:
            for name in _REPLACED:
                vars(connection).pop(name, None)


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
    """What the threads of one pool may open."""

    def __init__(self, pool: ThreadPool, most: int | None, timeout: float) -> None:
        self.pid = os.getpid()
        self._default = pool.size
        self._most = most
        self.ledger = Ledger(weakref.proxy(pool), timeout)

    def attach(self, connection: Any, worker: PoolThread) -> None:
        """Have a thread's connection object ask for a place before it is used."""
        limit = self._limit(connection)
        if limit is None:
            return
        places = self.ledger.places_of(connection.alias, limit)
        place = _Place(connection, worker, places, self)
        for name in _REPLACED:
            setattr(connection, name, getattr(place, name.lstrip("_")))

    def _limit(self, connection: Any) -> int | None:
        if connection.vendor == "sqlite":
            # One in memory is never closed.
            return None if connection.is_in_memory_db() else self._most
        limit = self._default if self._most is None else self._most
        size = pool_size(connection.settings_dict)
        return limit if size is None else min(limit, size)

    def report_refusal(self, alias: str, limit: int, error: Exception) -> None:
        """Log, seldom, that the database itself has no connection left."""
        now = time.monotonic()
        if now < self._next_report:
            return
        self._next_report = now + REPORT_PAUSE
        logger.warning(
            "The database %r has no connection left (%s). Each worker may open %d: "
            "lower DATABASE_CONNECTIONS or the number of workers, or raise the "
            "database's own limit",
            alias,
            str(error).strip(),
            limit,
        )

    _next_report = 0.0


class _Handed:
    """A driver's connection on its way from one thread to another."""

    __slots__ = ("close_at", "driver")

    def __init__(self, driver: Any, close_at: float | None) -> None:
        self.driver = driver
        self.close_at = close_at


class _Place:
    """One thread's connection to one database, as the books know it."""

    _gives_up = False
    """Whether the thread closes it for another that waits."""
    _is_closing = False
    _user: weakref.ref[Lease] | None = None
    """What has used the session last, and may have set something in it."""

    def __init__(
        self,
        connection: Any,
        worker: PoolThread,
        places: Places,
        bound: ConnectionBound,
    ) -> None:
        self.worker = worker
        self.places = places
        self.used_at = 0
        self._bound = bound
        # Strong, it would make a cycle.
        self._connection = weakref.ref(connection)
        weakref.finalize(connection, self._free).atexit = False
        connection.__dict__["_djserve_place"] = self

    def connect(self) -> None:
        """Connect as the connection's class does, once there is a place.

        If the database has no connection left, it is asked again: those of another
        process may come free, as when one takes over from another.
        """
        connection: Any = self._connection()
        deadline = time.monotonic() + self._bound.ledger.timeout
        pause = RETRY
        while True:
            handed = self._take()
            try:
                if handed is None or not adopt(connection, handed):
                    self._open(connection)
            except BaseException as error:
                self._free()
                if not is_refusal(error) or time.monotonic() >= deadline:
                    raise
                assert isinstance(error, Exception)
                self._bound.report_refusal(self.places.alias, self.places.limit, error)
            else:
                self._note_use()
                return
            self._pause(pause)
            pause = min(2 * pause, LONGEST_RETRY)

    def _open(self, connection: Any) -> None:
        if self._has_lost() and is_pooled(connection) and can_reset(connection):
            with _opens(connection, partial(_get_reset, connection)):
                type(connection).connect(connection)
        else:
            type(connection).connect(connection)

    def ensure_connection(self) -> None:
        """Connect as the connection's class does; the job has its connection then.

        It may go on by the driver's own. One that is open is not waited for: Django
        comes here in the midst of transactions, too.
        """
        connection: Any = self._connection()
        if self.used_at != self.worker.turn:
            with self.places.lock:
                if connection.connection is not None:
                    self.used_at = self.worker.turn
            close_cursors(connection, only_postponed=True)
            self._make_own(connection)
        type(connection).ensure_connection(connection)

    def get_autocommit(self) -> bool:
        """Return the state of a connection; that alone does not use one that is open.

        Django asks for it before each request, to close what is old.
        """
        connection: Any = self._connection()
        if (
            connection.connection is not None
            and not connection.autocommit
            and self._has_lost()
        ):
            # A block begins, and does so by no other call.
            self._take_open(connection)
        if connection.connection is not None:
            return bool(connection.autocommit)
        return bool(type(connection).get_autocommit(connection))

    def cursor(self, name: str | None = None) -> Any:
        """Make a cursor as the connection's class does, once the job may use it."""
        connection: Any = self._connection()
        if connection.connection is not None:
            self._take_open(connection)
        return type(connection)._cursor(connection, name)

    def set_autocommit(self, autocommit: bool, *args: Any, **kwargs: Any) -> Any:
        """Begin or end a transaction, as the connection's class does."""
        connection: Any = self._connection()
        if not autocommit and connection.connection is not None:
            self._take_open(connection)
        return type(connection).set_autocommit(connection, autocommit, *args, **kwargs)

    def close(self) -> None:
        """Close as the connection's class does, and give the place back.

        If it is given up for others, one of them gets it as it is.
        """
        connection: Any = self._connection()
        with self.places.lock:
            # From now on it is not taken away.
            self._is_closing = True
        try:
            close_cursors(connection, only_postponed=is_pooled(connection))
            handed = self.part() if self._gives_up else None
            if handed is None or not self.places.hand_on(self, handed):
                type(connection)._close(connection)
        finally:
            self._is_closing = False
            self._user = None
            self._free()

    def detach(self) -> Callable[[], object] | None:
        """Give the connection up, in any thread; return what closes it."""
        connection: Any = self._connection()
        if connection is None or is_pooled(connection):
            # Django's pool must get its connections back, and leaves none open.
            return None
        self._user = None
        driver, connection.connection = connection.connection, None
        return partial(_close_driver, driver)

    def give_up(self) -> None:
        """Close the connection for another thread, or hand it on, if one waits for it.

        Called in its own thread.
        """
        connection: Any = self._connection()
        close_cursors(connection, only_postponed=True)
        with self.places.lock:
            if not self.places.has_use_for(self):
                # But perhaps for its view's share.
                self.places.end_use(self)
                return
            if self.part() is not None:
                self._gives_up = True
                try:
                    # The class may have something to forget.
                    connection.close()
                finally:
                    self._gives_up = False
                return
        if (
            connection.connection is not None
            and self._ongoing() is not None
            and is_pooled(connection)
            and can_reset(connection)
        ):
            # Django's pool gives it to another as it is.
            try:
                reset_session(connection, connection.connection)
            except Exception:
                logger.debug("A session could not be reset", exc_info=True)
                _close_driver(connection.connection)
        connection.close()

    def part(self) -> _Handed | None:
        """Return the connection for another thread; None if it must be closed."""
        connection: Any = self._connection()
        if (
            connection is None
            or connection.connection is None
            or connection.errors_occurred
            or connection.autocommit != connection.settings_dict["AUTOCOMMIT"]
            # The request goes on.
            or self._ongoing() is not None
            or has_postponed_cursors(connection)
            # Django's pool hands its connections on by itself.
            or is_pooled(connection)
        ):
            return None
        close_at = connection.close_at
        if close_at is not None and time.monotonic() >= close_at:
            return None
        return _Handed(connection.connection, close_at)

    def forget(self) -> None:
        """Leave the connection to the thread that has got it."""
        self._user = None
        connection: Any = self._connection()
        if connection is not None:
            connection.connection = None

    def is_idle(self) -> bool:
        """Whether there is a connection that could be closed, as far as one can see."""
        connection = self._connection()
        return (
            not self._is_closing
            and connection is not None
            and connection.connection is not None
            # Django ends a block before it commits.
            and connection.autocommit == connection.settings_dict["AUTOCOMMIT"]
            and not is_connection_in_use(connection)
        )

    def is_in_use(self) -> bool:
        """Whether the connection is in the middle of something."""
        connection = self._connection()
        return connection is not None and is_connection_in_use(connection)

    def accepts(self) -> bool:
        """Return whether a connection of another thread is of use to it."""
        connection: Any = self._connection()
        return (
            connection is not None
            and connection.connection is None
            and not self._has_lost()
        )

    def _ongoing(self) -> Lease | None:
        """Return what keeps the thread between its jobs, and may come back to it."""
        lease = self.worker.lease
        return lease if lease is not None and (lease.is_held or lease.is_kept) else None

    def _has_lost(self) -> bool:
        """Return whether the request has used another session, and not this one.

        What it had set there (a role, a search path, the user for row-level security)
        is not here. It then needs one that is new, and not what another user has set.
        """
        lease = self.worker.lease
        return (
            lease is not None
            and self.places.alias in lease.databases
            and (self._user is None or self._user() is not lease)
        )

    def _note_use(self) -> None:
        lease = self.worker.lease
        # Consumers share sessions with each other, as they share a thread under Daphne.
        if lease is not None and lease.group == REQUESTS:
            self._user = weakref.ref(lease)
            lease.databases |= {self.places.alias}

    def _make_own(self, connection: Any) -> None:
        """Undo in an open session what another request may have set.

        That is for one that goes on in another thread. What an earlier request has set
        is there for one that begins, as with Django's persistent connections.
        """
        if connection.connection is None:
            return
        # Django would not know its block again.
        has_lost = self._has_lost() and not connection.in_atomic_block
        self._note_use()
        if has_lost:
            renew(connection)
            if connection.connection is None:
                self._user = None

    def _take_open(self, connection: Any) -> None:
        """Return once the job may use the connection that the thread has.

        If it has lost that by then, it gets another's, or Django opens one.
        """
        if self._is_taken() or connection.closed_in_transaction:
            return
        handed = self._take()
        if handed is not None:
            adopt(connection, handed)
        self._make_own(connection)

    def _is_taken(self) -> bool:
        return self.used_at == self.worker.turn and self.places.has(self)

    def _take(self) -> Any:
        if self._is_taken():
            return None
        connection = self._connection()
        if connection is not None:
            close_cursors(connection, only_postponed=True)
        try:
            return self.places.take(self, _give_back)
        except PlaceError:
            raise OperationalError(
                f"No connection to the database {self.places.alias!r} has come free in "
                f"{self._bound.ledger.timeout:g} seconds: all {self.places.limit} that "
                "DATABASE_CONNECTIONS allows in this process are in use"
            ) from None

    def _pause(self, seconds: float) -> None:
        lease = self.worker.lease
        if lease is None:
            time.sleep(seconds)
            return
        lease.begin_waiting()
        try:
            time.sleep(seconds)
        finally:
            lease.end_waiting()

    def _free(self) -> None:
        # A forked child drops what other threads had, as soon as it begins. One of them
        # may have had the lock.
        if os.getpid() == self._bound.pid and self.places.has(self):
            self.places.give(self)


def adopt(connection: Any, handed: Any) -> bool:
    """Have a connection object take over what another thread has opened.

    Django sets it up as one that is new. False if it is not usable any more.
    """
    try:
        with _opens(connection, lambda _: handed.driver):
            type(connection).connect(connection)
        if not connection.health_check_enabled or connection.is_usable():
            connection.close_at = handed.close_at
            return True
    except Exception:
        logger.debug("A connection could not be handed on", exc_info=True)
    connection.connection = None
    _close_driver(handed.driver)
    return False


def renew(connection: Any) -> None:
    """Have a connection object forget what was set in its session, or close it."""
    driver, close_at = connection.connection, connection.close_at
    try:
        if not can_reset(connection):
            connection.close()
            return
        reset_session(connection, driver)
    except Exception:
        # The database may not be there any more.
        logger.debug("A session could not be reset", exc_info=True)
        connection.close()
    else:
        connection.connection = None
        adopt(connection, _Handed(driver, close_at))


def can_reset(connection: Any) -> bool:
    """Return whether ``reset_session`` can be called: PostgreSQL's, by psycopg 3.

    A backend that is not Django's may have to be told that its session is another.
    """
    return hasattr(connection, "_configure_connection") and not is_stateful(
        connection.settings_dict["ENGINE"]
    )


@contextmanager
def _opens(connection: Any, make: Callable[[Any], Any]) -> Iterator[None]:
    """Have a connection object get its driver's connection from ``make``."""
    own = vars(connection)
    before = own.get("get_new_connection")
    connection.get_new_connection = make
    try:
        yield
    finally:
        if before is None:
            del own["get_new_connection"]
        else:
            connection.get_new_connection = before


def _get_reset(connection: Any, parameters: Any) -> Any:
    driver = type(connection).get_new_connection(connection, parameters)
    try:
        reset_session(connection, driver)
    except BaseException:
        _close_driver(driver)
        connection.pool.putconn(driver)
        raise
    return driver


def reset_session(connection: Any, driver: Any) -> None:
    """Undo all that requests have set in a session of PostgreSQL.

    Django then sets it up as each one of its pool's (time zone, role). Prepared
    statements stay, since psycopg keeps a list of them, and cursors.
    """
    driver.rollback()
    driver.execute(RESET, prepare=False)
    connection._configure_connection(driver)
    driver.commit()


def _close_driver(driver: Any) -> None:
    try:
        driver.close()
    except Exception:
        logger.exception("A database connection could not be closed")


# DISCARD ALL without the prepared statements, and the cursors: who has one may still
# close it, and an error would end another's transaction.
RESET = (
    "RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL; UNLISTEN *; "
    "SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES"
)


def _give_back() -> None:
    """Give the connections of this thread up that others wait for, if it can do so."""
    for connection in connections.all(initialized_only=True):
        place: _Place | None = connection.__dict__.get("_djserve_place")
        if (
            place is not None
            and place.places.is_wanted
            and not is_connection_in_use(connection)
        ):
            place.give_up()
    worker = current_worker()
    bound = None if worker is None else _bounds.get(worker.pool)
    if worker is not None and not (bound is not None and bound.ledger.is_wanted):
        # Set again by the next that waits, every few moments.
        worker.pool.on_return = None


def is_refusal(error: BaseException) -> bool:
    """Return whether a database has refused a connection for having too many."""
    # PostgreSQL's driver has no code if the connection is not made; MySQL's has.
    if isinstance(error, Exception) and error.args and error.args[0] in MYSQL_CODES:
        return True
    return isinstance(error, Exception) and any(
        text in str(error) for text in POSTGRESQL_TEXTS
    )


def has_stateful_backend() -> bool:
    """Return whether connection objects of a database may know whose request it is.

    Those of a backend that is not Django's may: django-tenants notes the schema there,
    perhaps without a query, and no reset of a session changes it.
    """
    return any(
        is_stateful(database.get("ENGINE", ""))
        for database in connections.settings.values()
    )


def is_stateful(engine: str) -> bool:
    return not engine.startswith(("django.", *STATELESS_BACKENDS))


def is_pooled(connection: Any) -> bool:
    """Return whether Django has a pool for the connection's database."""
    return pool_size(connection.settings_dict) is not None


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

"""Which database connections of a thread are in the middle of something.

Django closes a connection between two pieces of work, or the thread that owns it goes
to another request. Neither may happen while rows are still being fetched through it,
or while it is inside a transaction.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from django.db import Error, close_old_connections, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

logger = logging.getLogger("djserve.handlers")

_CURSORS = "_djserve_cursors"
"""The attribute of a connection that holds its ``OpenCursors``."""

_here = threading.local()
"""``connections``: weak references to those that this thread has made.

A project may drop a connection, and Django makes some for a moment (``_nodb_cursor``).
"""

SWEEP = 16
"""References to cursors that may pile up before those of closed ones are dropped."""


class ServerCursor:
    """A cursor that PostgreSQL keeps and is asked for each row, and who may close it.

    psycopg closes it under its connection's lock, which a thread cannot take twice. One
    that a request has left in a cycle is closed by the garbage collector, at any moment
    in any thread: in the midst of another query on the connection, the thread would
    wait for itself, and the event loop for the query. So it is closed later then, by
    its connection's own thread. And the first to claim it closes it: what that thread
    closes at the end of a request, the collector leaves alone.
    """

    def __init__(self, cursor: Any, wrapper: Any) -> None:
        self._cursor = weakref.ref(cursor)
        self._postponed: Any = None
        self._claimed = threading.Lock()
        # A finalizer in the midst of a close may come here again, in the same thread.
        self._closing = threading.RLock()
        self._is_over = False
        # A backend may have its own way to close.
        if not hasattr(type(wrapper), "close"):
            wrapper.close = partial(self.close, cursor)

    def close(self, cursor: Any) -> None:
        """Close it, for who has made it; later, if its connection is busy."""
        if not self._closing.acquire(blocking=False):
            return
        try:
            if self.claim():
                self._close(cursor)
        finally:
            self._closing.release()

    def _close(self, cursor: Any) -> None:
        lock = getattr(cursor.connection, "lock", None)
        if lock is not None and lock.locked():
            self._postponed = cursor
            self._claimed.release()
            return
        try:
            cursor.close()
        finally:
            self._is_over = True

    def wait(self) -> None:
        """Return when no other thread is closing it."""
        with self._closing:
            pass

    def claim(self) -> bool:
        """Return True to the first who asks, who alone may close it."""
        return self._claimed.acquire(blocking=False)

    def end(self, driver: Any) -> None:
        """Close what has been claimed, if it is still one of this connection's."""
        cursor: Any = self._postponed or self._cursor()
        try:
            if _is_open(cursor) and cursor.connection is driver:
                cursor.close()
        except Exception:
            logger.debug("A cursor could not be closed", exc_info=True)
        finally:
            self._postponed = None
            self._is_over = True

    def is_open(self) -> bool:
        """Return whether somebody may draw from it, or is just closing it."""
        if self._is_over or self._postponed is not None:
            return False
        return self._claimed.locked() or _is_open(self._cursor())

    def is_postponed(self) -> bool:
        """Return whether it is to be closed by its connection's own thread."""
        return self._postponed is not None


class OpenCursors:
    """The cursors of one connection that may still have rows to give.

    A cursor counts while something refers to it: Django drops its own as soon as the
    rows are fetched, and a suspended generator keeps the one that it draws from. At the
    end of a request it may also be garbage that is still to be collected (``forget``).
    """

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        # Bound methods of the connection would make a cycle with it.
        self._connection = weakref.ref(connection)
        self._prepare: Callable[..., Any] = type(connection)._prepare_cursor  # type: ignore[attr-defined]
        self._cursors: list[weakref.ref[Any]] = []
        self._of_server: list[ServerCursor] = []

    def __call__(self, cursor: Any) -> Any:
        """Take the place of the connection's ``_prepare_cursor``."""
        if len(self._cursors) + len(self._of_server) >= SWEEP:
            self._sweep()
        wrapper = self._prepare(self._connection(), cursor)
        if getattr(cursor, "name", None) is not None:
            self._of_server.append(ServerCursor(cursor, wrapper))
            return wrapper
        try:
            reference = weakref.ref(cursor)
        except TypeError:
            # A driver's own type; what uses the cursor nearly always has the wrapper.
            reference = weakref.ref(wrapper)
        self._cursors.append(reference)
        return wrapper

    def __bool__(self) -> bool:
        """Return whether any is open."""
        # Another thread may ask: what the connection's own adds must not be lost.
        return any(_is_open(reference()) for reference in [*self._cursors]) or any(
            cursor.is_open() for cursor in [*self._of_server]
        )

    def forget(self) -> None:
        """Count those no more that have all their rows already."""
        self._cursors = []

    def end(self, *, only_postponed: bool = False) -> None:
        """Close those that the database keeps: all, or those that are to be closed.

        Called in the connection's own thread, while it has nothing else to do. Those
        that another thread is closing are waited for.
        """
        connection: Any = self._connection()
        # An error would end a transaction, with which they end themselves.
        if not self._of_server or (only_postponed and connection.in_atomic_block):
            return
        # All are claimed before one is closed: while that has the connection's lock,
        # the collector may come to another.
        claimed = [
            cursor
            for cursor in self._of_server
            if (cursor.is_postponed() or not only_postponed) and cursor.claim()
        ]
        for cursor in claimed:
            cursor.end(connection.connection)
        for cursor in self._of_server:
            cursor.wait()
        self._drop_closed()

    def has_postponed(self) -> bool:
        """Return whether any are still to be closed."""
        return any(cursor.is_postponed() for cursor in [*self._of_server])

    def _sweep(self) -> None:
        self._cursors = [
            reference for reference in self._cursors if _is_open(reference())
        ]
        self._drop_closed()

    def _drop_closed(self) -> None:
        self._of_server = [
            cursor
            for cursor in self._of_server
            if cursor.is_open() or cursor.is_postponed()
        ]


def _is_open(cursor: Any) -> bool:
    # SQLite's cursors do not say whether they are closed. MySQL's have no connection
    # then, and psycopg's say so.
    return (
        cursor is not None
        and not getattr(cursor, "closed", False)
        and getattr(cursor, "connection", cursor) is not None
    )


def track_cursors() -> None:
    """Have the cursors tracked of each connection that is made from now on."""
    connection_created.connect(_track, dispatch_uid=_CURSORS)


def _track(connection: Any, **kwargs: Any) -> None:
    if _CURSORS not in connection.__dict__:
        cursors = OpenCursors(connection)
        connection.__dict__[_CURSORS] = cursors
        # On the instance: the class stays as Django has made it.
        connection._prepare_cursor = cursors
        made = _here.__dict__.setdefault("connections", [])
        made.append(weakref.ref(connection, made.remove))


def untrack(connection: Any) -> None:
    """Leave a connection's cursors to Django: this is a forked child.

    A thread that does not exist there may have been closing one.
    """
    if connection.__dict__.pop(_CURSORS, None) is not None:
        del connection._prepare_cursor


def _own_connections() -> list[Any]:
    """Return the connections that this thread has made, without Django's look-ups.

    Those take 2 us for each database.
    """
    # A copy: a collection of garbage may take some out at any moment.
    made = [*_here.__dict__.get("connections", ())]
    return [found for reference in made if (found := reference()) is not None]


def reset_debugging() -> None:
    """Undo in this thread that somebody had queries recorded, and left it so.

    What was recorded goes too: the next one here works for another user.
    """
    for connection in _own_connections():
        if connection.force_debug_cursor:
            connection.force_debug_cursor = False
            connection.queries_log.clear()


def end_forgotten_transactions(*, closes_cursors: bool = False) -> None:
    """Roll back in this thread what a request has begun and never ended.

    Called when the request is over. Django closes such a connection and waits for the
    end of the block before it makes another; that never comes, and every later request
    of this thread that asks the database would fail. Cursors that the request has left
    open do not keep the connection from others any more. ``closes_cursors`` is for a
    request of which nothing can run on that draws from one.
    """
    for connection in _own_connections():
        cursors = connection.__dict__.get(_CURSORS)
        if cursors is not None:
            cursors.end(only_postponed=not closes_cursors)
            cursors.forget()
        if connection.in_atomic_block and not connection.allow_thread_sharing:
            logger.error(
                "A request has left a transaction of the database %r open; it is "
                "rolled back",
                connection.alias,
            )
            _abandon_transaction(connection)


def _abandon_transaction(connection: Any) -> None:
    was_closed = connection.closed_in_transaction
    connection.in_atomic_block = connection.needs_rollback = False
    connection.closed_in_transaction = False
    connection.savepoint_ids.clear()
    connection.atomic_blocks.clear()
    connection.run_on_commit.clear()
    if was_closed:
        # Django has, and waits for the end of the block to make another.
        connection.connection = None
        return
    try:
        connection.rollback()
    except Error:
        logger.debug("A connection could not be rolled back", exc_info=True)
    finally:
        connection.close()
    if connection.connection is not None:
        # A database of SQLite in memory is never closed.
        connection.set_autocommit(connection.settings_dict["AUTOCOMMIT"])


def tidy_connections() -> None:
    """Leave this thread's connections as the next one expects them."""
    end_forgotten_transactions()
    close_old_connections()
    reset_debugging()


def is_database_in_use() -> bool:
    """Whether a connection of this thread has open cursors, or is in a transaction."""
    return any(map(is_connection_in_use, connections.all(initialized_only=True)))


def close_unused_connections() -> None:
    """Close this thread's old connections, save those that are in use."""
    for connection in connections.all(initialized_only=True):
        if not is_connection_in_use(connection):
            connection.close_if_unusable_or_obsolete()


def close_cursors(connection: Any, *, only_postponed: bool = False) -> None:
    """Close what the database keeps of a connection that is to be closed itself.

    The event loop may be about to close such a cursor: of an asynchronous generator
    that a client has left, Python ends the synchronous one inside there. psycopg has a
    lock for that, which its ``Connection.close`` does not take. The loop would then
    wait for an answer on a descriptor that is closed, or another connection's by now.
    Other cursors still give the rows that they have, as under other servers.
    ``only_postponed``: those that could not be closed when they should.
    """
    cursors = connection.__dict__.get(_CURSORS)
    if cursors is not None:
        cursors.end(only_postponed=only_postponed)


def has_postponed_cursors(connection: Any) -> bool:
    """Whether cursors are still to be closed, by the connection's own thread."""
    cursors = connection.__dict__.get(_CURSORS)
    return cursors is not None and cursors.has_postponed()


def is_connection_in_use(connection: Any) -> bool:
    """Whether a connection has open cursors, or is inside a transaction.

    Any thread may ask, but only its own gets an answer that it can rely on.
    """
    if connection.connection is None:
        return False
    # Django takes one that is left without autocommit for forgotten, and closes it.
    return connection.in_atomic_block or bool(connection.__dict__.get(_CURSORS))

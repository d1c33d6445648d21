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
    its connection's own thread. And the first to claim it closes it: what is closed by
    that thread already, the collector leaves alone.
    """

    def __init__(self, cursor: Any, wrapper: Any) -> None:
        self._cursor = cursor
        # The collector clears this before it ends a generator that draws rows.
        self._wrapper = weakref.ref(wrapper)
        self._claimed = threading.Lock()
        self._is_postponed = False
        self._is_over = False
        wrapper.close = self.close

    def close(self) -> None:
        """Close it, for who has made it; later, if its connection is busy."""
        if not self.claim():
            return
        lock = getattr(self._cursor.connection, "lock", None)
        if lock is not None and lock.locked():
            self._is_postponed = True
            self._claimed.release()
            return
        try:
            self._cursor.close()
        finally:
            self._is_over = True

    def claim(self) -> bool:
        """Return True to the first who asks, who alone may close it."""
        return self._claimed.acquire(blocking=False)

    def end(self, driver: Any) -> None:
        """Close what has been claimed, if it is still one of this connection's."""
        try:
            if self._cursor.connection is driver:
                self._cursor.close()
        except Exception:
            logger.debug("A cursor could not be closed", exc_info=True)
        finally:
            self._is_over = True

    def give_up(self) -> bool:
        """Have it closed with its connection; False if it is just being closed."""
        if self.claim():
            self._is_over = True
        return self.is_over()

    def is_open(self) -> bool:
        """Return whether somebody may draw from it, or is just closing it."""
        if self.is_over():
            return False
        has_user = self._wrapper() is not None and not self._is_postponed
        return has_user or self._claimed.locked()

    def is_left(self) -> bool:
        """Return whether no one draws from it any more, nor has begun to close it."""
        return not (self.is_over() or self.is_open())

    def is_over(self) -> bool:
        """Return whether it has been closed."""
        return self._is_over or not _is_open(self._cursor)


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

    def end(self, *, only_left: bool = False) -> None:
        """Close those that the database keeps: all, or those that are garbage.

        Called in the connection's own thread, while it has nothing else to do.
        """
        if not self._of_server:
            return
        # All are claimed before one is closed: while that has the connection's lock,
        # the collector may come to another.
        claimed = [
            cursor
            for cursor in self._of_server
            if (cursor.is_left() if only_left else not cursor.is_over())
            and cursor.claim()
        ]
        connection: Any = self._connection()
        for cursor in claimed:
            cursor.end(connection.connection)
        self._of_server = [each for each in self._of_server if not each.is_over()]

    def has_left(self) -> bool:
        """Return whether the database keeps any that are garbage."""
        return any(cursor.is_left() for cursor in [*self._of_server])

    def give_up(self) -> bool:
        """Have all closed with the connection; False if one is just being closed."""
        given_up = [cursor.give_up() for cursor in [*self._of_server]]
        return all(given_up)

    def _sweep(self) -> None:
        self._cursors = [
            reference for reference in self._cursors if _is_open(reference())
        ]
        self._of_server = [each for each in self._of_server if not each.is_over()]


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
            cursors.end(only_left=not closes_cursors)
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


def close_cursors(connection: Any, *, only_left: bool = False) -> None:
    """Close what the database keeps of a connection that is to be closed itself.

    The event loop may be about to close such a cursor: of an asynchronous generator
    that a client has left, Python ends the synchronous one inside there. psycopg has a
    lock for that, which its ``Connection.close`` does not take. The loop would then
    wait for an answer on a descriptor that is closed, or another connection's by now.
    Other cursors still give the rows that they have, as under other servers.
    ``only_left``: those that are garbage, since the connection goes on.
    """
    cursors = connection.__dict__.get(_CURSORS)
    if cursors is not None:
        cursors.end(only_left=only_left)


def has_left_cursors(connection: Any) -> bool:
    """Whether cursors that are garbage are open, to be closed in its own thread."""
    cursors = connection.__dict__.get(_CURSORS)
    return cursors is not None and cursors.has_left()


def give_up_cursors(connection: Any) -> bool:
    """Have none closed any more of a connection that is closed, in any thread.

    Return False if one is being closed now.
    """
    cursors = connection.__dict__.get(_CURSORS)
    return cursors is None or cursors.give_up()


def is_connection_in_use(connection: Any) -> bool:
    """Whether a connection has open cursors, or is inside a transaction.

    Any thread may ask, but only its own gets an answer that it can rely on.
    """
    if connection.connection is None:
        return False
    # Django takes one that is left without autocommit for forgotten, and closes it.
    return connection.in_atomic_block or bool(connection.__dict__.get(_CURSORS))

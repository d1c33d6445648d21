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

    def __call__(self, cursor: Any) -> Any:
        """Take the place of the connection's ``_prepare_cursor``."""
        if len(self._cursors) >= SWEEP:
            self._sweep()
        wrapper = self._prepare(self._connection(), cursor)
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
        return any(_is_open(reference()) for reference in [*self._cursors])

    def forget(self) -> None:
        """Count those no more that have all their rows already."""
        if self._cursors:
            self._cursors = [
                reference
                for reference in self._cursors
                if _is_in_database(cursor := reference()) and _is_open(cursor)
            ]

    def close(self) -> None:
        """Close those that the database keeps."""
        connection: Any = self._connection()
        for reference in [*self._cursors]:
            cursor = reference()
            if (
                cursor is not None
                and _is_in_database(cursor)
                and _is_open(cursor)
                # Otherwise its connection is another's by now, or closed.
                and getattr(cursor, "connection", None) is connection.connection
            ):
                try:
                    cursor.close()
                except Exception:
                    logger.debug("A cursor could not be closed", exc_info=True)

    def _sweep(self) -> None:
        self._cursors = [
            reference for reference in self._cursors if _is_open(reference())
        ]


def _is_open(cursor: Any) -> bool:
    # SQLite's cursors do not say whether they are closed. MySQL's have no connection
    # then, and psycopg's say so.
    return (
        cursor is not None
        and not getattr(cursor, "closed", False)
        and getattr(cursor, "connection", cursor) is not None
    )


def _is_in_database(cursor: Any) -> bool:
    """Whether a cursor is one of PostgreSQL's, which is asked for each row."""
    return getattr(cursor, "name", None) is not None


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
            if closes_cursors:
                cursors.close()
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


def close_cursors(connection: Any) -> None:
    """Close what the database keeps of a connection that is to be closed itself.

    The event loop may be about to close such a cursor: of an asynchronous generator
    that a client has left, Python ends the synchronous one inside there. psycopg has a
    lock for that, which its ``Connection.close`` does not take. The loop would then
    wait for an answer on a descriptor that is closed, or another connection's by now.
    Other cursors still give the rows that they have, as under other servers.
    """
    cursors = connection.__dict__.get(_CURSORS)
    if cursors is not None:
        cursors.close()


def is_connection_in_use(connection: Any) -> bool:
    """Whether a connection has open cursors, or is inside a transaction.

    Any thread may ask, but only its own gets an answer that it can rely on.
    """
    if connection.connection is None:
        return False
    # Django takes one that is left without autocommit for forgotten, and closes it.
    return connection.in_atomic_block or bool(connection.__dict__.get(_CURSORS))

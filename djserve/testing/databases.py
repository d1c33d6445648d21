"""One database connection for all threads: SQLite in memory, tested and served.

Django gives each thread its own connections, and its live-server test case puts the
test's into the one thread that it starts. Synchronous code under ASGI runs in threads
that is unknown beforehand, so here the lookup itself is changed, for as long as the
server runs; no thread keeps anything afterwards.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.db import connections

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from django.db.backends.base.base import BaseDatabaseWrapper


def find_memory_connections() -> dict[str, BaseDatabaseWrapper]:
    """Return this thread's connections to databases that live in memory."""
    return {
        connection.alias: connection
        for connection in connections.all()
        if connection.vendor == "sqlite" and _is_in_memory(connection)
    }


@contextmanager
def shared_connections(shared: Mapping[str, BaseDatabaseWrapper]) -> Iterator[None]:
    """Let every thread find these connections under their aliases."""
    if not shared:
        yield
        return
    for connection in shared.values():
        connection.inc_thread_sharing()
    handler: Any = connections
    before = handler._connections
    handler._connections = _SharedFirst(shared, before)
    try:
        yield
    finally:
        handler._connections = before
        for connection in shared.values():
            connection.dec_thread_sharing()


class _SharedFirst:
    """Stands where Django keeps each thread's connections, as attributes by alias."""

    def __init__(self, shared: Mapping[str, object], own: object) -> None:
        self.__dict__.update(_shared=shared, _own=own)

    def __getattr__(self, alias: str) -> Any:
        shared: Mapping[str, object] = self.__dict__["_shared"]
        if alias in shared:
            return shared[alias]
        return getattr(self.__dict__["_own"], alias)

    def __setattr__(self, alias: str, connection: object) -> None:
        setattr(self.__dict__["_own"], alias, connection)

    def __delattr__(self, alias: str) -> None:
        delattr(self.__dict__["_own"], alias)


def _is_in_memory(connection: Any) -> bool:
    is_in_memory: bool = connection.is_in_memory_db()
    return is_in_memory

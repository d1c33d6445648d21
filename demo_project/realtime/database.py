"""Transactions that write, in an orderly queue where the database has none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction

_turn = threading.Lock()


@contextmanager
def writing() -> Iterator[None]:
    """Open a transaction that writes.

    SQLite lets in one writer at a time. The others ask again after pauses of up to
    100 ms, and whoever is lucky comes first; the threads of this process wait for each
    other instead, and are woken in turn. PostgreSQL queues by itself, row by row.
    """
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        with transaction.atomic():
            yield
        return
    with _turn, transaction.atomic():
        yield

from __future__ import annotations

import threading

import pytest
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper

from demo_project.chat.models import Room
from demo_project.realtime import database
from demo_project.realtime.database import writing


def test_writing_is_a_transaction() -> None:
    with pytest.raises(RuntimeError), writing():
        Room.objects.create(name="Hall", slug="hall")
        raise RuntimeError

    assert not Room.objects.exists()


def test_writing_inside_writing_joins_it() -> None:
    with writing(), writing():
        Room.objects.create(name="Hall", slug="hall")

    assert Room.objects.exists()


@pytest.mark.skipif(connection.vendor != "sqlite", reason="only SQLite needs a queue")
def test_second_writer_of_the_process_waits_for_the_first() -> None:
    entered = threading.Event()

    def write() -> None:
        with writing():
            entered.set()
        # Its own close() leaves a database in memory open.
        BaseDatabaseWrapper.close(connection)

    second = threading.Thread(target=write)
    with writing():
        second.start()
        assert database._turn.locked()
        assert not entered.is_set()
    second.join(60)

    assert entered.is_set()
    assert not database._turn.locked()

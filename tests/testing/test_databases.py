"""Connections shared between threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth.models import User
from django.db import connection, connections

from djserve.testing.databases import find_memory_connections, shared_connections

pytestmark = pytest.mark.django_db(transaction=True)


def in_thread(function: object) -> object:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()  # type: ignore[arg-type]


def own_connection() -> object:
    found = connections["default"]
    found.close()
    return found


def test_databases_in_memory_are_found() -> None:
    assert find_memory_connections() == {"default": connections["default"]}


def test_every_thread_has_the_shared_connection() -> None:
    with shared_connections(find_memory_connections()):
        assert in_thread(lambda: connections["default"]) is connections["default"]


def test_rows_are_seen_across_threads() -> None:
    User.objects.create(username="anna")
    with shared_connections(find_memory_connections()):
        in_thread(lambda: User.objects.create(username="ben"))
        assert in_thread(User.objects.count) == 2

    assert User.objects.count() == 2


def test_threads_have_their_own_connections_afterwards() -> None:
    with ThreadPoolExecutor(1) as pool:
        with shared_connections(find_memory_connections()):
            shared = pool.submit(lambda: connections["default"]).result()
        own = pool.submit(own_connection).result()

    assert shared is connections["default"]
    assert own is not shared


def test_sharing_ends_with_the_block() -> None:
    allowed = connection.allow_thread_sharing
    with shared_connections(find_memory_connections()):
        assert connection.allow_thread_sharing

    assert connection.allow_thread_sharing == allowed


def test_other_aliases_are_left_to_each_thread() -> None:
    with shared_connections({"another": connections["default"]}):
        assert in_thread(own_connection) is not connections["default"]
        assert connections["another"] is connections["default"]


def test_a_connection_can_be_put_and_removed_meanwhile() -> None:
    with shared_connections({"another": connections["default"]}):
        connections["third"] = connections["default"]
        assert connections["third"] is connections["default"]
        del connections["third"]


def test_nothing_shared_changes_nothing() -> None:
    with shared_connections({}):
        assert in_thread(own_connection) is not connections["default"]

"""Pools of database connections beside the number of threads."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connections
from django.test import override_settings

from djserve.checks.database import check_database_pools


def check(
    pool: Any, threads: int, monkeypatch: pytest.MonkeyPatch, **more: Any
) -> list[Any]:
    database = {**connections.settings["default"], "OPTIONS": {"pool": pool}}
    monkeypatch.setitem(connections.settings, "default", database)
    with override_settings(DJSERVE={"THREADS": threads, **more}):
        return check_database_pools(None)


@pytest.mark.parametrize(
    ("pool", "threads", "ids"),
    [
        (None, 8, []),
        (False, 8, []),
        (True, 4, []),
        (True, 5, ["djserve.W007"]),
        ({"max_size": 8}, 8, []),
        ({"max_size": 7}, 8, ["djserve.W007"]),
        ({"min_size": 9}, 8, []),
        ({"min_size": 2, "max_size": None}, 3, ["djserve.W007"]),
    ],
)
def test_pool_must_not_be_smaller_than_the_number_of_threads(
    pool: Any, threads: int, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [message.id for message in check(pool, threads, monkeypatch)] == ids


def test_warning_names_the_database_and_both_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (message,) = check({"max_size": 2}, 8, monkeypatch)

    assert message.msg == (
        "The connection pool of database 'default' has 2 connections: of the 8 threads "
        "that compute, no more are connected to it at a time, and the others wait."
    )
    assert 'Raise "max_size" in OPTIONS["pool"] to 8,' in message.hint


@pytest.mark.parametrize(
    ("most", "ids"),
    [(2, []), (1, []), (3, ["djserve.W007"]), (100, ["djserve.W007"])],
)
def test_pool_as_large_as_the_bound_on_connections_is_meant(
    most: int, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = check({"max_size": 2}, 8, monkeypatch, DATABASE_CONNECTIONS=most)

    assert [message.id for message in found] == ids


def test_wrong_settings_are_left_to_their_own_check() -> None:
    with override_settings(DJSERVE={"THREADS": "many"}):
        assert check_database_pools(None) == []

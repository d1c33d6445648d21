"""Tests of benchmarks/transfers.py."""

from __future__ import annotations

from itertools import chain, count, repeat

from benchmarks.transfers import wait_until_steady


def test_size_that_rises_is_waited_for() -> None:
    sizes = chain(range(5), repeat(5))
    wait_until_steady(lambda: next(sizes), seconds=0.1, limit=60)
    assert next(sizes) == 5


def test_size_that_falls_is_steady() -> None:
    falling = count(100, -1)
    wait_until_steady(lambda: next(falling), seconds=0.1, limit=60)
    assert next(falling) < 99


def test_size_that_never_stands_still_is_waited_for_no_longer_than_the_limit() -> None:
    rising = count()
    wait_until_steady(lambda: next(rising), seconds=60, limit=0.1)
    assert next(rising) > 1

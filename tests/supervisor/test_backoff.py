"""Delays before a worker is started again."""

from __future__ import annotations

import pytest

from djserve.supervisor.backoff import LONGEST_DELAY, STORM_COUNT, Backoff


def test_worker_that_has_served_is_replaced_at_once() -> None:
    backoff = Backoff()

    assert backoff.worker_ended(served=2, now=100) == 0
    assert backoff.wait(now=100) == 0


def test_delay_doubles_with_each_short_life() -> None:
    backoff = Backoff()

    assert [backoff.worker_ended(0, now) for now in range(4)] == [0.5, 1, 2, 4]
    assert backoff.wait(now=5) == pytest.approx(2)


def test_delay_has_an_upper_bound() -> None:
    backoff = Backoff()
    delays = [backoff.worker_ended(0, 0) for _ in range(20)]

    assert max(delays) == LONGEST_DELAY


def test_many_short_lives_are_a_storm_until_a_worker_serves() -> None:
    backoff = Backoff()
    for _ in range(STORM_COUNT):
        backoff.worker_ended(0, 0)
    assert backoff.is_storm
    backoff.worker_ended(served=60, now=0)

    assert not backoff.is_storm


def test_new_code_starts_without_a_delay() -> None:
    backoff = Backoff()
    backoff.worker_ended(0, 0)
    backoff.reset()

    assert backoff.wait(0) == 0

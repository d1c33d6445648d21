"""The token bucket."""

from __future__ import annotations

from demo_project.realtime.limits import TokenBucket


def test_burst_is_allowed_and_then_the_rate() -> None:
    now = 0.0
    bucket = TokenBucket(burst=3, rate=2, clock=lambda: now)

    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    now = 0.5
    assert [bucket.take() for _ in range(2)] == [True, False]


def test_long_pause_gains_no_more_than_the_burst() -> None:
    now = 0.0
    bucket = TokenBucket(burst=2, rate=1, clock=lambda: now)
    now = 1000.0

    assert [bucket.take() for _ in range(3)] == [True, True, False]

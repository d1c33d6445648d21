"""The token bucket."""

from __future__ import annotations

from demo_project.realtime.limits import SharedBuckets, TokenBucket


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


def test_bucket_is_full_until_it_is_used_and_when_it_is_filled_again() -> None:
    now = 0.0
    bucket = TokenBucket(burst=2, rate=1, clock=lambda: now)
    states = [bucket.is_full]
    bucket.take()
    states.append(bucket.is_full)
    now = 1.0
    states.append(bucket.is_full)

    assert states == [True, False, True]


def test_each_has_a_share_of_their_own() -> None:
    buckets = SharedBuckets(burst=2, rate=0)

    assert [buckets.take("ana") for _ in range(3)] == [True, True, False]
    assert buckets.take("ben")
    assert not buckets.take("ana")


def test_few_are_kept_of_those_that_are_full_again() -> None:
    # So fast that each is full again at once.
    buckets = SharedBuckets(burst=1, rate=1e12, keep=3)
    for number in range(10):
        assert buckets.take(number)

    assert len(buckets) <= 3


def test_those_in_use_are_not_forgotten() -> None:
    buckets = SharedBuckets(burst=1, rate=0, keep=3)
    for number in range(10):
        assert buckets.take(number)

    assert not any(buckets.take(number) for number in range(10))

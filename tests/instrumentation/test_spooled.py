"""The account of temporary files."""

from __future__ import annotations

from djserve.instrumentation.spooled import (
    claim,
    count_refusals,
    note_refusal,
    release,
    spooled_size,
)


def test_space_is_claimed_up_to_the_limit_and_released() -> None:
    assert claim(60, 100)
    assert not claim(41, 100)
    assert claim(40, 100)
    assert spooled_size() == 100

    release(100)
    assert spooled_size() == 0


def test_without_a_limit_all_is_claimed() -> None:
    assert claim(1 << 60, None)
    release(1 << 60)

    assert spooled_size() == 0


def test_refusals_are_counted_by_status() -> None:
    before = count_refusals(408), count_refusals(503)
    note_refusal(408)

    assert (count_refusals(408), count_refusals(503)) == (before[0] + 1, before[1])

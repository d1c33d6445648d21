"""The account of temporary files."""

from __future__ import annotations

from djserve.instrumentation.spooled import claim, release, spooled_size


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

from __future__ import annotations

import re

from djserve.channels.options import capacity_finder


def test_capacity_is_that_of_the_first_pattern_that_matches() -> None:
    patterns = [(re.compile("a.*"), 1), (re.compile("ab.*"), 2)]
    capacity = capacity_finder(100, patterns)

    assert [capacity(name) for name in ("abc", "b", "xab")] == [1, 100, 100]


def test_capacity_without_patterns_is_that_of_all() -> None:
    assert capacity_finder(100, [])("any") == 100

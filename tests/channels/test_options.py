from __future__ import annotations

import re
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from djserve.channels import HostChannelLayer
from djserve.channels.options import capacity_finder


def test_capacity_is_that_of_the_first_pattern_that_matches() -> None:
    patterns = [(re.compile("a.*"), 1), (re.compile("ab.*"), 2)]
    capacity = capacity_finder(100, patterns)

    assert [capacity(name) for name in ("abc", "b", "xab")] == [1, 100, 100]


def test_capacity_without_patterns_is_that_of_all() -> None:
    assert capacity_finder(100, [])("any") == 100


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("expiry", None, "'expiry' is None; expected seconds"),
        ("expiry", 0, "'expiry' is 0; expected seconds"),
        ("expiry", float("nan"), "'expiry' is nan; expected seconds"),
        ("group_expiry", "86400", "'group_expiry' is '86400'; expected seconds"),
        ("group_expiry", True, "'group_expiry' is True; expected seconds"),
        ("capacity", "100", "'capacity' is '100'; expected a whole number from 1"),
        ("capacity", 0, "'capacity' is 0; expected a whole number from 1"),
        ("peer_buffer", 8e6, "'peer_buffer' is 8000000.0; expected a whole number"),
        ("channel_capacity", [("a", 1)], "'channel_capacity' is \\[.*a dictionary"),
        ("channel_capacity", {"a*": "x"}, "channel_capacity\\['a\\*'\\]' is 'x'; exp"),
        ("prefix", "", "'prefix' is ''; expected up to 32 letters"),
        ("prefix", "a/b", "'prefix' is 'a/b'; expected up to 32 letters"),
    ],
)
def test_value_that_cannot_be_used_is_refused(key: str, value: Any, told: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=told):
        HostChannelLayer(**{key: value})


def test_values_of_every_kind_are_taken() -> None:
    pattern = re.compile(r"^websocket\.")
    HostChannelLayer(
        expiry=0.5,
        group_expiry=float("inf"),
        capacity=1,
        channel_capacity={"http.request": 200, pattern: 20},
        peer_buffer=1,
    )

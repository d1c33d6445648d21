"""What a layer's node is configured with."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ImproperlyConfigured

_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of one layer; call ``folder`` and ``capacity`` for their values."""

    expiry: float
    group_expiry: float
    peer_limit: int
    folder: Callable[[], str]
    capacity: Callable[[str], int]


def capacity_finder(
    capacity: int, patterns: list[tuple[re.Pattern[str], int]]
) -> Callable[[str], int]:
    """Return the function that gives a channel's capacity.

    Not the layer's own: what the node keeps must not keep the layer.
    """
    if not patterns:
        return lambda channel: capacity

    def find(channel: str) -> int:
        for pattern, number in patterns:
            if pattern.match(channel):
                return number
        return capacity

    return find


def check_options(options: Mapping[str, Any]) -> None:
    """Raise ImproperlyConfigured for the first value that is not what it should be.

    They come from ``CONFIG``; unchecked, a bad one would fail at the first message.
    """
    for key in ("expiry", "group_expiry"):
        value = options[key]
        if not _is_number(value, int | float) or not value > 0:
            _refuse(key, value, "seconds as a number above 0")
    for key in ("capacity", "peer_buffer"):
        _check_whole(key, options[key])
    capacities = options["channel_capacity"]
    if capacities is not None and not isinstance(capacities, Mapping):
        _refuse("channel_capacity", capacities, "a dictionary of patterns and numbers")
    for pattern, number in (capacities or {}).items():
        _check_whole(f"channel_capacity[{pattern!r}]", number)
    if not _PREFIX.fullmatch(str(options["prefix"])):
        expected = "up to 32 letters, digits, hyphens and underscores"
        _refuse("prefix", options["prefix"], expected)


def _is_number(value: object, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _check_whole(key: str, value: Any) -> None:
    if not _is_number(value, int) or value < 1:
        _refuse(key, value, "a whole number from 1 up")


def _refuse(key: str, value: object, expected: str) -> None:
    raise ImproperlyConfigured(
        f"The channel layer's '{key}' is {value!r}; expected {expected}."
    )

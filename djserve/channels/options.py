"""What a layer's node is configured with."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of one layer; ``folder`` and ``capacity`` are asked when needed."""

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

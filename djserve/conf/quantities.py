"""Durations and sizes with their units: ``30s``, ``5m``, ``64KiB``."""

from __future__ import annotations

import re

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?) *([A-Za-z]+)")

SECONDS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
"""Seconds of each unit of time."""

BYTES = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "k": 2**10,
    "m": 2**20,
    "g": 2**30,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
}
"""Bytes of each unit of size, in small letters: K, M and G as in nginx."""


def has_unit(text: str) -> bool:
    """Return whether a text is a number with letters after it."""
    return _QUANTITY.fullmatch(text.strip()) is not None


def parse_duration(text: str) -> float:
    """Return a duration in seconds. Raises ValueError for any other text."""
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        return float(text)
    unit = SECONDS.get(match[2])
    if unit is None:
        raise ValueError(match[2])
    return float(match[1]) * unit


def parse_size(text: str) -> int:
    """Return a size in bytes. Raises ValueError for any other text."""
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        return int(text)
    unit = BYTES.get(match[2].lower())
    if unit is None:
        raise ValueError(match[2])
    size = float(match[1]) * unit
    if not size.is_integer():
        raise ValueError(text)
    return int(size)

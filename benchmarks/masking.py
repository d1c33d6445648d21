"""How long the two ways to unmask take: an integer, and Autobahn's native code."""

from __future__ import annotations

import sys
import timeit

_THRESHOLDS = {"integer": sys.maxsize, "native": 0}
METHODS = tuple(_THRESHOLDS)


def measure(method: str, size: int) -> float:
    """Return the nanoseconds that one way takes for a payload: the best of several."""
    # Only here: the list of scenarios must not need djserve's requirements.
    from djserve.protocols.websocket import masking

    key, payload = b"\x12\x34\x56\x78", b"benchmark " * (size // 10 + 1)
    payload = payload[:size]
    usual = masking.NATIVE_FROM
    masking.NATIVE_FROM = _THRESHOLDS[method]
    try:
        timer = timeit.Timer(lambda: masking.unmask(key, payload, 0, size))
        number = max(100, 2_000_000 // (size + 200))
        return min(timer.repeat(repeat=5, number=number)) / number * 1e9
    finally:
        masking.NATIVE_FROM = usual
